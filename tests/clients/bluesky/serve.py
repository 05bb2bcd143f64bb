"""Runs the real bluesky-httpserver as the service behind the gateway.

    serve.py FOLDER [--access-ttl S] [--refresh-ttl S] [--session-ttl S]

FOLDER is one of the test's own; the server's configuration, database and log are in it. Prints one JSON line when the
server answers, and kills it when standard input closes. Users: bob (admin, expert), alice (advanced), tom (user) and
cara, who has a password and no role; each one's password is the name and `_password`.
"""

import argparse
import ctypes
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import urllib.request

SERVER = pathlib.Path(sys.executable).with_name("start-bluesky-httpserver")
START_SECS = 60
ROLES = {"bob": ["admin", "expert"], "alice": ["advanced"], "tom": ["user"]}
USERS = [*ROLES, "cara"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--access-ttl", type=int, default=900)
    parser.add_argument("--refresh-ttl", type=int, default=7 * 24 * 3600)
    parser.add_argument("--session-ttl", type=int, default=365 * 24 * 3600)
    return parser.parse_args()


def configuration(wanted: argparse.Namespace, listener: int) -> dict:
    """JSON is YAML. The server takes over a listening socket: no other test can grab the port in between."""
    provider = {
        "provider": "toy",
        "authenticator": "bluesky_httpserver.authenticators:DictionaryAuthenticator",
        "args": {"users_to_passwords": {user: f"{user}_password" for user in USERS}},
    }
    return {
        "authentication": {
            "providers": [provider],
            "secret_keys": ["only for tests"],
            "access_token_max_age": wanted.access_ttl,
            "refresh_token_max_age": wanted.refresh_ttl,
            "session_max_age": wanted.session_ttl,
        },
        "database": {"uri": f"sqlite:///{wanted.folder.resolve()}/bluesky.sqlite"},
        "uvicorn": {"fd": listener},
        "api_access": {
            "policy": "bluesky_httpserver.authorization:DictionaryAPIAccessControl",
            "args": {"users": {user: {"roles": roles} for user, roles in ROLES.items()}},
        },
        # Nobody is there: sessions and tokens need no RE Manager.
        "qserver_zmq_configuration": {
            "control_address": f"ipc://{wanted.folder.resolve()}/control",
            "info_address": f"ipc://{wanted.folder.resolve()}/info",
        },
    }


def die_with_parent() -> None:
    """Even a killed serve.py leaves no server behind."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def start(wanted: argparse.Namespace, listener: socket.socket) -> "subprocess.Popen[bytes]":
    config = wanted.folder / "bluesky.yml"
    config.write_text(json.dumps(configuration(wanted, listener.fileno())))
    with open(wanted.folder / "bluesky.log", "wb") as log:
        return subprocess.Popen(
            [str(SERVER), "--config_path", str(config)],
            cwd=wanted.folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[listener.fileno()],
            preexec_fn=die_with_parent,
        )


def wait_until_ready(url: str) -> None:
    """The socket listens already, so one request waits in its queue until the server takes it up.

    The status and ping endpoints would ask for an RE Manager; this one asks for nothing.
    """
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{url}/api/auth/scopes", timeout=START_SECS) as answer:
        wanted = {"roles": [], "scopes": []}
        found = json.load(answer)
        if found != wanted:
            raise RuntimeError(f"the server says {found}, not {wanted}")


def main() -> None:
    wanted = arguments()
    wanted.folder.mkdir(parents=True, exist_ok=True)
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = start(wanted, listener)
    # Only the server may hold the socket now: when it fails to start, the request below is refused and does not hang.
    listener.close()
    try:
        wait_until_ready(url)
        print(json.dumps({"url": url, "pid": server.pid, "log": str(wanted.folder / "bluesky.log")}), flush=True)
        sys.stdin.buffer.read()
    except OSError as fault:
        print((wanted.folder / "bluesky.log").read_text(), file=sys.stderr)
        sys.exit(f"bluesky-httpserver did not start: {fault}")
    finally:
        # Everything it has is in the test's folder, and an orderly end takes it three seconds.
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
