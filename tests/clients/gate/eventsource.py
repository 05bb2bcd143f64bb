"""Reads a stream of server-sent events as a browser's EventSource does (WHATWG HTML, section 9.2).

    eventsource.py URL [--token TOKEN] [--ca CA.pem] [--count N] [--seconds S] [--last-event-id ID] [--reconnects N]

Prints each event as a JSON line {"event", "data", "id"}, and {"open": true} and {"closed": WHY} around each connection.
Reconnects after the server's `retry:` time with Last-Event-ID, as often as --reconnects says (default 0). Exits with 0
after N events, or when a stream ended and no reconnect is left while no --count was given; 1 when fewer came; 2 when an
answer was not an event stream (a line {"status", "type"} says what it was).
"""

import json
import ssl
import sys
import time

import httpx
from checks import arguments


class Parser:
    """Lines end with CR, LF or CRLF; an event ends with an empty line; an incomplete one is dropped."""

    def __init__(self, last_event_id: str) -> None:
        self.id = last_event_id
        self.retry_secs = 0.2
        self._buffer = ""
        self._start()

    def _start(self) -> None:
        self._event, self._data = "", []

    def feed(self, text: str):
        self._buffer += text
        while True:
            ends = [at for at in (self._buffer.find("\r"), self._buffer.find("\n")) if at >= 0]
            if not ends:
                return
            end = min(ends)
            if self._buffer[end] == "\r" and end + 1 == len(self._buffer):
                return  # the LF of a CRLF may be on its way
            line, width = self._buffer[:end], 2 if self._buffer[end : end + 2] == "\r\n" else 1
            self._buffer = self._buffer[end + width :]
            event = self._line(line)
            if event:
                yield event

    def _line(self, line: str):
        if not line:
            event = {"event": self._event or "message", "data": "\n".join(self._data), "id": self.id}
            complete = bool(self._data)
            self._start()
            return event if complete else None
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._event = value
        elif field == "data":
            self._data.append(value)
        elif field == "id" and "\0" not in value:
            self.id = value
        elif field == "retry" and value.isascii() and value.isdigit():
            self.retry_secs = int(value) / 1000
        return None  # a comment, or a field nobody knows


def say(**line) -> None:
    print(json.dumps(line, ensure_ascii=False), flush=True)


def read_once(client: httpx.Client, options, parser: Parser, seen: int, deadline: float) -> int:
    headers = {"accept": "text/event-stream", "cache-control": "no-store"}
    if options.token:
        headers["authorization"] = f"Bearer {options.token}"
    if parser.id:
        headers["last-event-id"] = parser.id
    with client.stream("GET", options.url, headers=headers) as answer:
        kind = answer.headers.get("content-type", "").partition(";")[0].strip()
        if answer.status_code != 200 or kind != "text/event-stream":
            say(status=answer.status_code, type=kind)
            sys.exit(2)
        say(open=True)
        why = "end"
        try:
            first = True
            for text in answer.iter_text():
                for event in parser.feed(text.removeprefix("\ufeff") if first else text):
                    say(**event)
                    seen += 1
                    if options.count and seen >= int(options.count):
                        sys.exit(0)
                first = False
                if time.monotonic() > deadline:
                    sys.exit(1 if options.count else 0)
        except httpx.HTTPError as error:
            why = type(error).__name__
        say(closed=why)
        return seen


def main() -> None:
    options = arguments(
        "EventSource",
        count="events to wait for",
        seconds="give up after so long",
        last_event_id="where to go on",
        reconnects="how often to reconnect",
    )
    seconds = float(options.seconds or 30)
    deadline = time.monotonic() + seconds
    verify = ssl.create_default_context(cafile=options.ca) if options.ca else True
    timeout = httpx.Timeout(10, read=seconds)
    parser = Parser(options.last_event_id or "")
    seen = 0
    with httpx.Client(verify=verify, timeout=timeout, trust_env=False) as client:
        try:
            for attempt in range(int(options.reconnects or 0) + 1):
                if attempt:
                    time.sleep(parser.retry_secs)
                parser = Parser(parser.id) if attempt else parser
                seen = read_once(client, options, parser, seen, deadline)
        except httpx.HTTPError as error:
            say(closed=type(error).__name__)
    sys.exit(1 if options.count and seen < int(options.count) else 0)


main()
