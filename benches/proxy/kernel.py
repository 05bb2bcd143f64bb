"""Counts that repeat better than times: system calls and instructions of a request."""
import pathlib, re, shutil, signal, subprocess, sys, tempfile, time

import nginx
from gateway import Gateway, filled_store
from keepalive import gate, load
from load import CONNECTIONS
from machine import HERE, give_up, program
from rounds import Case, Table, warm

CALLS_SHOWN = 8
# What callgrind runs is fifty times slower: so few tokens that all have been seen when counting begins.
TOKENS_SIMULATED, SECONDS_SIMULATED = 100, 6
# It takes every byte that `rep movsb` moves for an instruction, though a processor moves 32 in a cycle: the C library is told not to.
COPY_BY_VECTORS = "glibc.cpu.x86_rep_movsb_threshold=1000000000:glibc.cpu.x86_rep_stosb_threshold=1000000000"


def syscalls(bench):
    """`strace -c` of each proxy under load."""
    if not program("strace"):
        give_up("strace is missing; on Debian: apt install strace")
    table = Table(f"system calls a request, {CONNECTIONS} connections", [("calls", "calls/request")])
    for case in cases(bench):
        warm(case, 2)
        counts, requests = traced(case)
        table.add(case.name, {"calls": sum(counts.values()) / requests, **{name: n / requests for name, n in counts.items()}})
        shown = sorted(counts.items(), key=lambda item: -item[1])[:CALLS_SHOWN]
        table.notes.append(f"{case.name}: " + ", ".join(f"{name} {n / requests:.3f}" for name, n in shown))
    return [table]


def cases(bench):
    """nginx, an open gateway, one that checks and one that tracks; with few revocations, for they start slowly under tools."""
    tokens, store = bench.tokens("ES256"), filled_store(bench, 1000)
    found = [Case("nginx, no auth", base := nginx.proxy(bench, "nginx"), load(base))]
    for name, auth, track, with_tokens in GATES:
        process = gate(bench, f"counted-{auth}-{track}", auth=auth, store=store, track=track)
        found.append(Case(name, process, load(process, tokens if with_tokens else None), bench.token_count if with_tokens else 0))
    return found


GATES = (("portcullis, no auth", "none", False, False), ("portcullis, ES256, no tracking", "required", False, True),
         ("portcullis, ES256, sessions tracked", "required", True, True))


def traced(case):
    with tempfile.NamedTemporaryFile() as file:
        pids = [part for pid in case.process.family() for part in ("-p", str(pid))]
        tracer = subprocess.Popen([program("strace"), "-c", "-f", "-o", file.name, *pids], stderr=subprocess.PIPE, text=True)
        time.sleep(0.5)
        result = case.load(2)
        tracer.send_signal(signal.SIGINT)
        tracer.wait(20)
        lines = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", pathlib.Path(file.name).read_text(), re.M)
    counts = {name: int(count) for count, name in lines if name != "total"}
    if not counts:
        give_up("strace counted nothing; may it attach to processes (kernel.yama.ptrace_scope)?")
    return counts, result["requests"]


def instructions(bench):
    """User-mode instructions of a request: by the processor's counter where it has one, else under callgrind."""
    heading = [("instructions", "user instructions/request")]
    if counter_works():
        table = Table(f"instructions a request (perf), {CONNECTIONS} connections", heading)
        for case in cases(bench):
            warm(case, bench.warm_up)
            table.add(case.name, {"instructions": counted(case)})
        return [table]
    if not program("valgrind"):
        give_up("neither perf nor valgrind can count instructions here; on Debian: apt install linux-perf valgrind")
    table = Table(f"instructions a request (callgrind, the kernel's not counted), {CONNECTIONS} connections", heading)
    for name, process, request_load in simulated(bench):
        request_load(SECONDS_SIMULATED)
        table.add(name, {"instructions": simulate(bench, process, request_load)})
        keep(bench, process)
        process.end()
    return [table]


def counter_works():
    perf = program("perf")
    said = subprocess.run([perf, "stat", "-e", "instructions:u", "true"], capture_output=True, text=True).stderr if perf else ""
    return bool(re.search(r"\d\s+instructions:u", said))


def counted(case):
    pids = ",".join(map(str, case.process.family()))
    with tempfile.NamedTemporaryFile() as file:
        counter = subprocess.Popen([program("perf"), "stat", "-x,", "-e", "instructions:u", "-o", file.name, "-p", pids])
        time.sleep(0.3)
        result = case.load(2)
        counter.send_signal(signal.SIGINT)
        counter.wait(20)
        return int(re.search(r"^(\d+),", pathlib.Path(file.name).read_text(), re.M)[1]) / result["requests"]


def simulated(bench):
    """The same cases, each started under callgrind when its turn comes, counting nothing yet."""
    tokens, store = bench.folder / "few.txt", filled_store(bench, 1000)
    tokens.write_text("".join(bench.tokens("ES256").read_text().splitlines(True)[:TOKENS_SIMULATED]))

    def under(name):
        file = bench.folder / f"{name}.callgrind"
        plain = ["env", f"GLIBC_TUNABLES={COPY_BY_VECTORS}", sys.executable, HERE / "without_auxv.py", program("valgrind"), "--tool=callgrind"]
        return [*plain, f"--callgrind-out-file={file}", "--combine-dumps=yes"]

    base = nginx.proxy(bench, "nginx-simulated", under=under("nginx-simulated"), single=True)
    base.counts = bench.folder / "nginx-simulated.callgrind"
    yield "nginx, no auth", base, load(base)
    for name, auth, track, with_tokens in GATES:
        label = f"portcullis-{auth}-{track}"
        process = Gateway(bench, label, auth=auth, store=store, track=track).start(under=under(label))
        bench.started.add(process).counts = bench.folder / f"{label}.callgrind"
        yield name, process, load(process, tokens if with_tokens else None)


def simulate(bench, process, request_load):
    """Instructions of each request, between two words to callgrind."""
    control = [program("callgrind_control")]
    subprocess.run([*control, "-z", str(process.pid)], check=True, capture_output=True)
    requests = request_load(SECONDS_SIMULATED)["requests"]
    subprocess.run([*control, "-d", str(process.pid)], check=True, capture_output=True)
    totals = re.findall(r"^(?:totals|summary): (\d+)", process.counts.read_text(), re.M)
    if not totals:
        give_up("callgrind counted nothing")
    return int(totals[0]) / requests


def keep(bench, process):
    """callgrind's own record, for callgrind_annotate, where somebody asked for it."""
    if bench.keep:
        bench.keep.mkdir(parents=True, exist_ok=True)
        shutil.copy(process.counts, bench.keep)
