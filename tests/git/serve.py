#!/usr/bin/env python3
"""Runs git's own smart HTTP server as the service behind the gateway.

    serve.py ROOT

Makes ROOT/repo.git with one commit and serves it by `git http-backend`. It believes whoever the gateway says is calling,
takes a push from nobody else, and takes no password at all: a request that brings one is answered 418. Prints one JSON line
when it listens and ends when standard input closes. Needs git and Python's standard library.
"""

import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading

QUIET = {"stdout": subprocess.DEVNULL, "stderr": sys.stderr, "check": True}


def make_repository(root: pathlib.Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    bare = root / "repo.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(bare)], **QUIET)
    stream = b"""commit refs/heads/main
committer Test <test@id.test> 1750000000 +0000
data 5
First
M 100644 inline README
data 6
Hello

"""
    subprocess.run(["git", "-C", str(bare), "fast-import", "--quiet"], input=stream, **QUIET)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: pathlib.Path

    def log_message(self, *_: object) -> None:
        pass

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(pieces)

    def answer(self) -> None:
        body = self.body()
        if "Authorization" in self.headers:
            self.reply(418, [], b"")
            return
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_USER": self.headers.get("X-Auth-User", ""),
            "REMOTE_ADDR": self.client_address[0],
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        environment = {name: value for name, value in environment.items() if value}
        ran = subprocess.run(["git", "http-backend"], input=body, env=environment, stdout=subprocess.PIPE, check=False)
        head, _, content = ran.stdout.partition(b"\r\n\r\n")
        fields = [line.partition(": ")[::2] for line in head.decode().splitlines()]
        status = next((int(value.split()[0]) for name, value in fields if name == "Status"), 200)
        self.reply(status, [field for field in fields if field[0] != "Status"], content)

    def reply(self, status: int, fields: "list[tuple[str, str]]", content: bytes) -> None:
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer


def main() -> None:
    Handler.root = pathlib.Path(sys.argv[1]).resolve()
    make_repository(Handler.root)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"url": f"http://127.0.0.1:{server.server_address[1]}"}), flush=True)
    sys.stdin.buffer.read()
    server.shutdown()


if __name__ == "__main__":
    main()
