//! What a client and an upstream see when the token dies that opened an exchange, and that nobody else sees anything.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Bytes, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::rig::{Boxed, Rig, Upstream, empty, http2_to, read_head, settings};
use super::upgrades::{HANDSHAKE, connect, shake};
use crate::gateway::{RouteSettings, Settings, frames, websocket};

const COMMENT: &str = ": the token is no longer valid\n";
const LONG: Duration = Duration::from_secs(30);

/// Tells its receiver when it is dropped.
struct Gone(mpsc::UnboundedSender<String>, String);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = self.0.send(std::mem::take(&mut self.1));
    }
}

/// An upstream that sends a first piece and then nothing more, and whose receiver hears whose answer was let go.
async fn held(
    scheme: &str,
    fields: &'static [(&'static str, &'static str)],
    first: &'static [u8],
) -> (Upstream, mpsc::UnboundedReceiver<String>) {
    let (told, gone) = mpsc::unbounded_channel();
    let upstream = Upstream::serving(scheme, move |request| {
        let user = request.headers().get("x-auth-user").unwrap().to_str().unwrap().to_owned();
        let gone = Gone(told.clone(), user);
        async move {
            let frames =
                futures_util::stream::unfold((Some(first), gone, request.into_body()), async |(first, gone, body)| {
                    let Some(first) = first else { return std::future::pending().await };
                    Some((Ok::<_, Infallible>(Frame::data(Bytes::from_static(first))), (None, gone, body)))
                });
            let mut answer = Response::builder();
            for (name, value) in fields {
                answer = answer.header(*name, *value);
            }
            answer.body(StreamBody::new(frames).boxed_unsync()).unwrap()
        }
    })
    .await;
    (upstream, gone)
}

async fn heard(gone: &mut mpsc::UnboundedReceiver<String>) -> String {
    timeout(LONG, gone.recv()).await.expect("let go in time").unwrap()
}

async fn rest(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut rest = Vec::new();
    // How a connection ends that is torn off is the system's to say.
    let _ = timeout(LONG, io.read_to_end(&mut rest)).await.expect("closed in time");
    String::from_utf8_lossy(&rest).into_owned()
}

async fn until(io: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut heard = Vec::new();
    while !heard.ends_with(end.as_bytes()) {
        heard.push(timeout(LONG, io.read_u8()).await.expect("heard in time").expect("more to come"));
    }
    String::from_utf8_lossy(&heard).into_owned()
}

/// Asks over a connection of its own, and reads up to `end`.
async fn ask(address: SocketAddr, user: &str, end: &str) -> TcpStream {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(format!("GET / HTTP/1.1\r\nhost: a\r\nauthorization: {user}\r\n\r\n").as_bytes()).await.unwrap();
    until(&mut tcp, end).await;
    tcp
}

async fn stream(client: &mut SendRequest<Boxed>, user: &str) -> Incoming {
    let request = Request::builder().uri("http://a.example/").header("authorization", user).body(empty()).unwrap();
    let mut body = client.send_request(request).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    body
}

#[tokio::test]
async fn an_event_stream_ends_with_a_comment_and_others_go_on() {
    let (upstream, mut gone) = held("http", &[("content-type", "text/event-stream")], b"data: one\n\ndata: tw").await;
    let rig = Rig::before(&upstream).await;
    let mut alice = ask(rig.http1, "alice", "data: tw\r\n").await;
    let mut bob = ask(rig.http1, "bob", "data: tw\r\n").await;
    assert_eq!(rig.cut("alice"), 1);
    let end = until(&mut alice, "0\r\n\r\n").await;
    assert_eq!(end, format!("20\r\n\n{COMMENT}\r\n0\r\n\r\n"));
    assert_eq!(heard(&mut gone).await, "alice");
    alice.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nauthorization: carol\r\n\r\n").await.unwrap();
    until(&mut alice, "data: tw\r\n").await;
    rig.cut("bob");
    until(&mut bob, &format!("{COMMENT}\r\n0\r\n\r\n")).await;
    rig.cut("carol");
    until(&mut alice, &format!("{COMMENT}\r\n0\r\n\r\n")).await;
}

