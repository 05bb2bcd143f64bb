"""Load, and whether it was answered as it should be: every load says what it sent, what came back, and fails loudly."""
import json, os, re, socket, ssl, subprocess

from machine import HERE, LOAD_CORES, give_up

CONNECTIONS = 64


def pinned(cores=LOAD_CORES):
    return ["taskset", "-c", ",".join(map(str, cores))]


def wrk(port, seconds, tokens=None, path="/", body_bytes=0, connections=CONNECTIONS, tls=False, cores=LOAD_CORES, expect=None):
    """Asks as fast as it can; answers what wrk counted. All answers must be 200, and as long as the one looked at before."""
    one = probe(port, tokens, path, body_bytes, tls, expect)
    env = {**os.environ, "REQUEST_PATH": path, "BODY_BYTES": str(body_bytes), **({"TOKENS": str(tokens)} if tokens else {})}
    command = [*pinned(cores), "wrk", f"-t{min(len(cores), 2)}", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s",
               "-s", HERE / "load.lua", f"{'https' if tls else 'http'}://127.0.0.1:{port}/"]
    ran = subprocess.run(command, env=env, capture_output=True, text=True)
    found = re.search(r"^RESULT (.+)$", ran.stdout, re.M)
    if not found:
        give_up(f"wrk said {ran.stdout!r} {ran.stderr!r}")
    result = json.loads(found[1])
    wrong = abs(result["bytes"] - result["requests"] * one) > one * connections
    if result["not_ok"] or result["broken"] or wrong or not result["requests"]:
        give_up(f"answers of {one} bytes were expected from port {port}{path}, wrk counted {result}")
    return result


def h2load(port, seconds, size, token=None, path="/", clients=10, streams=100, tls=False):
    """HTTP/2 as fast as it can, every answer 200 and of `size` bytes."""
    command = [*pinned(), "h2load", f"-c{clients}", f"-m{streams}", f"-D{seconds}", "-t1"]
    command += ["-H", f"Authorization: Bearer {token}"] if token else []
    ran = subprocess.run([*command, f"{'https' if tls else 'http'}://127.0.0.1:{port}{path}"], capture_output=True, text=True)
    counts = re.search(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", ran.stdout)
    good = re.search(r"status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx", ran.stdout)
    data = re.search(r"\((\d+)\) data", ran.stdout)
    if not counts or not good or not data or int(good[1]) == 0:
        give_up(f"h2load said {ran.stdout} {ran.stderr}")
    requests = int(counts[1])
    # What was still under way when the time was up counts as neither.
    if int(counts[3]) - int(counts[4]) or abs(int(data[1]) - size * int(good[1])) > size * clients * streams:
        give_up(f"h2load said {ran.stdout}")
    return {"requests": requests, "micros": seconds * 1_000_000}


def first(tokens):
    with open(tokens) as file:
        return file.readline().strip()


def request_bytes(tokens=None, path="/", body_bytes=0, close=False):
    head = [f"{'POST' if body_bytes else 'GET'} {path} HTTP/1.1", "Host: bench"]
    head += [f"Authorization: Bearer {first(tokens)}"] if tokens else []
    head += [f"Content-Length: {body_bytes}"] if body_bytes else []
    head += ["Connection: close"] if close else []
    return ("\r\n".join(head) + "\r\n\r\n").encode() + bytes(body_bytes)


def probe(port, tokens=None, path="/", body_bytes=0, tls=False, expect=None):
    """Asks once, in the words of the load, and looks at the answer; its length in bytes, head and all."""
    with connect(port, tls) as connection:
        connection.sendall(request_bytes(tokens, path, body_bytes))
        status, head, body = read_answer(connection)
    if status != 200 or (expect is not None and body != expect):
        give_up(f"port {port}{path} answered {status} with {body[:200]!r}, not 200 with {expect!r}")
    return head + len(body)


def connect(port, tls=False, alpn=("http/1.1",)):
    plain = socket.create_connection(("127.0.0.1", port), 30)
    if not tls:
        return plain
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(alpn)
    return context.wrap_socket(plain, server_hostname="localhost")


def read_answer(connection):
    """Status, length of the head, and the body of one answer that says its length."""
    text = b""
    while b"\r\n\r\n" not in text:
        piece = connection.recv(65536)
        if not piece:
            give_up(f"the connection ended after {text[:200]!r}")
        text += piece
    head, _, body = text.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
    pieces, missing = [body], int(length[1]) - len(body) if length else 0
    while missing > 0:
        piece = connection.recv(1 << 20)
        if not piece:
            give_up("the connection ended within a body")
        pieces.append(piece)
        missing -= len(piece)
    return int(head.split(b" ", 2)[1]), len(head) + 4, b"".join(pieces)
