"""websockets as a WebSocket client through the gateway, to an echo server such as ws_echo_server.py.

    websocket.py URL --token TOKEN [--ca CA.pem] [--via header|protocol|cookie:NAME|none] [--expect STATUS] [--hold]

URL is ws:// or wss:// with its path. --via protocol offers the subprotocols `bearer` and the token itself, the way a
browser has to. --expect 401 checks that the handshake is refused with that status. --hold prints a JSON line
{"open": true} and stays until the peer closes, then a line {"closed": CODE, "reason": TEXT, "seconds": N}.
"""

import asyncio
import json
import ssl
import sys
import time

from checks import Checks, arguments, expect
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


def how_to_connect(options) -> dict:
    via = options.via or "header"
    settings: dict = {"proxy": None, "max_size": 64 * 2**20, "open_timeout": 15}
    if options.url.startswith("wss:") and options.ca:
        settings["ssl"] = ssl.create_default_context(cafile=options.ca)
    if via == "header" and options.token:
        settings["additional_headers"] = {"Authorization": f"Bearer {options.token}"}
    elif via == "protocol":
        settings["subprotocols"] = ["bearer", options.token]
    elif via.startswith("cookie:"):
        settings["additional_headers"] = {"Cookie": f"{via.removeprefix('cookie:')}={options.token}"}
    return settings


async def hold(options) -> None:
    async with connect(options.url, **how_to_connect(options)) as socket:
        await socket.send("are you there")
        await socket.recv()
        print(json.dumps({"open": True}), flush=True)
        started = time.monotonic()
        try:
            while True:
                await socket.recv()
        except ConnectionClosed as closed:
            received = closed.rcvd
            print(json.dumps({
                "closed": received.code if received else 1006,
                "reason": received.reason if received else "",
                "seconds": round(time.monotonic() - started, 3),
            }), flush=True)


async def exchange(options, checks: Checks) -> None:
    settings = how_to_connect(options)
    with checks.check("handshake and text"):
        async with connect(options.url, **settings) as socket:
            if "subprotocols" in settings:
                assert socket.subprotocol != options.token, "the token came back as the chosen subprotocol"
            await socket.send("grüß gott")
            expect(await socket.recv(), "grüß gott", "echo")
    with checks.check("binary of 1 MiB, in fragments"):
        async with connect(options.url, **settings) as socket:
            part = bytes(range(256)) * 256
            await socket.send(part for _ in range(16))
            expect(await socket.recv(), part * 16, "echo")
    with checks.check("ping is answered"):
        async with connect(options.url, **settings) as socket:
            await asyncio.wait_for(await socket.ping(), 5)
    with checks.check("1000 messages keep their order"):
        async with connect(options.url, **settings) as socket:
            async def send() -> None:
                for n in range(1000):
                    await socket.send(str(n))
            sender = asyncio.create_task(send())
            expect([await socket.recv() for _ in range(1000)], [str(n) for n in range(1000)], "order")
            await sender
    with checks.check("our close code arrives and comes back"):
        async with connect(options.url, **settings) as socket:
            await socket.close(4000, "done")
            expect((socket.close_code, socket.close_reason), (4000, "done"), "close")
    with checks.check("the server's close code arrives"):
        async with connect(options.url, **settings) as socket:
            await socket.send("close 4321 because")
            try:
                await socket.recv()
                raise AssertionError("still open")
            except ConnectionClosed as closed:
                expect((closed.rcvd.code, closed.rcvd.reason), (4321, "because"), "close")


async def refused(options, checks: Checks) -> None:
    with checks.check(f"handshake is refused with {options.expect}"):
        try:
            async with connect(options.url, **how_to_connect(options)):
                raise AssertionError("handshake succeeded")
        except InvalidStatus as refusal:
            expect(refusal.response.status_code, int(options.expect), "status")


async def main() -> None:
    if "--hold" in sys.argv:
        sys.argv.remove("--hold")
        await hold(arguments("hold a WebSocket open", via="where the token stands"))
        return
    options = arguments("websockets", via="where the token stands", expect="status of a refused handshake")
    checks = Checks()
    await (refused if options.expect else exchange)(options, checks)
    checks.exit()


asyncio.run(main())
