"""What the benchmark of fleets stands on: real stores, gateways, a service behind, and load. All of it ends with this process."""
import glob, hashlib, http.client, json, os, pathlib, pwd, re, secrets, shutil, socket, subprocess, sys, time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CREDENTIAL = secrets.token_urlsafe(32)


def give_up(text):
    # Printed here, since what a thread gives up with is seen by nobody.
    print(f"benches/fleet/run: {text}", file=sys.stderr)
    sys.exit(1)


def need(*programs):
    for program in programs:
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            give_up(f"{program} is missing; on Debian: apt install nginx-light wrk nodejs util-linux redis-server postgresql")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A program that dies with this one."""

    def __init__(self, command, user=None, log=None):
        wrapped = ["setpriv", "--pdeathsig", "KILL"]
        if user and os.getuid() == 0:
            wrapped += ["--reuid", user, "--regid", user, "--clear-groups"]
        said = open(log, "w") if log else None
        self.process = subprocess.Popen([*wrapped, *map(str, command)], stdout=subprocess.DEVNULL, stderr=said, cwd="/")
        self.pid = self.process.pid

    def end(self, signal=15):
        if self.process.poll() is None:
            self.process.send_signal(signal)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def wait_for(self, port, seconds=30):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                return socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                time.sleep(0.01)
        give_up(f"nothing listens on port {port}")

    def memory(self, field):
        """Bytes: VmRSS now, VmHWM at the most."""
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"{field}:\s+(\d+)", text)[1]) * 1024


# --- stores: each has a name, a URL, `what` it is, and an end ---


class Sqlite:
    name, what, shared = "sqlite", "SQLite, synchronous=FULL", False

    def __init__(self, folder):
        self.url = f"sqlite:{folder}/portcullis.db"

    def end(self):
        pass


class Postgres:
    name, shared = "postgres", True

    def __init__(self, folder):
        tools = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
        if not tools:
            give_up("PostgreSQL is missing; on Debian: apt install postgresql")
        self.what = f"PostgreSQL {tools[-1].split('/')[4]}, fsync on"
        data, port = folder / "postgres", free_port()
        data.mkdir(mode=0o700)
        user = None
        if os.getuid() == 0:
            user = "postgres"
            # The folder above is ours alone; the server has to get through.
            folder.chmod(0o711)
            shutil.chown(data, user)
        initdb = Process([f"{tools[-1]}/initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D", data], user)
        if initdb.process.wait(120):
            give_up("initdb failed")
        settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": data, "shared_buffers": "512MB",
                    "max_wal_size": "4GB", "max_connections": 100, "log_min_messages": "fatal"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self.process = Process([f"{tools[-1]}/postgres", "-D", data, *options], user)
        self.process.wait_for(port)
        time.sleep(1)
        self.url = f"postgres://postgres@127.0.0.1:{port}/postgres"

    def end(self):
        self.process.end(2)


class Redis:
    name, shared = "redis", True

    def __init__(self, folder, fsync="everysec"):
        self.what, port = f"Redis, appendonly, appendfsync {fsync}", free_port()
        data = folder / "redis"
        data.mkdir()
        lines = [f"port {port}", "bind 127.0.0.1", f"dir {data}", "appendonly yes", f"appendfsync {fsync}", 'save ""',
                 f"logfile {data}/log"]
        (data / "redis.conf").write_text("\n".join(lines) + "\n")
        self.process = Process(["redis-server", data / "redis.conf"])
        self.process.wait_for(port)
        self.url = f"redis://127.0.0.1:{port}"

    def end(self):
        self.process.end(9)


STORES = {store.name: store for store in (Sqlite, Postgres, Redis)}


# --- the service behind, and the gateways ---


def service(folder, connections=512):
    place, port = folder / "service", free_port()
    place.mkdir()
    paths = " ".join(f"{kind}_temp_path {place}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (place / "nginx.conf").write_text(f"""
        daemon off; worker_processes 1; pid {place}/pid; error_log stderr crit;
        events {{ worker_connections {connections * 4}; }}
        http {{ access_log off; keepalive_requests 1000000000; {paths}
            server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 'hello'; }} }} }}""")
    process = Process([shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin"), "-p", place, "-c", place / "nginx.conf"])
    process.wait_for(port)
    return process, port


class Gateway:
    """A replica: its process, its ports, and calls of its admin side."""

    def __init__(self, binary, folder, name, url, behind, more=""):
        self.binary, self.file = binary, folder / f"{name}.toml"
        self.proxy, self.admin = free_port(), free_port()
        replica = "" if url.startswith("sqlite") else f'replica = "{name}"'
        self.file.write_text(f"""
            [proxy]
            listen = "127.0.0.1:{self.proxy}"
            [admin]
            listen = "127.0.0.1:{self.admin}"
            [[admin.credentials]]
            name = "bench"
            token_sha256 = "{hashlib.sha256(CREDENTIAL.encode()).hexdigest()}"
            rights = ["admin"]
            [store]
            url = "{url}"
            {replica}
            {more}
            [log]
            access = false
            level = "warn"
            [[issuers]]
            name = "main"
            issuer = "https://id.example.com/"
            jwks_file = "{folder}/jwks.json"
            audiences = ["api"]
            algorithms = ["ES256"]
            max_token_lifetime = "24h"
            [[routes]]
            path = "/"
            upstreams = ["http://127.0.0.1:{behind}"]
        """)

    def start(self, patience=120):
        """Starts it; answers how many seconds it took until it was ready."""
        began = time.monotonic()
        log = self.file.with_suffix(".log")
        self.process = Process([self.binary, "serve", "--config", self.file], log=log)
        while time.monotonic() - began < patience:
            if self.process.process.poll() is not None:
                give_up(f"the gateway ended:\n{log.read_text()}")
            try:
                if self.call("GET", "/readyz")[0] == 200:
                    return time.monotonic() - began
            except OSError:
                pass
            time.sleep(0.01)
        give_up(f"the gateway was not ready within {patience} s")

    def call(self, method, path, body=None, media="application/json"):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=600)
        headers = {"Authorization": f"Bearer {CREDENTIAL}"} | ({"Content-Type": media} if body else {})
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def bulk(self, prefix, start, count):
        """Revokes so many strangers in one call; answers how many seconds it took."""
        line = '{"selector":{"issuer":"main","token_id":"%s-%d"}}\n'
        body = "".join(line % (prefix, n) for n in range(start, start + count)).encode()
        began = time.monotonic()
        status, said = self.call("POST", "/v1/revocations/bulk?quiet=true", body, "application/x-ndjson")
        if status != 200 or said.strip():
            give_up(f"the import was answered {status} {said[:200]}")
        return time.monotonic() - began

    def end(self, signal=15):
        self.process.end(signal)


# --- load ---


def wrk(port, seconds, connections, wait=True, **words):
    """Runs wrk; answers its figures, or the process that will."""
    env = {**os.environ, **{name.upper(): str(value) for name, value in words.items()}}
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(HERE / "load.lua")]
    process = subprocess.Popen([*command, f"http://127.0.0.1:{port}/"], env=env, stdout=subprocess.PIPE, text=True)
    return figures(process) if wait else process


def figures(process):
    text = process.communicate()[0]
    latency = {}
    for part, number, unit in re.findall(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m)$", text, re.M):
        latency[f"p{part}_ms"] = float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60000}[unit]
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if not rate:
        give_up(f"wrk said {text!r}")
    return {"per_second": float(rate[1]), "failed": int(failed[1]) if failed else 0, **latency}


def pause_for(per_second, connections):
    """The pause of each connection, in whole milliseconds, that makes about so many requests a second."""
    return max(1, round(1000 * connections / max(per_second, 1)))
