use std::time::Duration;

use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, split};
use tokio::net::TcpStream;

use super::rig::{Boxed, Rig, Upstream, empty, parts, read_head, settings, text};
use crate::gateway::{Settings, Timeouts, websocket};

pub(super) const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nhost: a.example\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
                         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

async fn echo(upgraded: Upgraded) {
    let (mut reader, mut writer) = split(TokioIo::new(upgraded));
    let _ = copy(&mut reader, &mut writer).await;
}

/// Takes WebSockets in either version of HTTP, and echoes.
async fn chat(scheme: &str) -> Upstream {
    Upstream::serving(scheme, |mut request| async move {
        let is_connect = request.method() == Method::CONNECT;
        let protocol = request.extensions().get::<Protocol>().map(|protocol| protocol.as_str().to_owned());
        if is_connect && protocol.as_deref() != Some("websocket") {
            return Response::builder().status(400).body(text("which protocol?")).unwrap();
        }
        let key = websocket::key(request.headers());
        let user = request.headers().get("x-auth-user").cloned();
        let on = hyper::upgrade::on(&mut request);
        tokio::spawn(async move { echo(on.await.unwrap()).await });
        let mut answer = Response::builder().header("x-user", user.unwrap()).header("sec-websocket-protocol", "chat");
        if !is_connect {
            answer = answer.status(101).header("connection", "upgrade").header("upgrade", "WebSocket");
            answer = answer.header("sec-websocket-accept", websocket::accept(&key.unwrap()));
        }
        answer.body(empty()).unwrap()
    })
    .await
}

pub(super) async fn shake(rig: &Rig, handshake: &str) -> (TcpStream, String) {
    let mut tcp = TcpStream::connect(rig.http1).await.unwrap();
    tcp.write_all(handshake.as_bytes()).await.unwrap();
    let head = read_head(&mut tcp).await;
    (tcp, head)
}

pub(super) fn connect() -> Request<Boxed> {
    let request =
        Request::builder().method("CONNECT").uri("http://a.example/chat").header("sec-websocket-version", "13");
    let mut request = request.body(empty()).unwrap();
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    request
}

async fn speak(io: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) {
    io.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    io.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello");
}

#[tokio::test]
async fn a_websocket_passes_between_http_versions() {
    for scheme in ["http", "h2c"] {
        let upstream = chat(scheme).await;
        let rig = Rig::before(&upstream).await;
        let (mut tcp, head) = shake(&rig, HANDSHAKE).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{scheme}: {head}");
        assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
        assert!(head.contains("upgrade: websocket\r\n") && head.contains("sec-websocket-protocol: chat\r\n"), "{head}");
        assert!(head.contains("x-user: alice\r\n"), "{head}");
        speak(&mut tcp).await;

        let mut client = rig.http2().await;
        let mut answer = client.send_request(connect()).await.unwrap();
        assert_eq!(answer.status(), 200, "{scheme}");
        assert_eq!(answer.headers()["x-user"], "alice");
        assert!(!answer.headers().contains_key("sec-websocket-accept"));
        let upgraded = hyper::upgrade::on(&mut answer).await.unwrap();
        speak(&mut TokioIo::new(upgraded)).await;
    }
}

#[tokio::test]
async fn a_tunnel_ends_when_the_process_drains() {
    let upstream = chat("http").await;
    let rig = Rig::before(&upstream).await;
    let (mut tcp, _) = shake(&rig, HANDSHAKE).await;
    speak(&mut tcp).await;
    assert!(rig.gateway.metrics.text().contains("portcullis_tunnels 1"));
    rig.closing.send(true).unwrap();
    rig.gateway.tunnels_ended().await;
    assert_eq!(tcp.read(&mut [0]).await.unwrap_or(0), 0);
    assert!(rig.gateway.metrics.text().contains("portcullis_tunnels 0"));
}

#[tokio::test]
async fn a_silent_tunnel_is_closed() {
    let upstream = chat("http").await;
    let timeouts = Timeouts { tunnel: Duration::from_millis(20), ..Timeouts::default() };
    let rig = Rig::start(Settings { timeouts, ..settings(std::slice::from_ref(&upstream.url)) }).await;
    let (mut tcp, _) = shake(&rig, HANDSHAKE).await;
    assert_eq!(tcp.read(&mut [0]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_refused_upgrade_leaves_an_ordinary_connection() {
    let upstream =
        Upstream::serving("http", |_| async { Response::builder().status(403).body(text("no")).unwrap() }).await;
    let rig = Rig::before(&upstream).await;
    let (mut tcp, head) = shake(&rig, HANDSHAKE).await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    tcp.read_exact(&mut [0; 2]).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(read_head(&mut tcp).await.starts_with("HTTP/1.1 403"));
    let mut client = rig.http2().await;
    assert_eq!(client.send_request(connect()).await.unwrap().status(), 403);
}

#[tokio::test]
async fn no_tunnel_opens_without_the_right_answer() {
    for wrong in [
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\
         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    ] {
        let upstream = Upstream::scripted(wrong).await;
        let rig = Rig::before(&upstream).await;
        assert!(shake(&rig, HANDSHAKE).await.1.starts_with("HTTP/1.1 502"), "{wrong}");
    }
    let upstream = Upstream::echo("http").await;
    let rig = Rig::before(&upstream).await;
    let mut client = rig.http2().await;
    let misled = client.send_request(connect()).await.unwrap();
    assert_eq!(misled.status(), 502, "a 200 to CONNECT would be a tunnel");
}

#[tokio::test]
async fn what_no_route_names_is_not_offered() {
    let upstream = Upstream::echo("http").await;
    let rig = Rig::before(&upstream).await;
    let h2c =
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAM\r\n";
    let answer = rig.raw(&format!("{h2c}\r\nGET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
    assert_eq!(answer.matches("200 OK").count(), 2, "{answer}");
    assert!(!answer.contains("h2c") && !answer.contains("http2-settings"), "{answer}");
    let mut client = rig.http2().await;
    let mut other = connect();
    other.extensions_mut().insert(Protocol::from_static("connect-udp"));
    assert_eq!(client.send_request(other).await.unwrap().status(), 400);
}

#[tokio::test]
async fn a_handshake_that_is_none_is_refused() {
    let upstream = chat("http").await;
    let rig = Rig::before(&upstream).await;
    for wrong in [
        HANDSHAKE.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"),
        HANDSHAKE.replace("GET", "POST"),
        HANDSHAKE.replace("sec-websocket-version", "content-length: 1\r\nsec-websocket-version") + "x",
    ] {
        assert!(shake(&rig, &wrong).await.1.starts_with("HTTP/1.1 400"), "{wrong}");
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn no_route_may_be_upgraded_to_http2() {
    use crate::gateway::{Gateway, GatewayError};
    let mut wrong = settings(&["http://127.0.0.1:1".parse().unwrap()]);
    wrong.routes[0].upgrades = vec!["H2C".into()];
    let (_closing, closed) = tokio::sync::watch::channel(false);
    let made = Gateway::new(wrong, parts(closed).await);
    assert!(matches!(made, Err(GatewayError::Upgrade(..))));
}
