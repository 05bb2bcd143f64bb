"""Other proxies, where they are found on the machine. Each answers (name, process, algorithm of its tokens) or is missing."""
import json, pathlib

import nginx
from machine import HERE, PROXY_CORES, Process, free_port, program

ISSUER = "https://id.example.com/"


class Missing(Exception):
    """A peer that cannot be measured here, and why."""


def need(name, hint):
    found = program(name)
    if not found:
        raise Missing(f"{name} ({hint})")
    return found


def serve(bench, name, command, port):
    process = Process(command, PROXY_CORES, bench.folder / f"{name}.log")
    process.port = port
    return bench.started.add(process.wait_for(port))


def haproxy(bench):
    found = need("haproxy", "on Debian: apt install haproxy")
    yield "HAProxy, no auth", haproxy_process(bench, found, "haproxy", ""), None
    for algorithm in ("ES256", "RS256"):
        checks = f"""
            http-request set-var(txn.token) http_auth_bearer
            http-request set-var(txn.alg) var(txn.token),jwt_header_query('$.alg')
            http-request set-var(txn.iss) var(txn.token),jwt_payload_query('$.iss')
            http-request set-var(txn.aud) var(txn.token),jwt_payload_query('$.aud')
            http-request set-var(txn.scope) var(txn.token),jwt_payload_query('$.scope')
            http-request set-var(txn.exp) var(txn.token),jwt_payload_query('$.exp','int')
            http-request set-var(txn.now) date()
            http-request deny deny_status 401 unless {{ var(txn.alg) -m str {algorithm} }}
            http-request deny deny_status 401 unless {{ var(txn.iss) -m str {ISSUER} }}
            http-request deny deny_status 401 unless {{ var(txn.aud) -m str api }}
            http-request deny deny_status 403 unless {{ var(txn.scope) -m sub read }}
            http-request deny deny_status 401 if {{ var(txn.exp),sub(txn.now) -m int lt 0 }}
            http-request deny deny_status 401 unless {{ var(txn.token),jwt_verify(txn.alg,"{bench.folder}/{algorithm}.pem") -m int 1 }}"""
        yield f"HAProxy, jwt_verify, {algorithm}", haproxy_process(bench, found, f"haproxy-{algorithm}", checks), algorithm


def haproxy_process(bench, found, name, checks):
    port, file = free_port(), bench.folder / f"{name}.cfg"
    file.write_text(f"""
        global
            nbthread 1
            maxconn 4000
        defaults
            mode http
            timeout connect 5s
            timeout client 30m
            timeout server 60s
            timeout http-keep-alive 30m
        frontend f
            bind 127.0.0.1:{port}
            {checks}
            default_backend b
        backend b
            http-reuse always
            server s 127.0.0.1:{bench.service.port}
        """.replace("\n        ", "\n") + "\n")
    return serve(bench, name, [found, "-db", "-f", file], port)


def nginx_auth_request(bench):
    location = "auth_request /auth;"
    server = f"""location = /auth {{
        internal; proxy_pass http://service/check; proxy_http_version 1.1; proxy_set_header Connection "";
        proxy_pass_request_body off; proxy_set_header Content-Length ""; }}"""
    process = nginx.proxy(bench, "nginx-auth-request", location=location, server=server)
    yield "nginx, auth_request (the checker's own work is not counted)", process, "ES256"


def nginx_lua(bench):
    folder = pathlib.Path("/usr/share/nginx/modules")
    modules = [folder / "ndk_http_module.so", folder / "ngx_http_lua_module.so"]
    if not all(module.exists() for module in modules):
        raise Missing("nginx with Lua (on Debian: apt install libnginx-mod-http-lua)")
    for algorithm in ("ES256", "RS256"):
        http = f"""lua_package_path "{HERE}/?.lua;;"; lua_shared_dict verified 64m;
            init_by_lua_block {{
                verify = require("verify").new("{bench.folder}/{algorithm}.pem", "{algorithm}", "{ISSUER}", "api", "read")
            }}"""
        process = nginx.proxy(bench, f"nginx-lua-{algorithm}", location="access_by_lua_block { verify() }", http=http,
                              modules="".join(f"load_module {module}; " for module in modules))
        yield f"nginx with Lua and a cache of verified tokens, {algorithm}", process, algorithm


def caddy(bench):
    found, port, folder = need("caddy", "on Debian: apt install caddy"), free_port(), bench.folder / "caddy"
    folder.mkdir()
    (folder / "Caddyfile").write_text(f"""{{
        admin off
        auto_https off
        storage file_system {folder}
        log {{
            level ERROR
        }}
    }}
    http://:{port} {{
        bind 127.0.0.1
        reverse_proxy 127.0.0.1:{bench.service.port} {{
            transport http {{
                keepalive_idle_conns 1024
                keepalive_idle_conns_per_host 1024
                compression off
            }}
        }}
    }}
    """)
    yield "Caddy, no auth", serve(bench, "caddy", [found, "run", "--config", folder / "Caddyfile"], port), None


def envoy(bench):
    found = need("envoy", "not in Debian; see envoyproxy.io")
    yield "Envoy, no auth", envoy_process(bench, found, "envoy", []), None
    provider = {"issuer": ISSUER, "audiences": ["api"], "forward": True, "local_jwks": {"filename": f"{bench.folder}/jwks.json"},
                "jwt_cache_config": {"jwt_cache_size": 20_000}}
    check = {"name": "envoy.filters.http.jwt_authn", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": {"main": provider}, "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "main"}}]}}
    process = envoy_process(bench, found, "envoy-jwt", [check])
    for algorithm in ("ES256", "RS256"):
        yield f"Envoy, jwt_authn with its cache, {algorithm}", process, algorithm


def envoy_process(bench, found, name, filters):
    port, file = free_port(), bench.folder / f"{name}.json"
    address = lambda number: {"socket_address": {"address": "127.0.0.1", "port_value": number}}
    router = {"name": "envoy.filters.http.router",
              "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}
    route = {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"],
                                           "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "service"}}]}]}
    manager = {"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
               "stat_prefix": "h", "route_config": route, "http_filters": [*filters, router]}
    listener = {"address": address(port), "filter_chains": [
        {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]}
    endpoint = {"lb_endpoints": [{"endpoint": {"address": address(bench.service.port)}}]}
    cluster = {"name": "service", "type": "STATIC", "load_assignment": {"cluster_name": "service", "endpoints": [endpoint]}}
    file.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    command = [found, "-c", file, "--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]
    return serve(bench, name, command, port)


def pingora(bench):
    """A program named by --pingora: `PROGRAM LISTEN_ADDRESS UPSTREAM_ADDRESS` proxies from the one to the other."""
    if not bench.pingora:
        raise Missing("Pingora (name a program by --pingora)")
    port = free_port()
    command = [bench.pingora, f"127.0.0.1:{port}", f"127.0.0.1:{bench.service.port}"]
    yield "Pingora, no auth", serve(bench, "pingora", command, port), None


def minimal(bench):
    """A program named by --minimal, called like --pingora's: the floor of what an HTTP library can do."""
    if not bench.minimal:
        raise Missing("a minimal proxy (name a program by --minimal)")
    port = free_port()
    command = [bench.minimal, f"127.0.0.1:{port}", f"127.0.0.1:{bench.service.port}"]
    yield f"{bench.minimal.name}, no auth", serve(bench, "minimal", command, port), None


ALL = (haproxy, nginx_auth_request, nginx_lua, caddy, envoy, pingora, minimal)