#[tokio::test]
async fn a_grpc_stream_ends_with_unauthenticated() {
    for scheme in ["h2c", "http"] {
        let fields = &[("content-type", "application/grpc")];
        let (upstream, mut gone) = held(scheme, fields, b"\0\0\0\0\x02hi").await;
        let rig = Rig::before(&upstream).await;
        let mut client = rig.http2().await;
        let (alice, bob) = (stream(&mut client, "alice").await, stream(&mut client, "bob").await);
        rig.cut("alice");
        let collected = timeout(LONG, alice.collect()).await.unwrap().unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], "16", "{scheme}");
        assert_eq!(heard(&mut gone).await, "alice");
        assert!(!bob.is_end_stream());
    }
    let (upstream, _) = held("h2c", &[("content-type", "application/grpc")], b"\0\0\0\0\x09half").await;
    let rig = Rig::before(&upstream).await;
    let torn = stream(&mut rig.http2().await, "alice").await;
    rig.cut("alice");
    assert!(timeout(LONG, torn.collect()).await.unwrap().is_err(), "half a message is no message");
}

#[tokio::test]
async fn one_http2_stream_is_reset_and_its_neighbour_goes_on() {
    let (upstream, mut gone) = held("http", &[], b"piece").await;
    let rig = Rig::before(&upstream).await;
    let (address, _drain) = rig.listen().await;
    let mut client = http2_to(address).await;
    let (alice, bob) = (stream(&mut client, "alice").await, stream(&mut client, "bob").await);
    rig.cut("alice");
    let error = timeout(LONG, alice.collect()).await.unwrap().unwrap_err();
    let reset = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(reset.contains("no longer needed"), "CANCEL blames nobody: {reset}");
    assert_eq!(heard(&mut gone).await, "alice");
    assert!(!bob.is_end_stream() && !client.is_closed());
    drop(stream(&mut client, "carol").await);
}

#[tokio::test]
async fn a_download_is_visibly_torn_off() {
    for (fields, first) in [(&[("content-length", "99")][..], "piece"), (&[], "5\r\npiece\r\n")] {
        let (upstream, mut gone) = held("http", fields, b"piece").await;
        let rig = Rig::before(&upstream).await;
        let (address, _drain) = rig.listen().await;
        for address in [rig.http1, address] {
            let mut alice = ask(address, "alice", first).await;
            rig.cut("alice");
            assert_eq!(rest(&mut alice).await, "", "neither more nor a last chunk");
            assert_eq!(heard(&mut gone).await, "alice");
        }
    }
}

#[tokio::test]
async fn whoever_waits_for_the_head_is_refused_like_anyone_with_that_token() {
    let (told, mut gone) = mpsc::unbounded_channel();
    let upstream = Upstream::serving("http", move |_| {
        let gone = Gone(told.clone(), "asked".to_owned());
        async move {
            let _ = gone.0.send("asked".to_owned());
            std::future::pending().await
        }
    })
    .await;
    let rig = Rig::before(&upstream).await;
    let mut tcp = TcpStream::connect(rig.http1).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    heard(&mut gone).await;
    rig.cut("alice");
    let head = read_head(&mut tcp).await;
    assert!(head.starts_with("HTTP/1.1 401") && head.contains("Bearer error=\"invalid_token\""), "{head}");
    assert_eq!(heard(&mut gone).await, "asked", "the upstream's side is let go");
    assert!(rig.gateway.metrics.text().contains("denials_total{reason=\"revoked\"} 1"));
    assert!(!rig.gateway.metrics.text().contains("upstream_errors_total{"));
}

