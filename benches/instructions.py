#!/usr/bin/env python3
"""Counts the instructions of the parts of a request, and fails when one needs more than it may.

    benches/instructions.py [--binary PROGRAM] [PART...]

Unlike times, instructions are nearly the same from run to run and on a busy machine, so a limit close above what was measured
notices a change for the worse. Each part runs COUNT times and twice COUNT times under callgrind; the difference is what one costs.
After a change for the better, or one for the worse that is worth it, write what is measured into MEASURED. Needs valgrind.
"""
import argparse, json, pathlib, re, shutil, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Instructions of one, and how often it is done.
MEASURED = {
    "index-memo": (43, 100_000),
    "index-moved": (1_258, 20_000),
    "index-first": (5_698, 20_000),
    "cache-hit": (15_696, 5_000),
    "admission": (19_042, 5_000),
}
# Processors and libraries of the system differ by some hundredths.
MARGIN = 1.15


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(MEASURED))
    parser.add_argument("--binary", help="a program that is built already")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(MEASURED):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if not shutil.which("valgrind"):
        sys.exit("instructions: please install valgrind")
    binary = args.binary or build()
    print("| part | instructions | measured before | limit | |\n|---|---:|---:|---:|---|")
    exceeded = [part for part in args.parts or MEASURED if not within(binary, part)]
    if exceeded:
        sys.exit(f"instructions: over the limit: {', '.join(exceeded)}")


def build():
    command = ["cargo", "bench", "--locked", "--no-run", "--profile", "instructions", "--bench", "instructions",
               "--message-format", "json-render-diagnostics"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if built.returncode:
        sys.exit("instructions: the benches could not be built")
    messages = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
    return next(m["executable"] for m in messages
                if m.get("executable") and m["target"]["name"] == "instructions" and "bench" in m["target"]["kind"])


def within(binary, part):
    before, count = MEASURED[part]
    one = (counted(binary, part, 2 * count) - counted(binary, part, count)) / count
    limit = before * MARGIN
    print(f"| {part} | {one:,.0f} | {before:,} | {limit:,.0f} | {'ok' if one <= limit else 'TOO MANY'} |", flush=True)
    return one <= limit


def counted(binary, part, count):
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", binary, part, str(count)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    collected = re.search(r"Collected : (\d+)", run.stderr)
    if run.returncode or not collected:
        sys.exit(f"instructions: {part} could not be counted:\n{run.stderr[-2000:]}")
    return int(collected.group(1))


if __name__ == "__main__":
    main()
