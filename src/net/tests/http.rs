//! What is refused, and that nothing else is.

use super::*;
use crate::net::{Limits, Timeouts};

#[tokio::test]
async fn a_bare_line_feed_is_answered_400_and_the_service_is_not_asked() {
    let rig = Rig::start(loopback());
    let answer = rig.say("GET / HTTP/1.1\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.to_lowercase().contains("connection: close"));
    assert_eq!(rig.requests(), 0);
    assert!(rig.metrics.text().contains(r#"refusals_total{reason="bare_lf"} 1"#));
}

#[tokio::test]
async fn length_beside_encoding_is_answered_400_and_the_service_is_not_asked() {
    let rig = Rig::start(loopback());
    let smuggled = "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n";
    let both = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
        5 + smuggled.len()
    );
    let answer = rig.say(both).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1);
    assert_eq!(rig.requests(), 0);
}

#[tokio::test]
async fn requests_before_an_unlawful_one_are_answered_first() {
    let rig = Rig::start(loopback());
    let lawful = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let answer = rig.say(format!("{lawful}{lawful}GET / HTTP/1.1\r\nHost : a\r\n\r\n{lawful}")).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 3);
    assert_eq!(answer.matches("200 OK").count(), 2);
    assert!(answer.contains("400 Bad Request"));
    assert_eq!(rig.requests(), 2);
}

#[tokio::test]
async fn a_head_beyond_its_bounds_is_answered_431() {
    let limits = Limits { head_bytes: 2048, headers: 8, ..Limits::default() };
    let rig = Rig::start(Settings { limits, ..loopback() });
    let large = rig.say(format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(5000))).await;
    assert!(large.starts_with("HTTP/1.1 431 "), "{large}");
    let many = rig.say(format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(9))).await;
    assert!(many.starts_with("HTTP/1.1 431 "), "{many}");
    assert_eq!(rig.requests(), 0);
}

#[tokio::test]
async fn a_malformed_chunk_is_told_from_a_broken_connection() {
    let rig = Rig::start(loopback());
    let head = "POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = rig.say(format!("{head}5\r\nhello\r\n+1\r\nx\r\n0\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let answer = rig.say(format!("{head}5\r\nhello\r\n0\r\n\r\n{head}0\r\nContent-Length: 5\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn both_protocols_are_spoken_on_one_port() {
    let rig = Rig::start(loopback());
    let mut sender = http2(rig.connect().await).await;
    assert_eq!(ask(&mut sender, "/").await, (StatusCode::OK, "hello".to_owned()));
    let answer = rig.say("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello"), "{answer}");
    // `P` begins both `POST` and the preface.
    let answer = rig.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_large_body_passes_unchanged_both_ways() {
    let rig = Rig::start(loopback());
    let (mut reading, mut writing) = rig.connect().await.into_split();
    let body: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[(n % 4) as usize]).collect();
    let sent = body.clone();
    let sending = tokio::spawn(async move {
        let head = "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
        writing.write_all(head.as_bytes()).await.unwrap();
        for chunk in sent.chunks(77_777) {
            writing.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await.unwrap();
            writing.write_all(chunk).await.unwrap();
            writing.write_all(b"\r\n").await.unwrap();
        }
        writing.write_all(b"0\r\n\r\n").await.unwrap();
        writing
    });
    let mut heard = Vec::new();
    reading.read_to_end(&mut heard).await.unwrap();
    drop(sending.await.unwrap());
    let at = heard.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(dechunked(&heard[at..]), body);
}

/// The content of a chunked body.
fn dechunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = bytes.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[line + 2..line + 2 + size]);
        bytes = &bytes[line + 2 + size + 2..];
    }
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let timeouts = Timeouts { header: Duration::from_millis(50), ..Timeouts::default() };
    let rig = Rig::start(Settings { timeouts, ..loopback() });
    for beginning in ["", "PRI * HT", "GET / HTTP/1.1\r\nHost:"] {
        assert_eq!(rig.say(beginning).await, "", "{beginning:?}");
    }
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let timeouts = Timeouts { idle: Duration::from_millis(500), ..Timeouts::default() };
    let rig = Rig::start(Settings { timeouts, ..loopback() });
    let answer = rig.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.ends_with("hello"));
    let mut sender = http2(rig.connect().await).await;
    assert_eq!(ask(&mut sender, "/").await.0, StatusCode::OK);
    while !sender.is_closed() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_does_not_read_is_not_waited_for() {
    let timeouts = Timeouts { body: Duration::from_millis(50), ..Timeouts::default() };
    let rig = Rig::start(Settings { timeouts, ..loopback() });
    let mut stream = rig.connect().await;
    stream.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    // One for the listener, one for the connection.
    while rig.requests() == 0 || rig.drain.holders() > 1 {
        tokio::task::yield_now().await;
    }
    drop(stream);
}

