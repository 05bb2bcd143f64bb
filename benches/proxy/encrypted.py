"""TLS 1.3 in front, kept and new connections, and HTTP/2."""
import re, subprocess, time

import nginx
from keepalive import gate, load
from load import connect, first, h2load, pinned, probe, request_bytes
from machine import give_up, program
from nginx import HELLO
from rounds import COST, Case, Table, interleave

# So many connect at the same time; each program does one after the other.
CLIENTS = 8
STREAMS = "10 connections of 100 streams"


def tls(bench):
    """Kept connections, so that what is measured is records, not handshakes."""
    cases = encrypted_cases(bench, with_auth=True)
    table = interleave(bench, "TLS 1.3 in front, keep-alive, 64 connections, small answers", cases)
    table.notes.append("Agreed on: " + "; ".join(f"{case.name}: {agreed(case.process.port)}" for case in cases))
    return [table]


def encrypted_cases(bench, with_auth):
    base = nginx.proxy(bench, "nginx-tls", listen="ssl", server=nginx.tls(bench))
    gateway = gate(bench, "tls", auth="none", tls=True)
    cases = [Case("nginx, no auth", base, load(base, tls=True)), Case("portcullis, no auth", gateway, load(gateway, tls=True))]
    if with_auth:
        checking = gate(bench, "tls-checking", tls=True)
        cases.append(Case("portcullis, ES256", checking, load(checking, bench.tokens("ES256"), tls=True), bench.token_count))
    return cases


def agreed(port):
    with connect(port, tls=True) as connection:
        return f"{connection.version()} {connection.cipher()[0]}"


def handshakes(bench):
    """A full handshake, one request, and the end, again and again."""
    cases = encrypted_cases(bench, with_auth=False)
    for case in cases:
        probe(case.process.port, tls=True, expect=HELLO)
        case.load = lambda seconds, port=case.process.port: connect_anew(port, seconds)
    names = [("cpu_micros", "CPU µs/handshake"), ("per_core", "handshakes per second of CPU"), *COST[1:]]
    table = interleave(bench, "TLS 1.3 in front, a full handshake for each request", cases, names, handshake)
    table.notes.append("The client's half of a handshake costs more than the server's, so the load is what limits handshakes a "
                       "second here; what the proxy could do is told by handshakes per second of its CPU. No session was resumed.")
    return [table]


def handshake(case, seconds):
    before, began = case.process.cpu_seconds(), time.monotonic()
    result = case.load(seconds)
    spent, passed = case.process.cpu_seconds() - before, time.monotonic() - began
    return {"cpu_micros": spent / result["requests"] * 1e6, "per_core": result["requests"] / spent,
            "per_second": result["requests"] / passed, "busy": spent / passed}


def connect_anew(port, seconds):
    """Full handshakes by several `openssl s_time`, each with a request; its letters tell of resumed sessions."""
    command = [*pinned(), program("openssl"), "s_time", "-connect", f"127.0.0.1:{port}", "-new", "-tls1_3", "-www", "/", "-time",
               str(seconds)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(CLIENTS)]
    connections = 0
    for client in running:
        said, wrong = client.communicate(timeout=seconds + 60)
        counted = re.search(r"(\d+) connections in \d+ real seconds, (\d+) bytes read per connection", said)
        letters = re.search(r"^[*r]+$", said, re.M)
        if not counted or not letters or not int(counted[2]) or client.returncode:
            give_up(f"openssl s_time said {said[-500:]} {wrong[-500:]}")
        if "r" in letters[0]:
            give_up("sessions were resumed")
        connections += int(counted[1])
    return {"requests": connections, "micros": seconds * 1_000_000}


def http2(bench):
    """Many streams of few connections; HTTP/1.1 behind, as everywhere."""
    tables = []
    token = first(bench.tokens("ES256"))
    for encrypted, words in ((False, "in the clear"), (True, "over TLS 1.3")):
        name = "tls" if encrypted else "clear"
        listen, server = ("ssl http2", nginx.tls(bench)) if encrypted else ("http2", "")
        base = nginx.proxy(bench, f"nginx-{name}", listen=listen, server=server)
        gateway = gate(bench, f"open-{name}", auth="none", tls=encrypted)
        checking = gate(bench, f"checking-{name}", tls=encrypted)
        cases = [Case("nginx, no auth", base, streams(base, encrypted)), Case("portcullis, no auth", gateway, streams(gateway, encrypted)),
                 Case("portcullis, ES256, one token", checking, streams(checking, encrypted, token))]
        tables.append(interleave(bench, f"HTTP/2 {words}, {STREAMS}, small answers", cases))
    return tables


def streams(process, encrypted, token=None):
    return lambda seconds: h2load(process.port, seconds, len(HELLO), token, tls=encrypted)
