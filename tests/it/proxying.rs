//! What a reverse proxy owes both sides, whatever protocol each speaks.

use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::{HeaderMap, Method, Request, Version};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::serve::{Body, BoxError, full};
use crate::rig::{Answer, Rig, Upstream, Wire, get, websocket, with_token, within};

const WIRES: [Wire; 4] = [Wire::H1, Wire::H2c, Wire::TlsH1, Wire::TlsH2];
const SCHEMES: [&str; 3] = ["http", "h2c", "https"];

/// A gateway that takes `wire` and forwards to an upstream of its own by `scheme`.
async fn between(wire: Wire, scheme: &str) -> (Rig, Upstream) {
    let mut builder = Rig::builder().await;
    let tls = (scheme == "https").then(|| builder.certs().serving(&builder.certs().server("behind", &[])));
    let upstream = Upstream::with("behind", tls).await;
    if wire.is_tls() {
        builder = builder.tls();
    }
    let url = upstream.url(scheme).replace("127.0.0.1", if scheme == "https" { "localhost" } else { "127.0.0.1" });
    let builder = builder.word("behind", url);
    let rig = builder
        .config("[upstream]\nca = '{ca}'\n[[routes]]\npath = '/'\nupstreams = ['{behind}']\nupgrades = ['websocket']");
    (rig.start().await, upstream)
}

fn post(path: &str, token: &str, body: Body) -> Request<Body> {
    Request::post(path).header("authorization", format!("Bearer {token}")).body(body).unwrap()
}

/// A body of these pieces and trailers.
fn pieces(pieces: &[&'static [u8]], trailers: Option<HeaderMap>) -> Body {
    let data = pieces.iter().map(|piece| Frame::data(Bytes::from_static(piece)));
    let frames: Vec<_> = data.chain(trailers.map(Frame::trailers)).map(Ok::<_, BoxError>).collect();
    StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
}

#[tokio::test]
async fn every_protocol_in_meets_every_protocol_out() {
    for scheme in SCHEMES {
        for wire in WIRES {
            let (rig, upstream) = between(wire, scheme).await;
            let token = rig.issuer.token(json!({})).text;
            let mut connection = rig.connect(wire).await;
            let said = format!("{wire:?} to {scheme}");

            let plain = connection.send(get("/hello?a=b", &token)).await.unwrap();
            assert_eq!(plain.status, 200, "{said}: {}", plain.text());
            let seen = upstream.last();
            assert_eq!((seen.method, seen.target.as_str()), (Method::GET, "/hello?a=b"), "{said}");
            let spoken = if scheme == "h2c" { Version::HTTP_2 } else { seen.version };
            assert_eq!(seen.version, spoken, "{said}");

            let echoed = connection.send(post("/echo", &token, pieces(&[b"one ", b"two"], None))).await.unwrap();
            assert_eq!(echoed.text(), "one two", "{said}");

            let head = connection.send(with_token("HEAD", "/bytes/1000", &token, "")).await.unwrap();
            assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "1000", 0), "{said}");

            for status in [204, 304, 404, 500, 503] {
                let answer = connection.send(get(&format!("/status/{status}"), &token)).await.unwrap();
                assert_eq!(answer.status, status, "{said}");
            }

            let request =
                Request::get("/trailers").header("te", "trailers").header("authorization", format!("Bearer {token}"));
            let trailing = connection.send(request.body(full("")).unwrap()).await.unwrap();
            assert_eq!(trailing.text(), "hello", "{said}");
            assert_eq!(trailing.trailers.get("x-checksum").map(|value| value.as_bytes()), Some(&b"abc"[..]), "{said}");

            let denied = connection.send(get("/hello", "x")).await.unwrap();
            assert_eq!(denied.status, 401, "{said}");
            assert_eq!(
                connection.send(get("/again", &token)).await.unwrap().status,
                200,
                "{said}: a refusal spoils nothing"
            );
        }
    }
}

