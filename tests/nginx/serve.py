#!/usr/bin/env python3
"""Runs Debian's nginx as the service behind the gateway.

    serve.py ROOT [PORT]

ROOT is a folder of the test's own; files to serve go to ROOT/www. Prints one JSON line when nginx answers and ends it
when standard input closes. Needs nothing but Python's standard library.
"""

import ctypes
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

TEMPLATE = pathlib.Path(__file__).with_name("nginx.conf.in")
INDEX = "<!doctype html><title>upstream</title><p>nginx behind the gateway\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def prepare(root: pathlib.Path, port: int, h2c_port: int) -> pathlib.Path:
    (root / "www").mkdir(parents=True, exist_ok=True)
    (root / "tmp").mkdir(exist_ok=True)
    (root / "sink.sock").unlink(missing_ok=True)
    index = root / "www" / "index.html"
    if not index.exists():
        index.write_text(INDEX)
    config = TEMPLATE.read_text()
    for name, value in {"ROOT": root, "PORT": port, "H2C_PORT": h2c_port}.items():
        config = config.replace(f"@{name}@", str(value))
    path = root / "nginx.conf"
    path.write_text(config)
    return path


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def die_with_parent() -> None:
    """Even a killed serve.py leaves no nginx behind."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def start(root: pathlib.Path, port: int, h2c_port: int) -> "subprocess.Popen[bytes] | None":
    config = prepare(root, port, h2c_port)
    nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if nginx is None:
        sys.exit("serve.py: nginx is not installed")
    process = subprocess.Popen(
        [nginx, "-p", str(root), "-c", str(config), "-e", "stderr"],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=die_with_parent,
    )
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        if answers(port) and answers(h2c_port):
            return process
        time.sleep(0.02)
    process.kill()
    process.wait()
    return None


def main() -> None:
    root = pathlib.Path(sys.argv[1]).resolve()
    wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    for _ in range(5):  # a free port may be taken by somebody else before nginx binds it
        port, h2c_port = wanted or free_port(), free_port()
        process = start(root, port, h2c_port)
        if process is not None:
            break
    else:
        sys.exit("serve.py: nginx did not start")
    ready = {
        "url": f"http://127.0.0.1:{port}",
        "h2c_url": f"h2c://127.0.0.1:{h2c_port}",
        "port": port,
        "h2c_port": h2c_port,
        "pid": process.pid,
        "www": str(root / "www"),
        "access_log": str(root / "access.log"),
    }
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        print(json.dumps(ready), flush=True)
        sys.stdin.buffer.read()
    finally:
        process.terminate()
        try:
            process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            process.kill()


if __name__ == "__main__":
    main()
