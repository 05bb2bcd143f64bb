"""grpcio as server and client, without protoc: messages are plain bytes.

    grpc_echo.py serve [PORT]
    grpc_echo.py URL --token TOKEN [--ca CA.pem] [--expect CODE] [--hold]

The server speaks h2c, prints {"port": N, "url": "h2c://127.0.0.1:N"} when ready and exits when standard input closes.
The client's URL is http://HOST:PORT (h2c by prior knowledge) or https://HOST:PORT (with --ca). --expect UNAUTHENTICATED
checks that every kind of call ends with that status code. --hold opens a bidirectional stream, prints {"open": true} and
waits until it ends, then prints {"closed": "CODE", "details": TEXT, "seconds": N}.
"""

import json
import queue
import sys
import time
from concurrent import futures
from urllib.parse import urlsplit

import grpc
from checks import Checks, arguments, expect

SERVICE = "gate.Echo"
LIMIT = [("grpc.max_receive_message_length", 64 * 2**20), ("grpc.enable_http_proxy", 0)]


# --- server ---


def metadata_of(context) -> dict:
    return {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}


def trailers(context) -> None:
    context.set_trailing_metadata((("x-echo-trailer", "kept"), ("x-echo-bin", b"\x00\xff")))


def unary(request: bytes, context) -> bytes:
    context.send_initial_metadata((("x-echo-initial", "kept"),))
    trailers(context)
    return request


def metadata(_request: bytes, context) -> bytes:
    return json.dumps(metadata_of(context)).encode()


def fail(request: bytes, context) -> bytes:
    trailers(context)
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"not like this: {request.decode()} ✗")


def server_stream(request: bytes, context):
    for n in range(int(request)):
        yield str(n).encode()
    trailers(context)


def client_stream(requests, context) -> bytes:
    trailers(context)
    return str(sum(len(request) for request in requests)).encode()


def bidi(requests, context):
    for request in requests:
        yield request
    trailers(context)


def handlers():
    return grpc.method_handlers_generic_handler(SERVICE, {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Metadata": grpc.unary_unary_rpc_method_handler(metadata),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
    })


def serve(port: int) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=64), handlers=[handlers()], options=LIMIT)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print(json.dumps({"port": port, "url": f"h2c://127.0.0.1:{port}"}), flush=True)
    sys.stdin.buffer.read()
    server.stop(grace=None)


# --- client ---


class Echo:
    def __init__(self, options) -> None:
        url = urlsplit(options.url)
        target = f"{url.hostname}:{url.port}"
        if url.scheme == "https":
            with open(options.ca, "rb") as pem:
                credentials = grpc.ssl_channel_credentials(pem.read())
            self.channel = grpc.secure_channel(target, credentials, options=LIMIT)
        else:
            self.channel = grpc.insecure_channel(target, options=LIMIT)
        self.metadata = [("authorization", f"Bearer {options.token}")] if options.token else []
        self.settings = {"metadata": self.metadata, "timeout": 30}

    def _call(self, kind: str, method: str, request, **settings):
        return getattr(self.channel, kind)(f"/{SERVICE}/{method}")(request, **{**self.settings, **settings})

    def unary(self, method: str, request: bytes):
        return getattr(self.channel, "unary_unary")(f"/{SERVICE}/{method}").with_call(request, **self.settings)

    def server_stream(self, count: int):
        return self._call("unary_stream", "ServerStream", str(count).encode())

    def client_stream(self, requests):
        return getattr(self.channel, "stream_unary")(f"/{SERVICE}/ClientStream").with_call(requests, **self.settings)

    def bidi(self, requests, **settings):
        return self._call("stream_stream", "Bidi", requests, **settings)


def expect_trailers(call) -> None:
    received = dict(call.trailing_metadata())
    expect(received.get("x-echo-trailer"), "kept", "trailer")
    expect(received.get("x-echo-bin"), b"\x00\xff", "binary trailer")


