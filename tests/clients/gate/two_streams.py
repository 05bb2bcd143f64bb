"""httpx with two streams of two tokens on one HTTP/2 connection, one of which is expected to end.

    two_streams.py URL --token TOKEN --other TOKEN [--ca CA.pem] [--path /]

Prints {"open": true} when both answers have begun, {"ended": HOW, "seconds": N} when the first one ends, and then
{"other": "open", "status": N}: the other one has not ended, and a new request with its token on the same connection was
answered so.
"""

import asyncio
import json
import ssl
import time

import httpx
from checks import arguments, expect


def say(**line) -> None:
    print(json.dumps(line), flush=True)


async def main() -> None:
    options = arguments("two streams", path="path to GET (default /)", other="token of the stream that stays")
    verify = ssl.create_default_context(cafile=options.ca) if options.ca else True
    client = httpx.AsyncClient(
        http1=False, http2=True, verify=verify, base_url=options.url, timeout=60, trust_env=False,
        limits=httpx.Limits(max_connections=1),
    )
    bearer = lambda token: {"authorization": f"Bearer {token}"}
    async with client:
        path = options.path or "/"
        async with client.stream("GET", path, headers=bearer(options.token)) as first:
            async with client.stream("GET", path, headers=bearer(options.other)) as other:
                expect((first.status_code, other.status_code), (200, 200), "statuses")
                pieces, others = first.aiter_raw(), other.aiter_raw()
                await anext(pieces)
                await anext(others)
                waiting = asyncio.create_task(anext(others))
                say(open=True)
                started, how = time.monotonic(), "end"
                try:
                    async for _ in pieces:
                        pass
                except httpx.HTTPError as error:
                    how = type(error).__name__
                say(ended=how, seconds=round(time.monotonic() - started, 3))
                answer = await client.get("/", headers=bearer(options.other))
                say(other="ended" if waiting.done() else "open", status=answer.status_code)
                waiting.cancel()


asyncio.run(main())
