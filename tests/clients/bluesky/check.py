"""Drives a bluesky-httpserver behind a gateway with the unmodified bluesky-queueserver-api client.

    check.py URL --admin URL --credential TEXT [--issuer NAME]

What the gateway adds by its own admin side, whose address --admin is: a session's end takes the access tokens along, a
user's end takes all sessions, API keys and everybody else stay. What the server does by itself, and must do behind a
gateway, is in check_bluesky.py.

Prints `ok NAME` or `FAIL NAME: why`; exit code 0 all ok, 1 a failure, 2 nobody answered.
"""

import base64
import json
import pathlib
import sys
import time
import urllib.request

from bluesky_queueserver_api.http import REManagerAPI

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "gate"))
from checks import Checks, arguments, expect  # noqa: E402

DEAD_SESSION = "Session has expired. Please re-authenticate."
UNKNOWN_SESSION = "00000000-0000-4000-8000-000000000000"
UNREACHABLE = (REManagerAPI.HTTPRequestError, REManagerAPI.RequestTimeoutError)


class Client:
    """One user at one console: the real client, and what it was given by the server."""

    def __init__(self, url: str, user: str) -> None:
        self.real = REManagerAPI(http_server_uri=url, http_auth_provider="/toy/token")
        self.user = user
        self.login = self.real.login(user, password=f"{user}_password")
        self.session = claims(self.login["refresh_token"])["sid"]

    def close(self) -> None:
        self.real.close()

    def listed_session(self, **credential) -> dict:
        """What the server says of this client's session; `whoami` spells its id with dashes, tokens without."""
        sessions = self.real.whoami(**credential)["sessions"]
        return next(found for found in sessions if found["uuid"].replace("-", "") == self.session)


def claims(token: str) -> dict:
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def refused(call, status: int, text: str = "") -> str:
    """Runs a call that must be refused so; answers the client's own words for it."""
    try:
        result = call()
    except (REManagerAPI.HTTPClientError, REManagerAPI.HTTPServerError) as error:
        expect(error.response.status_code, status, "status")
        if text not in str(error):
            raise AssertionError(f"{text!r} is not in {error}") from error
        return str(error)
    raise AssertionError(f"answered {result!r}")


def next_second() -> None:
    """Tokens count whole seconds, and carry nothing else that would tell two of one second apart."""
    time.sleep(1.05 - time.time() % 1)


class Gate:
    """The gateway's admin side."""

    def __init__(self, url: str, credential: str, issuer: str) -> None:
        self.url, self.credential, self.issuer = url, credential, issuer
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def revoke(self, **selector: str) -> None:
        body = json.dumps({"selector": {"issuer": self.issuer, **selector}}).encode()
        headers = {"Authorization": f"Bearer {self.credential}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/v1/revocations", body, headers)
        with self.opener.open(request, timeout=10) as answer:
            expect(answer.status in (200, 201), True, "revoked")


def check_gate(checks: Checks, url: str, gate: Gate) -> None:
    """What the gateway adds: the server's access tokens know no session, but it does."""
    next_second()  # else a session of before would share the access token
    bob, alice = Client(url, "bob"), Client(url, "alice")
    next_second()
    elsewhere = Client(url, "bob")
    key = bob.real.apikey_new(expires_in=300, note="check")
    next_second()
    second = bob.real.session_refresh()
    gate.revoke(session=bob.session)
    with checks.check("a session ended at the gate takes all its refresh tokens along"):
        for token in (bob.login["refresh_token"], second["refresh_token"]):
            refused(lambda: bob.real.session_refresh(refresh_token=token), 401, DEAD_SESSION)  # noqa: B023
    with checks.check("and the access tokens, which do not name it"):
        for token in (bob.login["access_token"], second["access_token"]):
            said = refused(lambda: bob.real.whoami(token=token), 401)  # noqa: B023
            expect("Access token has expired" in said, False, "words that make the client try a refresh")
    with checks.check("but neither the API key nor the user's other session nor anybody else"):
        expect(bob.listed_session(api_key=key["secret"])["revoked"], False, "the server was not asked to revoke")
        for client in (elsewhere, alice):
            client.real.whoami()
            client.real.session_refresh()
    with checks.check("a user ended at the gate loses every session, and keeps the API key"):
        gate.revoke(user=claims(bob.login["access_token"])["sub"])
        refused(elsewhere.real.whoami, 401)
        refused(elsewhere.real.session_refresh, 401, DEAD_SESSION)
        bob.real.whoami(api_key=key["secret"])
        alice.real.whoami()
    with checks.check("and may log in anew"):
        next_second()
        again = Client(url, "bob")
        again.real.whoami()
        again.real.session_refresh()
        again.close()
    for client in (bob, elsewhere, alice):
        client.close()


def main() -> None:
    given = arguments(
        __doc__.splitlines()[0], admin="the gateway's admin side", credential="a bearer credential for it",
        issuer="the gateway's name for the server's tokens",
    )
    checks = Checks()
    try:
        check_gate(checks, given.url, Gate(given.admin, given.credential, given.issuer or "bluesky"))
    except UNREACHABLE as error:
        print(f"FAIL {given.url}: {error}")
        sys.exit(2)
    checks.exit()


if __name__ == "__main__":
    main()
