"""Latencies at half of capacity, under a load that does not wait for whom it measures."""
import json, statistics, subprocess

import nginx
from gateway import filled_store
from keepalive import gate, load
from load import CONNECTIONS, pinned, probe
from machine import HERE, give_up, program, say
from nginx import HELLO
from rounds import Case, Table, warm

FIGURES = [("p99", "p99 µs"), ("p50", "p50 µs"), ("p90", "p90 µs"), ("p999", "p99.9 µs"), ("max", "worst µs"), ("rate", "requests/s")]


def latency(bench):
    compiler = program("cc") or give_up("cc is missing; on Debian: apt install gcc")
    subprocess.run([compiler, "-O2", "-o", bench.folder / "open_loop", HERE / "open_loop.c"], check=True)
    tokens, store = bench.tokens("ES256"), filled_store(bench, bench.revocations)
    base, open_gate = nginx.proxy(bench, "nginx"), gate(bench, "open", auth="none")
    checking, tracking = gate(bench, "checking", store=store), gate(bench, "tracking", store=store, track=True)
    cases = [(Case("nginx, no auth", base, load(base)), None), (Case("portcullis, no auth", open_gate, load(open_gate)), None),
             (Case("portcullis, ES256, no tracking", checking, load(checking, tokens), bench.token_count), tokens),
             (Case("portcullis, ES256, sessions tracked", tracking, load(tracking, tokens), bench.token_count), tokens)]
    halves = {case.name: half_of_capacity(case) for case, _ in cases}
    title = f"latency over HTTP/1.1 keep-alive, {CONNECTIONS} connections, from the time a request was due"
    own = measure(bench, f"{title}: each at half of its own capacity", cases, halves)
    least = min(halves.values())
    same = measure(bench, f"{title}: all at half of the slowest one's capacity", cases, dict.fromkeys(halves, least))
    own.notes.append("Capacity is what wrk got from each just before, with load and service on the cores that the proxy leaves.")
    return [own, same]


def half_of_capacity(case):
    warm(case, 2)
    rates = [result["requests"] / result["micros"] * 1e6 for result in (case.load(2) for _ in range(3))]
    return statistics.median(rates) / 2


def measure(bench, title, cases, halves):
    table = Table(title, FIGURES)
    for turn in range(bench.rounds):
        for case, tokens in cases:
            figures = steady(bench, case.process.port, halves[case.name], tokens)
            table.add(case.name, figures)
            say(f"round {turn + 1}/{bench.rounds}: {case.name}: p99 {figures['p99']} µs at {halves[case.name]:,.0f} a second")
    return table


def steady(bench, port, rate, tokens):
    size = probe(port, tokens, expect=HELLO)
    command = [*pinned(), bench.folder / "open_loop", str(port), str(CONNECTIONS), f"{rate:.0f}", str(bench.seconds), str(size)]
    ran = subprocess.run([*command, tokens] if tokens else command, capture_output=True, text=True)
    if ran.returncode:
        give_up(f"the open loop on port {port} ended: {ran.stderr}")
    return json.loads(ran.stdout) | {"rate": rate}
