"""portcullis itself: its configuration, its process, and a store filled with revocations that is kept from run to run."""
import hashlib, http.client, json, os, pathlib, secrets, shutil, subprocess, time

from machine import PROXY_CORES, ROOT, Process, free_port, give_up, say

CREDENTIAL = secrets.token_urlsafe(32)
SHAPES = (("token_id",), ("session",), ("user",), ("client", "user"), ("claim:device_id",), ("user", "claim:device_id"))
# A store is made anew long before its revocations expire, which is after the longest life of a token.
LIFETIME, KEPT_DAYS = "30d", 20
PATIENCE = 5


def binary():
    """The program to measure: PORTCULLIS_BINARY, or what cargo builds."""
    if named := os.environ.get("PORTCULLIS_BINARY"):
        return pathlib.Path(named).resolve()
    subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT, check=True)
    return ROOT / "target/release/portcullis"


class Gateway:
    def __init__(self, bench, name, auth="required", track=False, store=None, tls=False, more="", behind=None):
        self.folder = bench.folder / name
        self.folder.mkdir()
        self.binary, self.port, self.admin = bench.binary, free_port(), free_port()
        database = self.folder / "portcullis.db"
        if store:
            shutil.copyfile(store, database)
        certificate = f'tls = {{ cert = "{bench.folder}/cert.pem", key = "{bench.folder}/key.pem" }}' if tls else ""
        demands = 'auth = "none"' if auth == "none" else f'auth = "{auth}"\n            scopes = ["read"]'
        self.file = self.folder / "portcullis.toml"
        self.file.write_text(f"""
            [proxy]
            listen = "127.0.0.1:{self.port}"
            {certificate}
            [proxy.timeouts]
            idle = "30m"
            [proxy.limits]
            connections = 100000
            body_bytes = "1GiB"
            [admin]
            listen = "127.0.0.1:{self.admin}"
            [[admin.credentials]]
            name = "bench"
            token_sha256 = "{hashlib.sha256(CREDENTIAL.encode()).hexdigest()}"
            rights = ["admin"]
            [store]
            url = "sqlite:{database}"
            [log]
            access = false
            level = "warn"
            [sessions]
            track = {str(track).lower()}
            [upstream]
            idle_connections = 1024
            {more}
            [[issuers]]
            name = "main"
            issuer = "https://id.example.com/"
            jwks_file = "{bench.folder}/jwks.json"
            audiences = ["api"]
            algorithms = ["ES256", "RS256"]
            max_token_lifetime = "{LIFETIME}"
            [[routes]]
            path = "/"
            upstreams = ["http://127.0.0.1:{behind or bench.service.port}"]
            {demands}
        """)

    def command(self):
        return [self.binary, "serve", "--config", self.file]

    def start(self, cores=PROXY_CORES, under=(), patience=300):
        process = Process([*under, *self.command()], cores, self.folder / "log")
        process.port = self.port
        until = time.monotonic() + patience
        while time.monotonic() < until and process.process.poll() is None:
            try:
                if self.call("GET", "/readyz")[0] == 200:
                    return process
            except OSError:
                pass
            time.sleep(0.02)
        process.end()
        give_up(f"the gateway did not become ready:\n{process.log.read_text()[-2000:]}")

    def call(self, method, path, body=None, media="application/json"):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=900)
        headers = {"Authorization": f"Bearer {CREDENTIAL}"} | ({"Content-Type": media} if body else {})
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def filled_store(bench, revocations, shapes=1):
    """A SQLite file with so many revocations of strangers, made once and kept in the cache; None for none."""
    if not revocations:
        return None
    bench.cache.mkdir(parents=True, exist_ok=True)
    kept = bench.cache / f"{revocations}-in-{shapes}.db"
    if kept.exists() and time.time() - kept.stat().st_mtime < KEPT_DAYS * 86_400:
        return kept
    maker = Gateway(bench, f"filling-{revocations}-{shapes}")
    process = bench.started.add(maker.start(cores=sorted(os.sched_getaffinity(0))))
    began = time.monotonic()
    for start in range(0, revocations, 50_000):
        end = min(start + 50_000, revocations)
        body = "".join(map(line, range(start, end), [shapes] * (end - start))).encode()
        revoke(maker, body)
        say(f"{end:,} of {revocations:,} revocations after {time.monotonic() - began:.0f} s")
    process.end()
    source = maker.folder / "portcullis.db"
    left = source.with_name("portcullis.db-wal")
    if left.exists() and left.stat().st_size:
        give_up("the gateway left a write-ahead log behind")
    shutil.copyfile(source, kept.with_suffix(".new"))
    kept.with_suffix(".new").rename(kept)
    shutil.rmtree(maker.folder)
    return kept


def revoke(maker, body):
    """One call of bulk; what a busy store had no time for is asked again, as its answer says."""
    for attempt in range(PATIENCE):
        status, said = maker.call("POST", "/v1/revocations/bulk?quiet=true", body, "application/x-ndjson")
        failed = [json.loads(answer) for answer in said.splitlines()] if status == 200 else []
        if status == 200 and not failed:
            return
        if status != 200 or any(answer.get("status") != 503 for answer in failed) or attempt == PATIENCE - 1:
            give_up(f"the import was answered {status} {said[:300]}")
        say(f"the store had no time for {len(failed):,} lines; asking again")
        lines = body.splitlines(True)
        body = b"".join(lines[answer["line"] - 1] for answer in failed)


def line(n, shapes):
    named = {name: f"{name}-gone-{n:08}" for name in SHAPES[n % shapes]}
    return json.dumps({"selector": {"issuer": "main", **named}}) + "\n"
