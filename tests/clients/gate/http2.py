"""httpx over HTTP/2: by TLS and ALPN for https://, by prior knowledge for http:// (h2c).

    http2.py URL --token TOKEN [--ca CA.pem] [--path /] [--post-path PATH] [--streams 100] [--expect 200]

With --expect 401 it only checks that everything is refused with that status. --post-path names a path that answers POST
with success (a body echo is compared when the answer has the request's content type `application/x-echo`).
"""

import asyncio
import hashlib
import ssl

import httpx
from checks import Checks, arguments, expect

CHUNK = bytes(range(256)) * 256


async def body(chunks: int):
    for _ in range(chunks):
        yield CHUNK


async def main() -> None:
    options = arguments(
        "httpx over HTTP/2",
        path="path to GET (default /)",
        post_path="path that takes POST",
        streams="requests at once (default 100)",
        expect="status every answer must have (default: 200)",
    )
    path, streams, wanted = options.path or "/", int(options.streams or 100), int(options.expect or 200)
    verify = ssl.create_default_context(cafile=options.ca) if options.ca else True
    headers = {"authorization": f"Bearer {options.token}"} if options.token else {}
    checks = Checks()
    # http1=False on a plain connection makes httpcore speak HTTP/2 at once: prior knowledge.
    client = httpx.AsyncClient(
        http1=False, http2=True, verify=verify, base_url=options.url, headers=headers, timeout=30, trust_env=False,
        limits=httpx.Limits(max_connections=1),
    )
    async with client:
        with checks.check("GET speaks HTTP/2"):
            answer = await client.get(path)
            expect(answer.http_version, "HTTP/2", "version")
            expect(answer.status_code, wanted, "status")
            if wanted == 401:
                challenge = answer.headers.get("www-authenticate", "")
                assert challenge.lower().startswith("bearer"), f"challenge is {challenge!r}"
        with checks.check("HEAD has no body"):
            answer = await client.head(path)
            expect((answer.status_code, answer.content), (wanted, b""), "answer")
        with checks.check(f"{streams} streams on one connection"):
            answers = await asyncio.gather(*(client.get(path, headers={"x-test-tag": f"h2-{n}"}) for n in range(streams)))
            expect({answer.status_code for answer in answers}, {wanted}, "statuses")
            expect({answer.http_version for answer in answers}, {"HTTP/2"}, "versions")
            expect(len({hashlib.sha256(answer.content).digest() for answer in answers}), 1, "number of different bodies")
        if options.post_path and wanted == 200:
            for name, content in {"an empty body": b"", "a short body": b"hello", "a streamed body of 8 MiB": None}.items():
                with checks.check(f"POST with {name}"):
                    data = body(128) if content is None else content
                    answer = await client.post(options.post_path, content=data, headers={"content-type": "application/x-echo"})
                    assert answer.is_success, f"status is {answer.status_code}: {answer.text[:200]}"
                    if answer.headers.get("content-type") == "application/x-echo":
                        sent = CHUNK * 128 if content is None else content
                        expect(hashlib.sha256(answer.content).digest(), hashlib.sha256(sent).digest(), "digest of the echo")
        with checks.check("an answer left unread leaves the connection usable"):
            async with client.stream("GET", path) as answer:
                expect(answer.status_code, wanted, "status")
            expect((await client.get(path)).status_code, wanted, "status afterwards")
    checks.exit()


asyncio.run(main())