#[tokio::test]
async fn trailers_of_a_request_arrive() {
    for wire in [Wire::H1, Wire::H2c] {
        let (rig, _upstream) = between(wire, "h2c").await;
        let token = rig.issuer.token(json!({})).text;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "42".parse().unwrap());
        let body = pieces(&[b"data"], Some(trailers));
        let request =
            Request::post("/echo").header("authorization", format!("Bearer {token}")).header("te", "trailers");
        let request = request.header("trailer", "x-sum").body(body).unwrap();
        let answer = rig.connect(wire).await.send(request).await.unwrap();
        assert_eq!(answer.text(), "data");
        if wire == Wire::H2c {
            assert_eq!(answer.trailers.get("x-sum").map(|value| value.as_bytes()), Some(&b"42"[..]));
        }
    }
}

#[tokio::test]
async fn a_client_that_expects_100_continue_is_told_to() {
    let rig = Rig::start().await;
    let token = rig.issuer.token(json!({})).text;
    let mut stream = TcpStream::connect(rig.gateway.proxy).await.unwrap();
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: gate.test\r\nAuthorization: Bearer {token}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    within("100 Continue", stream.read_exact(&mut interim)).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    let mut answer = String::new();
    within("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn a_refused_client_that_expects_100_continue_is_refused_at_once() {
    let rig = Rig::start().await;
    let mut stream = TcpStream::connect(rig.gateway.proxy).await.unwrap();
    let head = "POST /echo HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    within("the refusal", stream.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 401");
}

/// Pieces go through as they come: the second leaves the client only after the first came back.
#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    for (wire, scheme) in [(Wire::H1, "http"), (Wire::H2c, "h2c"), (Wire::TlsH2, "https")] {
        let (rig, _upstream) = between(wire, scheme).await;
        let token = rig.issuer.token(json!({})).text;
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, BoxError>>(1);
        let stream =
            futures_util::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
        let mut connection = rig.connect(wire).await;
        sender.send(Ok(Frame::data(Bytes::from_static(b"first")))).await.unwrap();
        let response = connection.start(post("/echo", &token, StreamBody::new(stream).boxed_unsync())).await.unwrap();
        let mut body = response.into_body();
        let first = within("the first piece", body.frame()).await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "first", "{wire:?}");
        sender.send(Ok(Frame::data(Bytes::from_static(b"second")))).await.unwrap();
        let second = within("the second piece", body.frame()).await.unwrap().unwrap();
        assert_eq!(second.into_data().unwrap(), "second", "{wire:?}");
        drop(sender);
        assert!(within("the end", body.collect()).await.unwrap().to_bytes().is_empty());
    }
}

/// A client that does not read holds the upstream back instead of filling the gateway's memory.
#[tokio::test]
async fn a_slow_reader_holds_the_upstream_back() {
    const BODY: u64 = 256 << 20;
    for wire in [Wire::H1, Wire::H2c] {
        let (rig, _upstream) = between(wire, "http").await;
        let token = rig.issuer.token(json!({})).text;
        rig.get("/bytes/1000000", &token).await;
        let before = rig.gateway.resident_bytes();
        let mut connection = rig.connect(wire).await;
        let response = connection.start(get(&format!("/bytes/{BODY}"), &token)).await.unwrap();
        // Other clients are served meanwhile: the slow one costs only itself.
        for _ in 0..50 {
            assert_eq!(rig.get("/", &token).await.status, 200);
        }
        let mut body = response.into_body();
        let mut read = 0;
        while let Some(frame) = within("a piece", body.frame()).await {
            read += frame.unwrap().into_data().unwrap().len() as u64;
        }
        assert_eq!(read, BODY);
        let grown = rig.gateway.peak_bytes().saturating_sub(before);
        assert!(grown < 24 << 20, "{wire:?}: memory grew by {grown} bytes");
    }
}

