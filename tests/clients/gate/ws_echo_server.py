"""A WebSocket echo server to stand behind the gateway.

    ws_echo_server.py [PORT]

Prints {"port": N, "url": "http://127.0.0.1:N"} when ready and exits when standard input closes. Echoes text and binary.
The text `close CODE REASON` makes it close so; `headers` is answered with the handshake's headers as JSON, a list of
pairs. A `bearer` subprotocol is accepted when it is offered. Each connection's end is a JSON line on standard output.
"""

import asyncio
import json
import sys

from checks import until_stdin_closes
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def echo(socket) -> None:
    path = socket.request.path
    user = socket.request.headers.get("X-Auth-User")
    print(json.dumps({"event": "open", "path": path, "user": user}), flush=True)
    try:
        async for message in socket:
            if isinstance(message, str) and message.startswith("close "):
                _, code, *reason = message.split(" ", 2)
                await socket.close(int(code), reason[0] if reason else "")
                break
            if message == "headers":
                message = json.dumps(list(socket.request.headers.raw_items()))
            await socket.send(message)
    except ConnectionClosed:
        pass
    await socket.wait_closed()
    print(json.dumps({"event": "closed", "path": path, "user": user, "code": socket.close_code}), flush=True)


def choose_subprotocol(_socket, offered):
    return "bearer" if "bearer" in offered else None


async def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    async with serve(echo, "127.0.0.1", port, max_size=64 * 2**20, select_subprotocol=choose_subprotocol) as server:
        port = server.sockets[0].getsockname()[1]
        print(json.dumps({"port": port, "url": f"http://127.0.0.1:{port}"}), flush=True)
        await until_stdin_closes()
        server.close(close_connections=True)


asyncio.run(main())