#[tokio::test]
async fn an_upload_is_refused_and_the_upstream_sees_it_torn() {
    for scheme in ["http", "h2c"] {
        let (told, mut outcome) = mpsc::unbounded_channel();
        let upstream = Upstream::serving(scheme, move |request| {
            let told = told.clone();
            async move {
                let mut body = request.into_body();
                body.frame().await.unwrap().unwrap();
                let _ = told.send("begun".to_owned());
                // Whether it is told or dropped, it does not come to an end.
                let gone = Gone(told, "torn".to_owned());
                while let Some(Ok(_)) = body.frame().await {}
                drop(gone);
                std::future::pending().await
            }
        })
        .await;
        let rig = Rig::before(&upstream).await;
        let mut tcp = TcpStream::connect(rig.http1).await.unwrap();
        tcp.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99\r\n\r\nhello").await.unwrap();
        assert_eq!(heard(&mut outcome).await, "begun");
        rig.cut("alice");
        assert!(read_head(&mut tcp).await.starts_with("HTTP/1.1 401"), "{scheme}");
        assert_eq!(heard(&mut outcome).await, "torn");
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_all_the_same() {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let (told, mut gone) = mpsc::unbounded_channel();
    let upstream = Upstream::serving("http", move |_| {
        let gone = Gone(told.clone(), "gone".to_owned());
        async move {
            let frames = futures_util::stream::unfold(gone, async |gone| {
                Some((Ok::<_, Infallible>(Frame::data(Bytes::from_static(&ZEROS))), gone))
            });
            Response::new(StreamBody::new(frames).boxed_unsync())
        }
    })
    .await;
    let rig = Rig::before(&upstream).await;
    let (address, drain) = rig.listen().await;
    let tcp = ask(address, "alice", "\r\n\r\n").await;
    settled(&rig).await;
    rig.cut("alice");
    assert_eq!(heard(&mut gone).await, "gone");
    // The listener itself is the last to hold on.
    while drain.holders() > 1 {
        tokio::task::yield_now().await;
    }
    drop(tcp);
    let mut client = http2_to(address).await;
    let unread = stream(&mut client, "bob").await;
    settled(&rig).await;
    rig.cut("bob");
    assert_eq!(heard(&mut gone).await, "gone");
    assert!(timeout(LONG, unread.collect()).await.unwrap().is_err());
    assert_eq!(rig.live.open(), 0);
}

/// Waits until the upstream has been asked and nothing moves any more.
async fn settled(rig: &Rig) {
    assert_eq!(rig.live.open(), 1);
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
}

/// Takes WebSockets, passes each to the test.
async fn sockets(scheme: &str) -> (Upstream, mpsc::UnboundedReceiver<TokioIo<hyper::upgrade::Upgraded>>) {
    let (give, take) = mpsc::unbounded_channel();
    let upstream = Upstream::serving(scheme, move |mut request: Request<Incoming>| {
        let give = give.clone();
        async move {
            let key = websocket::key(request.headers());
            let protocol = request.headers().get("upgrade").cloned();
            let on = hyper::upgrade::on(&mut request);
            tokio::spawn(async move { drop(give.send(TokioIo::new(on.await.unwrap()))) });
            let mut answer = Response::builder();
            if let Some(protocol) = protocol {
                answer = answer.status(101).header("connection", "upgrade").header("upgrade", protocol);
            }
            if let Some(key) = key {
                answer = answer.header("sec-websocket-accept", websocket::accept(&key));
            }
            answer.body(empty()).unwrap()
        }
    })
    .await;
    (upstream, take)
}

/// Reads one short frame: its first byte, and its payload unmasked.
async fn frame(io: &mut (impl AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    let read = async {
        let (first, second) = (io.read_u8().await.unwrap(), io.read_u8().await.unwrap());
        let mut mask = [0; 4];
        if second & 0x80 != 0 {
            io.read_exact(&mut mask).await.unwrap();
        }
        let mut payload = vec![0; usize::from(second & 0x7f)];
        io.read_exact(&mut payload).await.unwrap();
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        (first, payload)
    };
    timeout(LONG, read).await.expect("a frame in time")
}

/// Both sides see a Close frame with this code, answer it, and see the end.
async fn closes<C, U>(client: &mut C, upstream: &mut U, code: u16)
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (first, payload) = frame(client).await;
    assert_eq!((first, &payload[..2]), (0x88, &code.to_be_bytes()[..]));
    let (first, payload) = frame(upstream).await;
    assert_eq!((first, &payload[..2]), (0x88, &code.to_be_bytes()[..]));
    client.write_all(&frames::close(code, "", Some([7; 4]))).await.unwrap();
    upstream.write_all(&frames::close(code, "", None)).await.unwrap();
    assert_eq!((rest(client).await, rest(upstream).await), (String::new(), String::new()));
}

#[tokio::test]
async fn a_websocket_is_closed_with_1008_on_both_sides() {
    for scheme in ["http", "h2c"] {
        let (upstream, mut sockets) = sockets(scheme).await;
        let rig = Rig::before(&upstream).await;
        let (mut client, _) = shake(&rig, HANDSHAKE).await;
        let mut served = sockets.recv().await.unwrap();
        rig.cut("alice");
        closes(&mut client, &mut served, 1008).await;

        let mut answer = rig.http2().await.send_request(connect()).await.unwrap();
        let mut client = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
        let mut served = sockets.recv().await.unwrap();
        rig.cut("alice");
        closes(&mut client, &mut served, 1008).await;
        rig.gateway.tunnels_ended().await;
        assert_eq!(rig.live.open(), 0);
    }
}

#[tokio::test]
async fn a_frame_under_way_is_finished_before_the_close() {
    let (upstream, mut sockets) = sockets("http").await;
    let rig = Rig::before(&upstream).await;
    let (mut client, _) = shake(&rig, HANDSHAKE).await;
    let mut served = sockets.recv().await.unwrap();
    served.write_all(b"\x82\x05he").await.unwrap();
    client.read_exact(&mut [0; 4]).await.unwrap();
    rig.cut("alice");
    assert_eq!(frame(&mut served).await.0, 0x88, "the other direction does not wait");
    served.write_all(b"llo\x82\x05again").await.unwrap();
    client.read_exact(&mut [0; 3]).await.unwrap();
    assert_eq!(frame(&mut client).await.0, 0x88);
    assert_eq!(rest(&mut client).await, "", "no frame follows");
}

#[tokio::test]
async fn a_websocket_that_finishes_no_frame_and_answers_nothing_is_closed_anyway() {
    let (upstream, mut sockets) = sockets("http").await;
    let rig = Rig::before(&upstream).await;
    let (mut client, _) = shake(&rig, HANDSHAKE).await;
    let mut served = sockets.recv().await.unwrap();
    served.write_all(b"\x82\x05he").await.unwrap();
    client.read_exact(&mut [0; 4]).await.unwrap();
    rig.cut("alice");
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(frame(&mut served).await.0, 0x88);
    assert_eq!(rest(&mut served).await, "");
}

#[tokio::test]
async fn a_websocket_goes_away_when_the_process_drains() {
    let (upstream, mut sockets) = sockets("http").await;
    let rig = Rig::before(&upstream).await;
    let (mut client, _) = shake(&rig, HANDSHAKE).await;
    let mut served = sockets.recv().await.unwrap();
    rig.closing.send(true).unwrap();
    closes(&mut client, &mut served, 1001).await;
    rig.gateway.tunnels_ended().await;
}

#[tokio::test]
async fn another_protocols_tunnel_is_just_closed() {
    let (upstream, mut sockets) = sockets("http").await;
    let mut other = settings(std::slice::from_ref(&upstream.url));
    let [route] = &other.routes[..] else { unreachable!() };
    let route = RouteSettings { upgrades: vec!["other".into()], ..route.clone() };
    other = Settings { routes: vec![route], ..other };
    let rig = Rig::start(other).await;
    let handshake = HANDSHAKE.replace("upgrade: websocket", "upgrade: other");
    let (mut client, head) = shake(&rig, &handshake).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let mut served = sockets.recv().await.unwrap();
    rig.cut("alice");
    assert_eq!((rest(&mut client).await, rest(&mut served).await), (String::new(), String::new()));
}

/// A stream that joins in the very moment of the cut: it is refused, or cut, or was opened after. None stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_stream_slips_through() {
    let (upstream, _gone) = held("http", &[("content-type", "text/event-stream")], b"data: x\n\n").await;
    let rig = Arc::new(Rig::before(&upstream).await);
    let mut client = rig.http2().await;
    for round in 0..300 {
        let user = format!("user-{round}");
        let request = Request::builder().uri("http://a.example/").header("authorization", &user).body(empty()).unwrap();
        let answer = client.send_request(request);
        let (begun, begin) = oneshot::channel();
        let cutting = tokio::spawn({
            let (rig, user) = (rig.clone(), user.clone());
            async move {
                begin.await.unwrap();
                // Until it has joined; whenever that is in the life of the exchange.
                while rig.cut(&user) == 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
        begun.send(()).unwrap();
        let answer = answer.await.unwrap();
        let ended = timeout(LONG, answer.into_body().collect()).await;
        assert!(ended.is_ok(), "round {round} was not cut");
        cutting.await.unwrap();
    }
}
