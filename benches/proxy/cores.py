"""One core against two: whether work grows with the cores, or with what they keep from each other."""
import statistics

import nginx
from gateway import Gateway, filled_store
from keepalive import load
from machine import CORES, PROXY_CORES
from nginx import Service
from rounds import Case, cpu_per_request, interleave

BOTH = CORES[:2]
# Where there are only two cores, what asks and what answers runs on them as well.
BESIDE_BOTH = CORES[2:4] or CORES
FIGURES = [("per_cpu", "requests per second of CPU"), ("cpu_micros", "CPU µs/request"), ("per_second", "requests/s"),
           ("busy", "proxy's CPUs busy")]


def cores(bench):
    wide = Service(bench, name="wide-service", cores=BESIDE_BOTH)
    store, tokens = filled_store(bench, bench.revocations), bench.tokens("ES256")
    cases = []
    for count, pinned in ((1, PROXY_CORES), (2, BOTH)):
        base = nginx.proxy(bench, f"nginx-{count}", behind=wide.port, workers=count, pin=pinned)
        cases.append(Case(f"nginx, no auth, on {count}", base, load(base, cores=BESIDE_BOTH)))
        for name, auth, sent in (("no auth", "none", None), ("ES256", "required", tokens)):
            gateway = Gateway(bench, f"{auth}-{count}", auth=auth, store=store if sent else None, behind=wide.port)
            process = bench.started.add(gateway.start(cores=pinned))
            asked = load(process, sent, cores=BESIDE_BOTH)
            cases.append(Case(f"portcullis, {name}, on {count}", process, asked, bench.token_count if sent else 0))
    table = interleave(bench, "one core and two, HTTP/1.1 keep-alive", cases, FIGURES, sample)
    table.notes += [worth(table, name) for name in ("nginx, no auth", "portcullis, no auth", "portcullis, ES256")]
    table.notes.append("Two cores are worth 2 × (requests per second of CPU on two) / (the same on one), which holds where all cores are "
                       "kept busy." + (" Here load and service share the two cores with the proxy, and its caches: the true "
                                       "throughput of two cores cannot be seen on this machine." if BESIDE_BOTH == CORES else ""))
    return [table]


def sample(case, seconds):
    figures = cpu_per_request(case, seconds)
    return {"per_cpu": 1e6 / figures["cpu_micros"], **figures}


def worth(table, name):
    one, two = ([sample["per_cpu"] for sample in table.samples[f"{name}, on {count}"]] for count in (1, 2))
    each = [2 * both / single for single, both in zip(one, two)]
    return f"{name}: two cores are worth {statistics.median(each):.2f} of one ({min(each):.2f} – {max(each):.2f})."
