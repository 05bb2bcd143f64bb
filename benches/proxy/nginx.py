"""nginx: the service behind, and the peer everything is compared with."""
from machine import LOAD_CORES, PROXY_CORES, Process, free_port, program

HELLO = b"hello"


class Service:
    """What all proxies stand before: small answers, files, a sink for uploads that it reads to the end, and a checker of tokens."""

    def __init__(self, bench, large_bytes=0, cores=LOAD_CORES, name="service"):
        self.port, folder = free_port(), bench.folder / name
        files = folder / "files"
        files.mkdir(parents=True)
        if large_bytes:
            for name, size in (("small", 1 << 20), ("large", large_bytes)):
                with open(files / name, "wb") as file:
                    file.truncate(size)
        block = f"""
            listen 127.0.0.1:{self.port} backlog=4096;
            client_max_body_size 0; client_body_buffer_size 128m;
            location / {{ return 200 '{HELLO.decode()}'; }}
            location = /check {{ return 204; }}
            location /files/ {{ root {folder}; sendfile on; }}
            location = /read {{ return 200 'read'; }}
            location = /sink {{
                proxy_pass http://127.0.0.1:{self.port}/read;
                proxy_pass_request_body off; proxy_set_header Content-Length "";
            }}"""
        self.process = bench.started.add(start(bench, name, block, cores, self.port))


def start(bench, name, server, cores=PROXY_CORES, port=None, http="", modules="", workers=1, under=(), single=False):
    """nginx with this server block; `single` is one process without workers, for tools that look at one."""
    folder = bench.folder / name
    folder.mkdir(exist_ok=True)
    spools = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(f"""
        {modules}
        daemon off; pid {folder}/pid; error_log stderr crit; worker_rlimit_nofile {bench.descriptors};
        {"master_process off;" if single else f"worker_processes {workers};"}
        {"user root;" if bench.root else ""}
        events {{ worker_connections {bench.descriptors // 2 + 5000}; }}
        http {{
            access_log off; keepalive_requests 1000000000; keepalive_timeout 30m; {spools}
            {http}
            server {{ {server} }}
        }}""")
    process = Process([*under, program("nginx"), "-p", folder, "-c", folder / "nginx.conf"], cores, folder / "log")
    process.port = port
    return process.wait_for(port)


def proxy(bench, name, listen="", location="", server="", behind=None, http="", pin=PROXY_CORES, **more):
    """nginx that proxies everything with kept connections, the leanest way it can."""
    port = free_port()
    group = f"upstream service {{ server 127.0.0.1:{behind or bench.service.port}; keepalive 1024; keepalive_requests 1000000000; }}"
    block = f"""
        listen 127.0.0.1:{port} backlog=4096 {listen}; client_max_body_size 0;
        {server}
        location / {{
            proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_max_temp_file_size 0; proxy_request_buffering off;
            {location}
        }}"""
    return bench.started.add(start(bench, name, block, pin, port, http=group + http, **more))


def tls(bench):
    """What a server block needs to speak TLS 1.3 with the certificate that all share."""
    return f"ssl_certificate {bench.folder}/cert.pem; ssl_certificate_key {bench.folder}/key.pem; ssl_protocols TLSv1.3;"
