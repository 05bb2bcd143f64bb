//! Malformed requests, tokens, admin bodies and configurations: answered or closed, never a failure of our own, and never
//! seen by the upstream. Honest clients are served throughout, and memory stays flat.

use std::process::Command;

use serde_json::{Value, json};

use crate::rig::gateway::BINARY;
use crate::rig::keys::b64;
use crate::rig::raw::{exchange, statuses};
use crate::rig::upstream::TAG;
use crate::rig::{Dice, Rig, program};

/// What a gate may say to nonsense: an answer below 500, or nothing and a closed connection.
fn harmless(answer: &[u8]) -> bool {
    statuses(answer).iter().all(|status| (200..500).contains(status))
}

/// Requests that must be refused. `TOKEN` stands for a good token, `TAG` for the name by which the upstream would know them,
/// and a line ends with CR LF unless it says otherwise.
fn corpus() -> Vec<(&'static str, String)> {
    let request = |line: &str, headers: &str, body: &str| {
        format!("{line}\r\nHost: gate.test\r\nAuthorization: Bearer TOKEN\r\nX-Tag: TAG\r\n{headers}\r\n{body}")
    };
    let post = |headers: &str, body: &str| request("POST / HTTP/1.1", headers, body);
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: gate.test\r\n\r\n";
    let mut all = vec![
        ("length and chunks", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", chunks)),
        ("chunks and length", post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", smuggled)),
        ("two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!")),
        ("a list of lengths", post("Content-Length: 5, 6\r\n", "hello!")),
        ("a signed length", post("Content-Length: +5\r\n", "hello")),
        ("a negative length", post("Content-Length: -5\r\n", "hello")),
        ("a hexadecimal length", post("Content-Length: 0x5\r\n", "hello")),
        ("a length with a blank", post("Content-Length: 5 5\r\n", "hello")),
        ("a length too large", post("Content-Length: 99999999999999999999999\r\n", "hello")),
        ("an empty length", post("Content-Length: \r\n", "hello")),
        ("chunks in HTTP/1.0", request("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n", chunks)),
        ("identity, chunked", post("Transfer-Encoding: identity, chunked\r\n", chunks)),
        ("gzip, chunked", post("Transfer-Encoding: gzip, chunked\r\n", chunks)),
        ("chunked twice", post("Transfer-Encoding: chunked, chunked\r\n", chunks)),
        ("chunked in two fields", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunks)),
        ("chunked then identity", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", chunks)),
        ("a list with empty members", post("Transfer-Encoding: , chunked\r\n", chunks)),
        ("xchunked", post("Transfer-Encoding: xchunked\r\n", chunks)),
        ("quoted chunked", post("Transfer-Encoding: \"chunked\"\r\n", chunks)),
        ("chunked with a parameter", post("Transfer-Encoding: chunked;q=1\r\n", chunks)),
        ("chunked after a vertical tab", post("Transfer-Encoding: \x0bchunked\r\n", chunks)),
        ("an empty transfer encoding", post("Transfer-Encoding: \r\nContent-Length: 5\r\n", "hello")),
        ("a blank before the colon", post("Transfer-Encoding : chunked\r\n", chunks)),
        ("a blank before the name", post(" Transfer-Encoding: chunked\r\n", chunks)),
        ("a folded line", post("X-Folded: one\r\n two\r\n", "")),
        ("a folded transfer encoding", post("Transfer-Encoding:\r\n chunked\r\n", chunks)),
        ("NUL in a value", post("X-Nul: a\0b\r\n", "")),
        ("NUL in a name", post("X-N\0ul: a\r\n", "")),
        ("a bare CR in a value", post("X-Cr: a\rb\r\n", "")),
        ("a bare LF ends a line", post("X-Lf: a\nX-Other: b\r\n", "")),
        ("no colon", post("X-No-Colon\r\n", "")),
        ("an empty name", post(": value\r\n", "")),
        ("a name with a bracket", post("X(a): b\r\n", "")),
        ("a chunk size with junk", post("Transfer-Encoding: chunked\r\n", "5x\r\nhello\r\n0\r\n\r\n")),
        ("a chunk size with a sign", post("Transfer-Encoding: chunked\r\n", "+5\r\nhello\r\n0\r\n\r\n")),
        ("a chunk size with 0x", post("Transfer-Encoding: chunked\r\n", "0x5\r\nhello\r\n0\r\n\r\n")),
        ("an empty chunk size", post("Transfer-Encoding: chunked\r\n", "\r\nhello\r\n0\r\n\r\n")),
        ("a chunk size too large", post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n")),
        ("a chunk longer than it says", post("Transfer-Encoding: chunked\r\n", "3\r\nhello\r\n0\r\n\r\n")),
        ("a chunk ended by LF", post("Transfer-Encoding: chunked\r\n", "5\nhello\n0\n\n")),
        ("two hosts", post("Host: other.test\r\n", "")),
        ("absolute form of another host", request("GET http://other.test/ HTTP/1.1", "", "")),
        ("absolute form with a user", request("GET http://user@gate.test/ HTTP/1.1", "", "")),
        ("a path without a slash", request("GET admin HTTP/1.1", "", "")),
        ("CONNECT", request("CONNECT gate.test:443 HTTP/1.1", "", "")),
        ("an unknown version", request("GET / HTTP/1.2", "", "")),
        ("version 2 spelled out", request("GET / HTTP/2.0", "", "")),
        ("no version", "GET /\r\n\r\n".to_owned()),
        ("a blank in the target", request("GET /a b HTTP/1.1", "", "")),
        ("a tab in the request line", request("GET\t/\tHTTP/1.1", "", "")),
        ("a fragment", request("GET /a#b HTTP/1.1", "", "")),
        ("a method with a bracket", request("G(T / HTTP/1.1", "", "")),
        ("two authorizations", post("Authorization: Bearer x\r\n", "")),
        ("TLS to a plain port", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03".to_owned()),
        ("nothing but line ends", "\r\n\r\n\r\n".to_owned()),
        ("no host", "GET / HTTP/1.1\r\nAuthorization: Bearer TOKEN\r\nX-Tag: TAG\r\n\r\n".to_owned()),
    ];
    for path in HIDDEN_PATHS {
        all.push((path, request(&format!("GET {path} HTTP/1.1"), "", "")));
    }
    all
}

/// Targets that two servers could read in two ways.
const HIDDEN_PATHS: &[&str] = &[
    "/a/../b",
    "/a/./b",
    "/..",
    "/.",
    "/a/%2e%2e/b",
    "/a/%2E./b",
    "/a/.%2e/b",
    "/%2e/a",
    "/a%2fb",
    "/a%2Fb",
    "/a%5cb",
    "/a%5Cb",
    "/a\\b",
    "/a%00b",
    "/a/..;/b",
    "/a/.;/b",
    "/a/;/../b",
    "/a%252fb",
    "/a/%252e%252e/b",
    "/a%c0%afb",
    "/a%c0%ae%c0%ae/b",
    "/a%e0%80%afb",
    "/a%",
    "/a%2",
    "/a%zz",
];

#[tokio::test]
async fn a_malformed_request_is_refused_and_never_reaches_the_upstream() {
    let rig = Rig::start().await;
    let token = rig.issuer.token(json!({})).text;
    let mut faults = Vec::new();
    for (at, (name, request)) in corpus().into_iter().enumerate() {
        let tag = format!("corpus-{at}");
        let bytes = request.replace("TOKEN", &token).replace("TAG", &tag);
        let answer = exchange(rig.gateway.proxy, bytes.as_bytes()).await;
        let refused = statuses(&answer).first().is_none_or(|status| (400..500).contains(status));
        if !refused {
            faults.push(format!("{name}: answered {:?}", statuses(&answer)));
        }
        if rig.upstream.tags().contains(&tag) && !BODY_FAULTS.contains(&name) {
            faults.push(format!("{name}: reached the upstream"));
        }
    }
    let smuggled = rig.upstream.seen().iter().any(|seen| seen.target.contains("smuggled"));
    assert!(!smuggled, "a body was taken for a request");
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert_eq!(rig.get("/", &token).await.status, 200, "an honest client is served after all this");
}

/// What shows only after the head was good and may have been forwarded: the upstream then sees a torn request.
const BODY_FAULTS: &[&str] = &[
    "a chunk size with junk",
    "a chunk size with a sign",
    "a chunk size with 0x",
    "an empty chunk size",
    "a chunk size too large",
    "a chunk longer than it says",
    "a chunk ended by LF",
];

/// A good request damaged at a few places by bytes that parsers love.
fn damaged(dice: &mut Dice, token: &str) -> Vec<u8> {
    const NASTY: &[&[u8]] = &[
        b"\0",
        b"\r",
        b"\n",
        b"\r\n",
        b" ",
        b"\t",
        b":",
        b";",
        b",",
        b"\"",
        b"\\",
        b"/",
        b"..",
        b"%2f",
        b"%00",
        b"%",
        b"\x80",
        b"\xff",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 3\r\n",
        b"Host: x\r\n",
        b"HTTP/1.1",
        b"0\r\n\r\n",
        b"ffffffff\r\n",
        b"@",
        b"?",
        b"#",
    ];
    let path = *dice.pick(&["/", "/echo", "/a/b?c=d", "/sink"]);
    let method = *dice.pick(&["GET", "POST", "PUT", "HEAD", "OPTIONS"]);
    let body = *dice.pick(&["", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"]);
    let content = if body.starts_with('C') { "hello" } else { "5\r\nhello\r\n0\r\n\r\n" };
    let content = if body.is_empty() { "" } else { content };
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: gate.test\r\nAuthorization: Bearer {token}\r\n{body}\r\n{content}");
    let mut bytes = head.into_bytes();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        match dice.below(4) {
            0 => bytes.truncate(at.max(1)),
            1 => bytes[at] = u8::try_from(dice.below(256)).unwrap(),
            2 => drop(bytes.splice(at..at, dice.pick(NASTY).iter().copied())),
            _ => drop(bytes.drain(at..(at + 1 + dice.below(4)).min(bytes.len()))),
        }
        if bytes.is_empty() {
            bytes.push(b'G');
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_damaged_requests_do_no_harm() {
    let rig = Rig::start().await;
    let token = rig.issuer.token(json!({})).text;
    let mut dice = Dice::new();
    for _ in 0..500 {
        exchange(rig.gateway.proxy, &damaged(&mut dice, &token)).await;
    }
    let before = rig.gateway.resident_bytes();
    for at in 0..10_000 {
        let bytes = damaged(&mut dice, &token);
        let answer = exchange(rig.gateway.proxy, &bytes).await;
        // A body that was announced and then cut off may also end in the upstream's answer or in none at all.
        assert!(harmless(&answer), "{:?}\nfor {}", String::from_utf8_lossy(&answer), bytes.escape_ascii());
        if at % 1000 == 0 {
            assert_eq!(rig.get("/", &token).await.status, 200, "an honest client is served in between");
        }
    }
    let grown = rig.gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "memory grew by {grown} bytes");
}

/// Tokens of every broken kind: none passes, none is a failure of ours.
fn broken_tokens(rig: &Rig, dice: &mut Dice) -> Vec<String> {
    let good = rig.issuer.token(json!({}));
    let (kid, alg) = rig.issuer.signing_key();
    let head = |extra: Value| {
        let mut head = json!({"alg": alg.name(), "kid": kid, "typ": "at+jwt"});
        extra.as_object().unwrap().iter().for_each(|(name, value)| head[name] = value.clone());
        head.to_string()
    };
    let claims = |extra: Value| rig.issuer.token(extra).text;
    let payload = good.claims.to_string();
    let signed = |header: &str, payload: &str| rig.issuer.sign(header, payload);
    let doubled = |name: &str| payload.replacen('{', &format!(r#"{{"{name}":"x","#), 1);
    let unsigned = |alg: &str| format!("{}.{}.", b64(json!({"alg": alg, "kid": kid}).to_string()), b64(&payload));
    let mut all: Vec<String> =
        ["", ".", "..", "...", "a.b.c", "e30.e30.e30", "é.é.é", "null"].map(String::from).to_vec();
    all.extend(["none", "None", "NONE", "nOnE", ""].map(unsigned));
    all.extend(["jti", "sid", "iat", "sub", "exp", "iss", "aud"].map(|name| signed(&head(json!({})), &doubled(name))));
    all.extend(
        [
            json!({"alg": "HS256"}),
            json!({"alg": "ES384"}),
            json!({"alg": 1}),
            json!({"crit": ["x"], "x": 1}),
            json!({"b64": false, "crit": ["b64"]}),
            json!({"kid": "../../etc/passwd"}),
            json!({"kid": "' or 1=1"}),
            json!({"kid": ["k0"]}),
            json!({"zip": "DEF"}),
            json!({"typ": "logout+jwt"}),
            json!({"typ": "dpop+jwt"}),
            json!({"typ": "secevent+jwt"}),
        ]
        .map(|extra| signed(&head(extra), &payload)),
    );
    all.extend(
        [
            json!({"exp": -1}),
            json!({"exp": "2999999999"}),
            json!({"exp": 1e300}),
            json!({"exp": null}),
            json!({"exp": [1]}),
            json!({"nbf": 4_000_000_000_u64}),
            json!({"iat": 4_000_000_000_u64}),
            json!({"iat": "1"}),
            json!({"iss": ["https://id.test/"]}),
            json!({"iss": "https://id.test"}),
            json!({"aud": "other"}),
            json!({"aud": null}),
            json!({"aud": [1]}),
            json!({"sub": 7}),
            json!({"exp": 4_000_000_000_u64}),
            json!({"jti": 7}),
            json!({"sid": {"a": 1}}),
        ]
        .map(claims),
    );
    all.push(signed(&head(json!({})), "[]"));
    all.push(signed(&head(json!({})), "\"text\""));
    all.push(signed(&head(json!({})), &format!("{payload} x")));
    all.push(signed(&head(json!({})), &format!("\u{feff}{payload}")));
    all.push(signed(&head(json!({})), &format!("{}1{}", "[".repeat(5000), "]".repeat(5000))));
    all.push(claims(json!({ "pad": "x".repeat(20_000) })));
    all.push(claims(json!({ "deep": (0..100).fold(json!(1), |inner, _| json!([inner])) })));
    all.push(json!({"payload": b64(&payload), "signatures": []}).to_string());
    all.push(format!("{}.a.b.c.d", b64(r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#)));
    for _ in 0..1000 {
        let mut bytes = good.text.clone().into_bytes();
        let at = dice.below(bytes.len());
        bytes[at] = b"ABCxyz019-_.=+/~"[dice.below(16)];
        all.push(String::from_utf8(bytes).unwrap());
    }
    all.retain(|text| *text != good.text);
    all
}

#[tokio::test]
async fn a_broken_token_never_passes() {
    let rig = Rig::start().await;
    let mut dice = Dice::new();
    let good = rig.issuer.token(json!({}));
    for text in broken_tokens(&rig, &mut dice) {
        let request =
            format!("GET / HTTP/1.1\r\nHost: gate.test\r\nAuthorization: Bearer {text}\r\n{TAG}: broken\r\n\r\n");
        let answer = exchange(rig.gateway.proxy, request.as_bytes()).await;
        let refused = statuses(&answer).first().is_some_and(|status| matches!(status, 400 | 401 | 431));
        assert!(refused, "{text}: {}", String::from_utf8_lossy(&answer));
    }
    assert!(!rig.upstream.tags().contains("broken"));
    assert!(rig.passes(&good).await);
}

/// Bodies and paths that mean nothing to the admin side.
fn admin_nonsense(dice: &mut Dice) -> Vec<(&'static str, String, String)> {
    let revocations = || "/v1/revocations".to_owned();
    let selector = |value: Value| ("POST", revocations(), json!({ "selector": value }).to_string());
    let mut all = vec![
        selector(json!({})),
        selector(json!({"user": "alice", "nonsense": "x"})),
        selector(json!({"issuer": "unknown", "user": "alice"})),
        selector(json!({"issuer": "main", "user": ""})),
        selector(json!({"issuer": "main", "user": "a\0b"})),
        selector(json!({"issuer": "main", "user": "x".repeat(2000)})),
        selector(json!({"issuer": "main", "user": 7})),
        selector(json!({"issuer": "main", "claim:": "x"})),
        selector(json!({"token": "not a token"})),
        selector(json!({"token": "x", "user": "alice"})),
        selector(json!([])),
        selector(json!(null)),
        selector((0..20).map(|n| (format!("claim:c{n}"), json!("x"))).collect::<serde_json::Map<_, _>>().into()),
        ("POST", revocations(), json!({"selector": {"issuer": "main", "user": "a"}, "kinds": ["all"]}).to_string()),
        ("POST", revocations(), json!({"selector": {"issuer": "main", "user": "a"}, "kinds": []}).to_string()),
        ("POST", revocations(), json!({"selector": {"issuer": "main", "user": "a"}, "cutoff": -1}).to_string()),
        ("POST", revocations(), json!({"selector": {"issuer": "main", "user": "a"}, "unknown": 1}).to_string()),
        ("POST", revocations(), json!({"selector": {"issuer": "main", "user": "a"}, "expires_at": 1}).to_string()),
        ("POST", revocations(), "{".to_owned()),
        ("POST", revocations(), String::new()),
        ("POST", revocations(), "[".repeat(100_000)),
        ("POST", revocations(), r#"{"selector":{"issuer":"main","user":"a","user":"b"}}"#.to_owned()),
        ("POST", format!("{}?wait=nonsense", revocations()), r#"{"selector":{"issuer":"main","user":"a"}}"#.to_owned()),
        (
            "POST",
            format!("{}?dry_run=perhaps", revocations()),
            r#"{"selector":{"issuer":"main","user":"a"}}"#.to_owned(),
        ),
        ("POST", "/v1/check".to_owned(), "{}".to_owned()),
        ("POST", "/v1/invalidate".to_owned(), "[]".to_owned()),
        ("GET", format!("{}?limit=-1", revocations()), String::new()),
        ("GET", format!("{}?limit=1000000", revocations()), String::new()),
        ("GET", format!("{}?cursor=x'y", revocations()), String::new()),
        ("GET", "/v1/audit?since=yesterday".to_owned(), String::new()),
        ("GET", "/v1/nothing".to_owned(), String::new()),
        ("PATCH", revocations(), String::new()),
    ];
    for id in [
        "x",
        "%2e%2e",
        "%00",
        "..%2f..",
        &"f".repeat(10_000),
        "ffffffffffffffffffffffffffffffff",
        "'; drop table revocations",
    ] {
        let path = format!("/v1/revocations/{}", id.replace(' ', "%20").replace('\'', "%27"));
        all.push(("GET", path.clone(), String::new()));
        all.push(("DELETE", path, String::new()));
    }
    for _ in 0..500 {
        let mut body = br#"{"selector":{"issuer":"main","user":"nobody"},"reason":"r","kinds":["access"]}"#.to_vec();
        for _ in 0..=dice.below(3) {
            let at = dice.below(body.len());
            body[at] = *dice.pick(b"{}[]\",:0\\u \n");
        }
        all.push(("POST", revocations(), String::from_utf8(body).unwrap()));
    }
    all
}

#[tokio::test]
async fn nonsense_on_the_admin_side_is_refused_with_a_problem_document() {
    let rig = Rig::start().await;
    let mut dice = Dice::new();
    for (at, (method, path, body)) in admin_nonsense(&mut dice).into_iter().enumerate() {
        let answer = rig.admin.send(method, &path, Some("application/json"), body.clone()).await;
        let shown: String = body.chars().take(200).collect();
        // Damage of one letter may leave a body that is still good.
        let good = matches!(answer.status, 200 | 201) && at >= 40;
        assert!(
            good || (400..500).contains(&answer.status),
            "{method} {path} {shown}: {} {}",
            answer.status,
            answer.text()
        );
        if !good {
            assert_eq!(answer.header("content-type"), "application/problem+json", "{method} {path} {shown}");
            let problem = answer.json();
            assert_eq!(problem["status"], json!(answer.status), "{problem}");
            assert!(problem["title"].is_string() && problem["type"].is_string(), "{problem}");
        }
    }
    let raw =
        "POST /v1/revocations HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert!(harmless(&exchange(rig.gateway.admin, raw.as_bytes()).await));
    rig.admin.get("/v1/status").await;
}

/// Damages a good configuration by a line, a letter or a piece.
fn damaged_config(dice: &mut Dice, good: &str) -> String {
    let mut lines: Vec<String> = good.lines().map(String::from).collect();
    let at = dice.below(lines.len());
    match dice.below(4) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, dice.pick(&["nonsense = 1", "[", "[[proxy]]", "=", "listen = 7", "\u{0}"]).to_string()),
        2 => {
            lines[at] =
                lines[at].replace(['"', '='], dice.pick::<&str>(&["", "'", "\"\"", "{", "999999999999999999999"]))
        }
        _ => lines[at] = lines[at].chars().rev().collect(),
    }
    lines.join("\n")
}

#[tokio::test]
async fn a_damaged_configuration_is_refused_in_words() {
    let builder = Rig::builder().await;
    let file = builder.write();
    let good = std::fs::read_to_string(&file).unwrap();
    let mut dice = Dice::new();
    for _ in 0..200 {
        let text = damaged_config(&mut dice, &good);
        let damaged = builder.folder().write("damaged.toml", &text);
        let mut command = Command::new(BINARY);
        command.args(["check-config", "--config"]).arg(&damaged);
        let output = program::run(command).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{said}\n{text}");
        assert!(output.status.code().is_some_and(|code| code < 100), "{}\n{text}", output.status);
        assert!(output.status.success() || !said.trim().is_empty(), "refused without a word:\n{text}");
    }
}
