"""Interleaved rounds, and the tables they make."""
import math, statistics, time
from dataclasses import dataclass, field
from typing import Callable

from machine import Process, say

# The share of the machine that others may have before a table says so.
QUIET = 0.05


@dataclass
class Case:
    """What is measured, as whom, under which load."""
    name: str
    process: Process
    load: Callable[[int], dict]
    distinct: int = 0  # tokens that must all have been seen before anything counts


@dataclass
class Table:
    """Rows of figures with their spread. The first row is what the others are compared with."""
    title: str
    figures: list  # (key, heading), the first is the one compared
    samples: dict = field(default_factory=dict)  # row → list of {key: number}
    notes: list = field(default_factory=list)
    missing: list = field(default_factory=list)
    others: float = 0.0  # the share of the machine that went to other programs meanwhile

    def add(self, row, sample):
        self.samples.setdefault(row, []).append(sample)

    def ratios(self, row):
        """This row to the first, round by round: what disturbs the machine for longer disturbs both."""
        key = self.figures[0][0]
        base = next(iter(self.samples.values()))
        return [own[key] / other[key] for own, other in zip(self.samples[row], base) if other.get(key) and key in own]

    def lines(self):
        first = self.figures[0]
        rest = "".join(f" {heading} |" for _, heading in self.figures[1:])
        yield f"**{self.title}**\n"
        yield f"| | {first[1]} | from – to | ratio | from – to |{rest}"
        yield "|---|---:|---:|---:|---:|" + "---:|" * (len(self.figures) - 1)
        for row, samples in self.samples.items():
            values, ratios = [sample[first[0]] for sample in samples], self.ratios(row)
            more = "".join(f" {number(middle(samples, key))} |" for key, _ in self.figures[1:])
            compared = f"{statistics.median(ratios):.2f} | {min(ratios):.2f} – {max(ratios):.2f}" if ratios else "– | –"
            yield f"| {row} | {number(statistics.median(values))} | {number(min(values))} – {number(max(values))} | {compared} |{more}"
        for name in self.missing:
            yield f"| {name} | missing | | | |" + " |" * (len(self.figures) - 1)
        yield ""
        yield from (f"{note}\n" for note in self.notes)
        if self.others > QUIET:
            yield f"Not a quiet machine: other programs had {self.others:.0%} of it meanwhile.\n"

    def json(self):
        rows = [{"name": row, "ratio": statistics.median(self.ratios(row)) if self.ratios(row) else None, "samples": samples,
                 **{key: middle(samples, key) for key, _ in self.figures}} for row, samples in self.samples.items()]
        return {"title": self.title, "rows": rows, "missing": self.missing, "notes": self.notes,
                "others": self.others}


def middle(samples, key):
    values = [sample[key] for sample in samples if sample.get(key) is not None]
    return statistics.median(values) if values else None


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


COST = [("cpu_micros", "CPU µs/request"), ("per_second", "requests/s"), ("busy", "proxy's CPUs busy")]


def interleave(bench, title, cases, figures=COST, sample=None):
    """Each case in each round, after a warm-up that does not count."""
    table, sample = Table(title, figures), sample or cpu_per_request
    for case in cases:
        warm(case, bench.warm_up)
    for turn in range(bench.rounds):
        for case in cases:
            figure = sample(case, bench.seconds)
            table.add(case.name, figure)
            say(f"round {turn + 1}/{bench.rounds}: {case.name}: {figure[figures[0][0]]:.1f} {figures[0][1]}")
    return table


def warm(case, seconds):
    """Load that does not count. Every run starts with the first token, so one of them must get through all."""
    done = case.load(seconds)
    while case.distinct and done["requests"] < case.distinct:
        seconds = min(math.ceil(seconds * case.distinct / done["requests"] * 1.2), seconds * 10)
        done = case.load(seconds)


def cpu_per_request(case, seconds):
    before, began = case.process.cpu_seconds(), time.monotonic()
    result = case.load(seconds)
    spent, passed = case.process.cpu_seconds() - before, time.monotonic() - began
    figures = {"cpu_micros": spent / result["requests"] * 1e6, "per_second": result["requests"] / result["micros"] * 1e6,
               "busy": spent / passed}
    return figures | {key: result[key] / 1000 for key in ("p50", "p99") if key in result}