#[tokio::test]
async fn a_long_upload_arrives_whole_with_flat_memory() {
    const PIECES: usize = 4096;
    for (wire, scheme) in [(Wire::H1, "http"), (Wire::H2c, "h2c")] {
        let (rig, _upstream) = between(wire, scheme).await;
        let token = rig.issuer.token(json!({})).text;
        rig.get("/", &token).await;
        let before = rig.gateway.resident_bytes();
        let piece = Bytes::from(vec![7; 64 * 1024]);
        let frames =
            futures_util::stream::iter((0..PIECES).map(move |_| Ok::<_, BoxError>(Frame::data(piece.clone()))));
        let answer =
            rig.connect(wire).await.send(post("/sink", &token, StreamBody::new(frames).boxed_unsync())).await.unwrap();
        assert_eq!(answer.json(), json!({"bytes": PIECES * 64 * 1024}));
        let grown = rig.gateway.peak_bytes().saturating_sub(before);
        assert!(grown < 24 << 20, "{wire:?}: memory grew by {grown} bytes");
    }
}

#[tokio::test]
async fn an_early_answer_does_not_spoil_the_next_request() {
    for (wire, scheme) in [(Wire::H1, "http"), (Wire::H2c, "http"), (Wire::H2c, "h2c")] {
        let (rig, _upstream) = between(wire, scheme).await;
        let token = rig.issuer.token(json!({})).text;
        for _ in 0..5 {
            let mut connection = rig.connect(wire).await;
            let answer = connection.send(with_token("POST", "/early", &token, vec![b'x'; 1 << 20])).await;
            assert!(answer.as_ref().is_ok_and(|answer| answer.status == 413), "{wire:?} {scheme}: {answer:?}");
            let after = rig.get("/echo", &token).await;
            assert_eq!((after.status, after.body.len()), (200, 0));
        }
    }
}

#[tokio::test]
async fn a_truncated_answer_is_passed_on_as_truncated() {
    for (wire, scheme) in [(Wire::H1, "http"), (Wire::H2c, "http"), (Wire::H1, "h2c"), (Wire::H2c, "h2c")] {
        let (rig, _upstream) = between(wire, scheme).await;
        let token = rig.issuer.token(json!({})).text;
        let response = rig.connect(wire).await.start(get("/truncated", &token)).await;
        // Either the break came before the head was out, or the body shows it.
        match response {
            Ok(response) if response.status() == 200 => {
                assert!(Answer::read(response).await.is_err(), "{wire:?} {scheme}: a torn body looked whole");
            }
            Ok(response) => assert_eq!(response.status(), 502),
            Err(_) => {}
        }
        assert_eq!(rig.get("/", &token).await.status, 200);
    }
}

#[tokio::test]
async fn an_upstream_that_is_down_is_502() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let builder = Rig::builder().await.word("nobody", format!("http://{address}"));
    let rig = builder.config("[[routes]]\npath = '/'\nupstreams = ['{nobody}']").start().await;
    assert_eq!(rig.get("/", &rig.issuer.token(json!({})).text).await.status, 502);
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_in_time_is_504() {
    let rig = Rig::with("[proxy.timeouts]\nupstream = '1s'").await;
    let token = rig.issuer.token(json!({})).text;
    assert_eq!(rig.get("/never", &token).await.status, 504);
    assert_eq!(rig.get("/", &token).await.status, 200);
}