#[tokio::test]
async fn a_panic_is_answered_500_and_nobody_else_notices() {
    let rig = Rig::start(loopback());
    let panics = "GET /panic HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = rig.say(format!("{panics}GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 500 ") && answer.ends_with("hello"), "{answer}");
    let mut sender = http2(rig.connect().await).await;
    let mut other = sender.clone();
    let slow = tokio::spawn(async move { ask(&mut other, "/slow").await });
    rig.arrived().await;
    assert_eq!(ask(&mut sender, "/panic").await.0, StatusCode::INTERNAL_SERVER_ERROR);
    rig.seen.proceed.add_permits(1);
    assert_eq!(slow.await.unwrap().0, StatusCode::OK);
    assert!(rig.metrics.text().contains("panics_total 2"));
}

#[tokio::test]
async fn a_tunnel_passes_anything_both_ways_at_once() {
    let rig = Rig::start(loopback());
    let upgrade = "GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    for (head, status) in [(upgrade, "101"), ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "200")] {
        let mut stream = rig.connect().await;
        stream.write_all(format!("{head}GET\n\0early").as_bytes()).await.unwrap();
        let answer = until(&mut stream, "\r\n\r\n").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(until(&mut stream, "early").await, "GET\n\0early");
        stream.write_all(b"late").await.unwrap();
        assert_eq!(until(&mut stream, "late").await, "late");
        stream.shutdown().await.unwrap();
        assert_eq!(until_closed(&mut stream).await, "");
    }
}

#[tokio::test]
async fn a_refused_upgrade_leaves_an_ordinary_connection() {
    let rig = Rig::start(loopback());
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    let answer = rig.say(format!("{upgrade}GET /peer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
    assert!(answer.contains("hello") && answer.ends_with("127.0.0.1"), "{answer}");
    let answer = rig.say(format!("{upgrade}GET /peer HTTP/1.1\nHost: a\r\n\r\n")).await;
    assert!(answer.contains("hello") && answer.contains("400 Bad Request"), "{answer}");
}

#[tokio::test]
async fn an_http2_tunnel_outlives_the_idle_limit() {
    let (idle, body) = (Duration::from_millis(500), Duration::from_millis(100));
    let timeouts = Timeouts { idle, body, ..Timeouts::default() };
    let rig = Rig::start(Settings { timeouts, ..loopback() });
    let mut sender = http2(rig.connect().await).await;
    // An answer says that the server's settings have come, and they allow the extension (RFC 8441 §3).
    ask(&mut sender, "/").await;
    let mut request = Request::connect("http://localhost/chat").body(Empty::new()).unwrap();
    request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    // Others come and go meanwhile, on connections that close when they are idle.
    for _ in 0..2 {
        rig.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    }
    tunnel.write_all(b"still there").await.unwrap();
    assert_eq!(until(&mut tunnel, "still there").await, "still there");
}

#[tokio::test]
async fn fields_are_counted_in_http2_too() {
    let limits = Limits { headers: 8, ..Limits::default() };
    let rig = Rig::start(Settings { limits, ..loopback() });
    let mut sender = http2(rig.connect().await).await;
    let mut request = Request::builder().uri("http://localhost/");
    for n in 0..9 {
        request = request.header(format!("x-{n}"), "y");
    }
    let response = sender.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(rig.requests(), 0);
}
