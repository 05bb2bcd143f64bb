"""What it costs to be there: memory of idle connections, memory after a start, and how long a start takes."""
import pathlib, socket, time

import nginx
from gateway import Gateway
from keepalive import gate, load
from load import read_answer, request_bytes
from machine import CORES, Process, give_up, say
from nginx import HELLO
from rounds import Table

BATCH = 50
KIB, MIB = 1 << 10, 1 << 20


def idle(bench):
    """Connections that asked once and then say nothing."""
    count = min(bench.args.idle, bench.descriptors - 500)
    table = Table(f"{count:,} idle connections after a request each, HTTP/1.1",
                  [("each", "KiB a connection"), ("before", "MiB before"), ("after", "MiB after"), ("upstream", "upstream connections")])
    for turn in range(min(bench.rounds, 3)):
        for name, start in (("nginx", nginx_alone), ("portcullis, no auth", open_gateway)):
            process = start(bench, turn)
            figures = held(process, count, load(process))
            process.end()
            table.add(name, figures)
            say(f"{name}: {figures['each']:.2f} KiB a connection")
    if count < bench.args.idle:
        table.notes.append(f"Fewer than {bench.args.idle:,}, for ulimit -Hn is {bench.descriptors:,}.")
    return [table]


def nginx_alone(bench, turn):
    return nginx.proxy(bench, f"nginx-{turn}")


def open_gateway(bench, turn):
    return gate(bench, f"open-{turn}", auth="none")


def held(process, count, warm_up):
    warm_up(1)
    time.sleep(1)
    before, connections = process.memory(), []
    try:
        while len(connections) < count:
            batch = [socket.create_connection(("127.0.0.1", process.port), 10) for _ in range(min(BATCH, count - len(connections)))]
            connections += batch
            for one in batch:
                one.sendall(request_bytes())
            for one in batch:
                status, _, body = read_answer(one)
                if status != 200 or body != HELLO:
                    give_up(f"answered {status} {body!r}")
        time.sleep(2)
        after = process.memory()
        sockets = sum(open_sockets(pid) for pid in process.family())
    finally:
        for one in connections:
            one.close()
    return {"each": (after - before) / count / KIB, "before": before / MIB, "after": after / MIB, "upstream": max(0, sockets - count)}


def open_sockets(pid):
    """Connections of a process, its listeners apart."""
    mine = {link.readlink().name for link in pathlib.Path(f"/proc/{pid}/fd").iterdir()}
    lines = [line.split() for line in pathlib.Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return sum(fields[3] == "01" and f"socket:[{fields[9]}]" in mine for fields in lines)


def start(bench):
    """From the call that starts a program until it proxies; all cores may be used."""
    table = Table(f"start, {bench.args.starts} times", [("ready_ms", "ms until /readyz"), ("proxied_ms", "ms until a proxied 200"),
                                                      ("memory", "MiB then"), ("later", "MiB a second later")])
    for turn in range(bench.args.starts):
        table.add("nginx", started_nginx(bench, turn))
        table.add("portcullis, a new store", started_gateway(bench, f"new-{turn}"))
        kept = bench.folder / "new-0/portcullis.db"
        table.add("portcullis, an empty store that was there", started_gateway(bench, f"again-{turn}", kept))
    table.notes.append("setpriv and taskset, which start first, are counted with each: about two milliseconds.")
    return [table]


def started_gateway(bench, name, store=None):
    gateway = Gateway(bench, name, auth="none", store=store)
    began = time.perf_counter()
    process = bench.started.add(Process(gateway.command(), CORES, gateway.folder / "log"))
    ready = answered(gateway.admin, began, b"GET /readyz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
    return figures(process, ready, answered(gateway.port, began))


def started_nginx(bench, turn):
    began = time.perf_counter()
    process = nginx.proxy(bench, f"nginx-{turn}")
    passed = answered(process.port, began)
    return figures(process, passed, passed)


def figures(process, ready, proxied):
    then = process.memory()
    time.sleep(1)
    later = process.memory()
    process.end()
    return {"ready_ms": ready * 1000, "proxied_ms": proxied * 1000, "memory": then / MIB, "later": later / MIB}


def answered(port, began, request=request_bytes(close=True)):
    """Seconds until this request was answered 200, tried without a pause."""
    while time.perf_counter() - began < 30:
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as one:
                one.sendall(request)
                if one.recv(65536).startswith(b"HTTP/1.1 200"):
                    return time.perf_counter() - began
        except OSError:
            pass
    give_up(f"port {port} did not answer 200 within 30 s")
