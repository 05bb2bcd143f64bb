"""What the clients share: named checks, one line each, and an exit code that says how they went."""

import argparse
import asyncio
import contextlib
import os
import sys
import time
import traceback

UNREACHABLE = {"ConnectionRefusedError", "ConnectError"}  # of Python's sockets, of httpx


def arguments(description: str, **extra: str) -> argparse.Namespace:
    """Every client takes the gateway's address, a token and a CA file, by option or environment."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("url", nargs="?", default=os.environ.get("GATE_URL"), help="base URL (or GATE_URL)")
    parser.add_argument("--token", default=os.environ.get("GATE_TOKEN"), help="access token (or GATE_TOKEN)")
    parser.add_argument("--ca", default=os.environ.get("GATE_CA"), help="CA file in PEM (or GATE_CA)")
    for name, text in extra.items():
        parser.add_argument("--" + name.replace("_", "-"), help=text)
    known = parser.parse_args()
    if not known.url:
        parser.error("url is missing")
    return known


class Checks:
    """Prints `ok NAME` or `FAIL NAME: why`; exit code 0 all ok, 1 a failure, 2 nobody answered."""

    def __init__(self) -> None:
        self.failed = 0
        self.unreachable = 0

    @contextlib.contextmanager
    def check(self, name: str):
        started = time.monotonic()
        try:
            yield
        except Exception as error:  # whatever it is, it is a line, and the next check runs
            kind = type(error).__name__
            if kind in UNREACHABLE:
                self.unreachable += 1
            else:
                self.failed += 1
            print(f"FAIL {name}: {kind}: {error}", flush=True)
            if kind != "AssertionError" and "GATE_TRACE" in os.environ:
                traceback.print_exc()
        else:
            print(f"ok {name} ({(time.monotonic() - started) * 1000:.0f} ms)", flush=True)

    def exit(self) -> None:
        sys.exit(1 if self.failed else 2 if self.unreachable else 0)


def expect(actual, wanted, what: str) -> None:
    """Like assert, but says what was there instead."""
    if actual != wanted:
        raise AssertionError(f"{what} is {actual!r}, not {wanted!r}")


async def until_stdin_closes() -> None:
    """Returns when whoever started us closes our standard input, or is gone."""
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