def exchange(echo: Echo, checks: Checks) -> None:
    with checks.check("unary call with initial metadata and trailers"):
        answer, call = echo.unary("Unary", b"hello")
        expect(answer, b"hello", "answer")
        expect(dict(call.initial_metadata()).get("x-echo-initial"), "kept", "initial metadata")
        expect_trailers(call)
    with checks.check("unary call of 4 MiB"):
        expect(echo.unary("Unary", b"x" * (4 * 2**20))[0], b"x" * (4 * 2**20), "answer")
    with checks.check("an empty message"):
        expect(echo.unary("Unary", b"")[0], b"", "answer")
    with checks.check("a status that is not OK, with its message and trailers"):
        try:
            echo.unary("Fail", b"please")
            raise AssertionError("call succeeded")
        except grpc.RpcError as error:
            expect(error.code(), grpc.StatusCode.FAILED_PRECONDITION, "code")
            expect(error.details(), "not like this: please ✗", "details")
            expect_trailers(error)
    with checks.check("an unknown method is UNIMPLEMENTED"):
        try:
            echo.unary("Nothing", b"")
            raise AssertionError("call succeeded")
        except grpc.RpcError as error:
            expect(error.code(), grpc.StatusCode.UNIMPLEMENTED, "code")
    with checks.check("server stream of 1000 messages"):
        call = echo.server_stream(1000)
        expect([int(message) for message in call], list(range(1000)), "messages")
        expect_trailers(call)
    with checks.check("client stream"):
        answer, call = echo.client_stream(iter([b"x" * 1000] * 500))
        expect(answer, b"500000", "answer")
        expect_trailers(call)
    with checks.check("bidirectional stream, turn by turn"):
        outgoing: queue.Queue = queue.Queue()
        call = echo.bidi(iter(outgoing.get, None))
        for n in range(100):
            outgoing.put(str(n).encode())
            expect(next(call), str(n).encode(), "answer")
        outgoing.put(None)
        expect(list(call), [], "rest")
        expect_trailers(call)
    with checks.check("50 streams at once"):
        calls = [echo.server_stream(50) for _ in range(50)]
        expect({len(list(call)) for call in calls}, {50}, "messages of each")
    with checks.check("a cancelled stream leaves the channel usable"):
        call = echo.server_stream(10**6)
        next(call)
        call.cancel()
        expect(echo.unary("Unary", b"still here")[0], b"still here", "answer")
    with checks.check("a deadline ends a call with DEADLINE_EXCEEDED"):
        call = echo.bidi(iter(queue.Queue().get, None), timeout=0.3)
        try:
            next(call)
            raise AssertionError("got a message")
        except grpc.RpcError as error:
            expect(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED, "code")


def refused(echo: Echo, checks: Checks, code: str) -> None:
    calls = {
        "unary": lambda: echo.unary("Unary", b"hello"),
        "server stream": lambda: list(echo.server_stream(3)),
        "client stream": lambda: echo.client_stream(iter([b"x"])),
        "bidirectional stream": lambda: list(echo.bidi(iter([b"x"]))),
    }
    for name, call in calls.items():
        with checks.check(f"{name} ends with {code}"):
            try:
                call()
                raise AssertionError("call succeeded")
            except grpc.RpcError as error:
                expect(error.code().name, code, "code")


def hold(echo: Echo) -> None:
    outgoing: queue.Queue = queue.Queue()
    outgoing.put(b"are you there")
    call = echo.bidi(iter(outgoing.get, None), timeout=None)
    next(call)
    print(json.dumps({"open": True}), flush=True)
    started = time.monotonic()
    code, details = "OK", ""
    try:
        for _ in call:
            pass
    except grpc.RpcError as error:
        code, details = error.code().name, error.details()
    outgoing.put(None)
    print(json.dumps({"closed": code, "details": details, "seconds": round(time.monotonic() - started, 3)}), flush=True)


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
        return
    holding = "--hold" in sys.argv
    if holding:
        sys.argv.remove("--hold")
    options = arguments("grpcio", expect="status code every call must end with")
    echo = Echo(options)
    if holding:
        hold(echo)
        return
    checks = Checks()
    if options.expect:
        refused(echo, checks, options.expect)
    else:
        exchange(echo, checks)
    checks.exit()


main()