#[tokio::test]
async fn a_client_that_says_nothing_is_sent_away() {
    let rig = Rig::with("[proxy.timeouts]\nheader = '1s'").await;
    for said in ["", "GET / HTTP/1.1\r\nHost: gate", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let answer = crate::rig::raw::exchange_open(rig.gateway.proxy, said.as_bytes()).await;
        assert!(crate::rig::raw::statuses(&answer).iter().all(|status| *status == 408 || *status == 400), "{said:?}");
    }
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle_of_its_body_is_sent_away() {
    let rig = Rig::with("[proxy.timeouts]\nbody = '1s'").await;
    let token = rig.issuer.token(json!({})).text;
    let head = format!(
        "POST /sink HTTP/1.1\r\nHost: gate.test\r\nAuthorization: Bearer {token}\r\nContent-Length: 100\r\n\r\nhalf"
    );
    let answer = crate::rig::raw::exchange_open(rig.gateway.proxy, head.as_bytes()).await;
    assert!(crate::rig::raw::statuses(&answer).iter().all(|status| (400..500).contains(status)));
}

#[tokio::test]
async fn heads_and_bodies_have_a_limit() {
    let rig =
        Rig::with("[proxy.limits]\nbody_bytes = '1KiB'\nuri_bytes = '1KiB'\nheaders = 20\nhead_bytes = '16KiB'").await;
    let token = rig.issuer.token(json!({})).text;
    assert_eq!(rig.send(with_token("POST", "/sink", &token, vec![b'x'; 1024])).await.status, 200);
    assert_eq!(rig.send(with_token("POST", "/sink", &token, vec![b'x'; 1025])).await.status, 413);
    assert_eq!(rig.get(&format!("/{}", "x".repeat(2000)), &token).await.status, 414);
    let mut many = get("/", &token);
    (0..30).for_each(|n| {
        drop(
            many.headers_mut()
                .insert(hyper::header::HeaderName::try_from(format!("x-{n}")).unwrap(), "1".parse().unwrap()),
        )
    });
    assert_eq!(rig.send(many).await.status, 431);
    let mut long = get("/", &token);
    long.headers_mut().insert("x-long", "y".repeat(32 << 10).parse().unwrap());
    assert_eq!(rig.send(long).await.status, 431);
}

/// A body without a length is counted as it comes.
#[tokio::test]
async fn a_body_of_unknown_length_has_the_same_limit() {
    let rig = Rig::with("[proxy.limits]\nbody_bytes = '1KiB'").await;
    let token = rig.issuer.token(json!({})).text;
    let body = pieces(&[&[b'x'; 800], &[b'x'; 800]], None);
    let answer = rig.connect(Wire::H1).await.send(post("/sink", &token, body)).await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 413));
}

#[tokio::test]
async fn one_dead_upstream_of_two_costs_no_request() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let builder = Rig::builder().await.word("nobody", format!("http://{address}"));
    let rig = builder.config("[[routes]]\npath = '/'\nupstreams = ['{nobody}', '{upstream}']").start().await;
    let token = rig.issuer.token(json!({})).text;
    for _ in 0..50 {
        assert_eq!(rig.get("/", &token).await.status, 200);
    }
    // Nothing of a request reaches a port that refuses: even a POST may be sent to the next one.
    for _ in 0..10 {
        assert_eq!(rig.send(with_token("POST", "/echo", &token, "x")).await.status, 200);
    }
}

#[tokio::test]
async fn load_is_spread_over_upstreams() {
    let second = Upstream::start("second").await;
    let builder = Rig::builder().await.word("second", second.url("http"));
    let rig = builder.config("[[routes]]\npath = '/'\nupstreams = ['{upstream}', '{second}']").start().await;
    let token = rig.issuer.token(json!({})).text;
    let mut busy = rig.connect(Wire::H1).await;
    let held = busy.start(get("/held", &token)).await.unwrap();
    for _ in 0..20 {
        rig.get("/", &token).await;
    }
    assert!(!rig.upstream.seen().is_empty() && !second.seen().is_empty(), "both are used");
    drop(held);
}

/// Takes connections, reads a head and hangs up without a word; counts the heads.
async fn hangs_up() -> (std::net::SocketAddr, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = heads.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            if stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        }
    });
    (address, heads)
}

#[tokio::test]
async fn a_post_that_was_sent_is_never_sent_again() {
    let (address, heads) = hangs_up().await;
    let builder = Rig::builder().await.word("hangs_up", format!("http://{address}"));
    let rig =
        builder.config("[upstream]\nretries = 3\n[[routes]]\npath = '/'\nupstreams = ['{hangs_up}']").start().await;
    let token = rig.issuer.token(json!({})).text;
    let answer = rig.send(with_token("POST", "/", &token, "pay")).await;
    assert_eq!(answer.status, 502);
    assert_eq!(heads.load(std::sync::atomic::Ordering::SeqCst), 1);
}

