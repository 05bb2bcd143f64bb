"""Bodies of a mebibyte and of a hundred, down and up: throughput, CPU, and whether memory stays flat."""
import subprocess, time

import nginx
from keepalive import gate
from load import pinned, wrk
from machine import give_up, program
from rounds import Case, interleave

MIB = 1 << 20
CONNECTIONS = 8
AT_ONCE = 2  # transfers of large bodies
FIGURES = [("per_second", "MiB/s"), ("cpu_micros", "CPU µs/MiB"), ("busy", "proxy's CPUs busy"), ("peak", "memory at most, MiB"),
           ("growth", "grown by, MiB")]


def bodies(bench):
    if not program("curl"):
        give_up("curl is missing; on Debian: apt install curl")
    base, gateway = nginx.proxy(bench, "nginx"), gate(bench, "open", auth="none")
    tables = []
    large = bench.args.large / MIB
    for title, transfer in (("1 MiB down", small_down), ("1 MiB up", small_up),
                            (f"{large:.0f} MiB down", large_down(bench)), (f"{large:.0f} MiB up", large_up(bench))):
        cases = [Case(name, process, lambda seconds, port=process.port, transfer=transfer: transfer(port, seconds))
                 for name, process in (("nginx, no auth", base), ("portcullis, no auth", gateway))]
        table = interleave(bench, f"bodies of {title}, ratio of throughput (more is better)", cases, FIGURES, moved)
        tables.append(table)
    tables[0].notes.append("Load and service share a core and are what limits throughput when the proxy is not busy: compare CPU too.")
    return tables


def moved(case, seconds):
    resident = case.process.memory()
    case.process.forget_peak()
    before, began = case.process.cpu_seconds(), time.monotonic()
    mebibytes = case.load(seconds)
    spent, passed = case.process.cpu_seconds() - before, time.monotonic() - began
    peak = case.process.memory("VmHWM")
    return {"per_second": mebibytes / passed, "cpu_micros": spent / mebibytes * 1e6, "busy": spent / passed, "peak": peak / MIB,
            "growth": max(0, peak - resident) / MIB}


def small_down(port, seconds):
    return wrk(port, seconds, path="/files/small", connections=CONNECTIONS, expect=bytes(MIB))["requests"]


def small_up(port, seconds):
    return wrk(port, seconds, path="/sink", body_bytes=MIB, connections=CONNECTIONS, expect=b"read")["requests"]


def large_down(bench):
    return lambda port, seconds: transfers(bench, port, seconds, "/files/large", [], "%{size_download}", bench.args.large)


def large_up(bench):
    file = bench.folder / "service/files/large"
    return lambda port, seconds: transfers(bench, port, seconds, "/sink", ["-T", file, "-H", "Expect:"], "%{size_upload}", bench.args.large)


def transfers(bench, port, seconds, path, more, counted, size):
    """Large bodies, a few at once, until the time is up; answers how many mebibytes."""
    command = [*pinned(), "curl", "-s", "-o", "/dev/null", "-w", "%{http_code} " + counted, *more, f"http://127.0.0.1:{port}{path}"]
    until, done = time.monotonic() + seconds, 0
    while done == 0 or time.monotonic() < until:
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(AT_ONCE)]
        for said in [client.communicate(timeout=300)[0] for client in running]:
            if said != f"200 {size}":
                give_up(f"a body of {size} bytes on port {port}{path} was answered {said!r}")
            done += 1
    return done * size / MIB
