"""Small answers over kept HTTP/1.1 connections: what a request costs plain, with a token, and as peers do it."""
import nginx, peers
from gateway import Gateway, filled_store
from load import CONNECTIONS, wrk
from machine import say
from nginx import HELLO
from rounds import Case, interleave


def load(process, tokens=None, **more):
    return lambda seconds: wrk(process.port, seconds, tokens, expect=HELLO, **more)


def gate(bench, name, **more):
    """A running gateway that ends with the benchmark."""
    return bench.started.add(Gateway(bench, name, **more).start())


def plain(bench):
    """Nobody is asked for a token."""
    return measure(bench, "plain proxying", plain_cases(bench), [])


def plain_cases(bench):
    tokens = bench.tokens("ES256")
    base, open_gate = nginx.proxy(bench, "nginx"), gate(bench, "open", auth="none")
    return [
        Case("nginx, no auth", base, load(base)),
        Case("portcullis, no auth", open_gate, load(open_gate)),
        Case("nginx, no auth, requests carry tokens", base, load(base, tokens)),
        Case("portcullis, no auth, requests carry tokens", open_gate, load(open_gate, tokens)),
    ]


def auth(bench):
    """Signature, issuer, audience, expiry, a scope and the index of revocations, on every request."""
    store, cases = filled_store(bench, bench.revocations), plain_cases(bench)
    what = f"{bench.revocations:,} revocations"
    untracked = gate(bench, "untracked", store=store)
    for algorithm in ("ES256", "RS256"):
        asked = load(untracked, bench.tokens(algorithm))
        cases.append(Case(f"portcullis, {algorithm}, {what}, no tracking", untracked, asked, bench.token_count))
    tracked = gate(bench, "tracked", store=store, track=True)
    cases.append(Case(f"portcullis, ES256, {what}, sessions tracked", tracked, load(tracked, bench.tokens("ES256")), bench.token_count))
    for shapes in bench.shapes:
        count = bench.many
        gateway = gate(bench, f"many-{shapes}", store=filled_store(bench, count, shapes))
        name = f"portcullis, ES256, {count:,} revocations in {shapes} shapes, no tracking"
        cases.append(Case(name, gateway, load(gateway, bench.tokens("ES256")), bench.token_count))
    return measure(bench, f"tokens, {bench.token_count:,} in rotation", cases, [])


def others(bench):
    """The peers that are on this machine, beside nginx and ourselves."""
    cases, missing = plain_cases(bench)[:2], []
    untracked = gate(bench, "untracked", store=filled_store(bench, bench.revocations))
    cases.append(Case(f"portcullis, ES256, {bench.revocations:,} revocations", untracked, load(untracked, bench.tokens("ES256"))))
    uncached = gate(bench, "uncached", more='[cache]\n            verified_bytes = "64KiB"')
    for algorithm in ("ES256", "RS256"):
        cases.append(Case(f"portcullis, {algorithm}, a cache too small for the tokens", uncached, load(uncached, bench.tokens(algorithm))))
    for peer in peers.ALL:
        try:
            for name, process, algorithm in peer(bench):
                tokens = bench.tokens(algorithm) if algorithm else None
                cases.append(Case(name, process, load(process, tokens), bench.token_count if tokens else 0))
        except peers.Missing as why:
            say(f"missing: {why}")
            missing.append(str(why))
    return measure(bench, "peers", cases, missing)


def measure(bench, title, cases, missing):
    table = interleave(bench, f"HTTP/1.1 keep-alive, {CONNECTIONS} connections, small answers: {title}", cases)
    table.missing = missing
    return [table]