/// What an upstream says that no client should hear.
#[tokio::test]
async fn a_broken_answer_is_502_and_never_passed_on() {
    const ANSWERS: &[&str] = &[
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-A: b\0c\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nsmuggled",
        "HTTP/1.1 999999 What\r\n\r\n",
        "",
    ];
    for text in ANSWERS {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(text.as_bytes()).await;
            }
        });
        let builder = Rig::builder().await.word("broken", format!("http://{address}"));
        let rig = builder.config("[[routes]]\npath = '/'\nupstreams = ['{broken}']").start().await;
        let answer = rig.get("/", &rig.issuer.token(json!({})).text).await;
        assert_eq!(answer.status, 502, "{text:?}: {}", answer.text());
        assert!(!answer.text().contains("smuggled"));
    }
}

/// Opens a WebSocket by hand; answers the stream after the 101.
async fn open_websocket(rig: &Rig, headers: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(rig.gateway.proxy).await.unwrap();
    let head = format!(
        "GET /ws HTTP/1.1\r\nHost: gate.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(within("the handshake", stream.read_u8()).await.unwrap());
    }
    (String::from_utf8(answer).unwrap(), stream)
}

#[tokio::test]
async fn a_websocket_carries_messages_both_ways() {
    let rig = Rig::start().await;
    let token = rig.issuer.token(json!({})).text;
    let (head, mut stream) = open_websocket(&rig, &format!("Authorization: Bearer {token}\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    let long = "x".repeat(70_000);
    for message in ["hello", "", &long] {
        websocket::write_frame(&mut stream, 0x81, message.as_bytes(), Some([1, 2, 3, 4])).await.unwrap();
        let (first, payload) = within("the echo", websocket::read_frame(&mut stream)).await.unwrap();
        assert_eq!((first, payload.len()), (0x81, message.len()));
    }
    websocket::write_frame(&mut stream, 0x88, &[3, 232], Some([1, 2, 3, 4])).await.unwrap();
    assert_eq!(within("the close", websocket::read_frame(&mut stream)).await.unwrap().0, 0x88);
}

#[tokio::test]
async fn a_revoked_token_opens_no_websocket() {
    let rig = Rig::start().await;
    let token = rig.issuer.token(json!({})).text;
    rig.admin.revoke(json!({ "token": token })).await;
    let (head, _) = open_websocket(&rig, &format!("Authorization: Bearer {token}\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
}

#[tokio::test]
async fn an_upgrade_that_no_route_names_is_no_tunnel() {
    let rig = Rig::with("[[routes]]\npath = '/'\nupstreams = ['{upstream}']\nupgrades = []").await;
    let token = rig.issuer.token(json!({})).text;
    let (head, _) = open_websocket(&rig, &format!("Authorization: Bearer {token}\r\n")).await;
    assert!(!head.starts_with("HTTP/1.1 101"), "{head}");
}

#[tokio::test]
async fn every_answer_has_a_request_id_that_the_upstream_saw() {
    let rig = Rig::start().await;
    let answer = rig.get("/", &rig.issuer.token(json!({})).text).await;
    let id = answer.header("x-request-id").to_owned();
    assert!(!id.is_empty());
    assert_eq!(rig.upstream.last().header("x-request-id"), Some(id.as_str()));
}

/// Clients that send a body after its head, as most do, must not lose their next request to a connection that just closes.
#[tokio::test]
async fn a_refusal_before_the_body_came_says_so_when_the_connection_ends() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let rig = Rig::start().await;
    let mut stream = tokio::net::TcpStream::connect(rig.gateway.proxy).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a.b.c\r\nContent-Length: 2\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    while !answer.contains("\r\n\r\n") {
        let mut piece = [0; 4096];
        let length = crate::rig::within("the refusal", stream.read(&mut piece)).await.unwrap();
        assert!(length > 0, "closed: {answer}");
        answer += std::str::from_utf8(&piece[..length]).unwrap();
    }
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    if !answer.to_ascii_lowercase().contains("connection: close") {
        stream.write_all(format!("{{}}{head}{{}}").as_bytes()).await.unwrap();
        let mut piece = [0; 4096];
        let length = crate::rig::within("the second refusal", stream.read(&mut piece)).await.unwrap();
        assert!(piece[..length].starts_with(b"HTTP/1.1 401"), "closed without a word");
    }
}
