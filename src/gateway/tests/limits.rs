use std::time::Duration;

use hyper::Response;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::rig::{Rig, Upstream, empty, read_head, settings};
use crate::gateway::{Limits, Settings, Timeouts};

async fn swallowing() -> Upstream {
    Upstream::serving("http", |request| async move {
        let _ = http_body_util::BodyExt::collect(request.into_body()).await;
        Response::new(empty())
    })
    .await
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_too_large_however_it_is_framed() {
    let upstream = swallowing().await;
    let limits = Limits { body_bytes: Some(4), ..Limits::default() };
    let rig = Rig::start(Settings { limits, ..settings(std::slice::from_ref(&upstream.url)) }).await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n";
    let sized = rig.raw(&format!("{head}content-length: 5\r\n\r\nhello")).await;
    assert!(sized.contains("413 Payload Too Large"), "{sized}");
    assert_eq!(upstream.connections(), 0, "a declared length is refused before anything is sent");
    let chunked = rig.raw(&format!("{head}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")).await;
    assert!(chunked.contains("413 Payload Too Large"), "{chunked}");
    let fits = rig.raw(&format!("{head}content-length: 4\r\n\r\nhell")).await;
    assert!(fits.contains("200 OK"), "{fits}");
}

#[tokio::test]
async fn a_client_that_stops_sending_is_timed_out_and_the_upstream_not_blamed() {
    let upstream = swallowing().await;
    let timeouts = Timeouts { body: Duration::from_millis(20), ..Timeouts::default() };
    let rig = Rig::start(Settings { timeouts, ..settings(std::slice::from_ref(&upstream.url)) }).await;
    for _ in 0..4 {
        let mut tcp = TcpStream::connect(rig.http1).await.unwrap();
        tcp.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhel").await.unwrap();
        let head = read_head(&mut tcp).await;
        assert!(head.contains("408 Request Timeout") && head.contains("connection: close"), "{head}");
    }
    assert!(rig.ask("GET", "/").await.contains("200 OK"));
}

#[tokio::test]
async fn a_slow_upload_outlasts_the_upstream_timeout_as_long_as_it_moves() {
    let upstream = swallowing().await;
    let timeouts = Timeouts { upstream: Duration::from_millis(300), ..Timeouts::default() };
    let rig = Rig::start(Settings { timeouts, ..settings(std::slice::from_ref(&upstream.url)) }).await;
    let mut tcp = TcpStream::connect(rig.http1).await.unwrap();
    tcp.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    let started = tokio::time::Instant::now();
    while started.elapsed() < Duration::from_millis(700) {
        tcp.write_all(b"1\r\nx\r\n").await.unwrap();
        tokio::task::yield_now().await;
    }
    tcp.write_all(b"0\r\n\r\n").await.unwrap();
    assert!(read_head(&mut tcp).await.contains("200 OK"));
}

#[tokio::test]
async fn what_has_two_meanings_never_reaches_the_upstream() {
    let upstream = swallowing().await;
    let rig = Rig::before(&upstream).await;
    for (request, status) in [
        ("GET /a/../b HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
        ("GET /a%2fb HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
        ("GET //a HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
        ("GET http://a@b/ HTTP/1.1\r\nhost: b\r\n\r\n", "400"),
        ("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
        ("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "400"),
    ] {
        let answer = rig.raw(request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
    }
    assert_eq!(upstream.connections(), 0);
}
