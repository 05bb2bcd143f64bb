use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Body as _;
use hyper::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::rig::{Rig, Upstream, empty, gate, nobody, parts, read_head, settings, text};
use crate::gateway::balance::Load;
use crate::gateway::body::Body;
use crate::gateway::idle::Idle;
use crate::gateway::pool::Loan;
use crate::gateway::upload::Upload;
use crate::gateway::{Gateway, Timeouts, UpstreamSettings};

#[tokio::test]
async fn an_upstream_learns_who_calls_and_from_where() {
    let upstream = Upstream::echo("http").await;
    let rig = Rig::before(&upstream).await;
    let request = "GET /a%62?q=%61 HTTP/1.1\r\nhost: a.example\r\nconnection: close, x-auth-user\r\nx-auth-user: mallory\r\n\
                   X_Auth_User: mallory\r\nx-forwarded-for: 1.2.3.4\r\nte: trailers\r\naccept: */*\r\n\r\n";
    let answer = rig.raw(request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let told: Vec<_> = body.lines().filter(|line| !line.starts_with("x-request-id")).collect();
    let expected = [
        "GET /ab?q=%61",
        "accept: */*",
        "connection: TE",
        "forwarded: for=127.0.0.1;host=\"a.example\";proto=http",
        "host: a.example",
        "te: trailers",
        "x-auth-issuer: https://id.example/",
        "x-auth-user: alice",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: a.example",
        "x-forwarded-proto: http",
    ];
    assert_eq!(told, expected);
    assert!(body.contains("x-request-id: "));
}

#[tokio::test]
async fn a_connection_serves_again_only_when_both_messages_are_complete() {
    let upstream = Upstream::echo("http").await;
    let rig = Rig::before(&upstream).await;
    for _ in 0..3 {
        assert!(rig.ask("GET", "/").await.contains("200 OK"));
    }
    let posted = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";
    assert!(rig.raw(posted).await.contains("200 OK"));
    assert!(rig.ask("HEAD", "/").await.contains("200 OK"));
    assert_eq!((upstream.connections(), rig.idle_connections()), (1, 1));
}

#[tokio::test]
async fn an_early_answer_ends_the_upstream_connection() {
    // It answers before it has read the body, of which half never comes.
    let upstream = Upstream::accepting("http", |mut tcp| {
        tokio::spawn(async move {
            read_head(&mut tcp).await;
            tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            let mut rest = Vec::new();
            let _ = tcp.read_to_end(&mut rest).await;
        });
    })
    .await;
    let rig = Rig::before(&upstream).await;
    let mut tcp = TcpStream::connect(rig.http1).await.unwrap();
    tcp.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello").await.unwrap();
    assert!(read_head(&mut tcp).await.contains("200 OK"));
    let mut body = [0; 2];
    tcp.read_exact(&mut body).await.unwrap();
    assert_eq!(rig.idle_connections(), 0);
    drop(tcp);
    assert!(rig.ask("GET", "/").await.contains("200 OK"));
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn a_truncated_answer_is_passed_on_as_truncated() {
    let sized = Upstream::scripted("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    let answer = Rig::before(&sized).await.ask("GET", "/").await;
    assert!(answer.contains("content-length: 10") && answer.ends_with("half"), "{answer}");
    let chunked = Upstream::scripted("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
    let answer = Rig::before(&chunked).await.ask("GET", "/").await;
    assert!(answer.contains("4\r\nhalf\r\n") && !answer.contains("\r\n0\r\n"), "{answer}");
}

#[tokio::test]
async fn answers_without_a_body_keep_their_connection() {
    let upstream = Upstream::serving("http", |request| async move {
        let status = if request.uri() == "/304" { 304 } else { 204 };
        Response::builder().status(status).body(empty()).unwrap()
    })
    .await;
    let rig = Rig::before(&upstream).await;
    for target in ["/204", "/304"] {
        let answer = rig.ask("GET", target).await;
        assert!(answer.contains(&target[1..]) && answer.ends_with("\r\n\r\n"), "{answer}");
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_request_is_sent_elsewhere_only_when_it_may_be_repeated() {
    let upstream = Upstream::echo("http").await;
    let healthy = UpstreamSettings { failures: 0, ..UpstreamSettings::default() };
    let rig =
        Rig::start(crate::gateway::Settings { upstream: healthy, ..settings(&[nobody().await, upstream.url.clone()]) })
            .await;
    let mut posts = 0;
    for _ in 0..4 {
        assert!(rig.ask("GET", "/").await.contains("200 OK"));
        posts += usize::from(rig.ask("POST", "/").await.contains("502 Bad Gateway"));
    }
    assert!(posts > 0, "a POST is not tried twice");
}

#[tokio::test]
async fn an_ill_upstream_is_left_out() {
    let upstream = Upstream::echo("http").await;
    let rig = Rig::start(settings(&[nobody().await, upstream.url.clone()])).await;
    for _ in 0..6 {
        assert!(rig.ask("GET", "/").await.contains("200 OK"));
    }
    for _ in 0..6 {
        assert!(rig.ask("POST", "/").await.contains("200 OK"), "nobody asks it any more");
    }
}

#[tokio::test]
async fn a_connection_that_died_in_the_pool_costs_nobody_a_request() {
    // Keeps the connection open in word, closes it in deed.
    let upstream = Upstream::scripted("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let rig = Rig::before(&upstream).await;
    for _ in 0..5 {
        let post = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert!(rig.raw(post).await.contains("200 OK"));
    }
}

#[tokio::test]
async fn what_is_no_answer_is_a_bad_gateway() {
    for wrong in [
        "",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nsmuggled",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
    ] {
        let upstream = Upstream::scripted(wrong).await;
        let answer = Rig::before(&upstream).await.ask("GET", "/").await;
        assert!(answer.contains("502 Bad Gateway") && !answer.contains("smuggled"), "{wrong}: {answer}");
        assert!(answer.contains("application/problem+json"));
    }
    let answer = Rig::start(settings(&[nobody().await])).await.ask("GET", "/").await;
    assert!(answer.contains("502 Bad Gateway"));
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_a_gateway_timeout() {
    let upstream = Upstream::serving("http", |_| std::future::pending()).await;
    let timeouts = Timeouts { upstream: Duration::from_millis(20), ..Timeouts::default() };
    let rig = Rig::start(crate::gateway::Settings { timeouts, ..settings(std::slice::from_ref(&upstream.url)) }).await;
    assert!(rig.ask("GET", "/").await.contains("504 Gateway Timeout"));
    assert_eq!(rig.idle_connections(), 0);
}

#[tokio::test]
async fn an_answer_that_stalls_is_cut() {
    let upstream = Upstream::accepting("http", |mut tcp| {
        tokio::spawn(async move {
            read_head(&mut tcp).await;
            tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
            std::future::pending::<()>().await;
        });
    })
    .await;
    for timeouts in [
        Timeouts { body: Duration::from_millis(20), ..Timeouts::default() },
        Timeouts { total: Some(Duration::from_millis(20)), ..Timeouts::default() },
    ] {
        let rig =
            Rig::start(crate::gateway::Settings { timeouts, ..settings(std::slice::from_ref(&upstream.url)) }).await;
        let answer = rig.ask("GET", "/").await;
        assert!(answer.ends_with("half") || answer.contains("504 Gateway Timeout"), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_exchange() {
    let gone = Arc::new(tokio::sync::Notify::new());
    let noted = gone.clone();
    let upstream = Upstream::accepting("http", move |mut tcp| {
        let noted = noted.clone();
        tokio::spawn(async move {
            read_head(&mut tcp).await;
            assert!(tcp.read_u8().await.is_err(), "the gateway closes");
            noted.notify_one();
        });
    })
    .await;
    let rig = Rig::before(&upstream).await;
    let mut tcp = TcpStream::connect(rig.http1).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    while upstream.connections() == 0 {
        tokio::task::yield_now().await;
    }
    drop(tcp);
    gone.notified().await;
}

#[tokio::test]
async fn a_reload_keeps_the_connections_of_what_stays() {
    let upstream = Upstream::echo("http").await;
    let rig = Rig::before(&upstream).await;
    rig.ask("GET", "/").await;
    let more = settings(&[upstream.url.clone(), nobody().await]);
    let successor = rig.gateway.succeed(more, gate()).unwrap();
    let kept: usize = successor.upstreams.values().map(|upstream| upstream.pool().idle_connections()).sum();
    assert_eq!((kept, successor.upstreams.len()), (1, 2));
}

#[tokio::test]
async fn a_gateway_that_is_dropped_closes_its_connections() {
    let closed = Arc::new(AtomicBool::new(false));
    let noted = closed.clone();
    let upstream = Upstream::accepting("http", move |mut tcp| {
        let noted = noted.clone();
        tokio::spawn(async move {
            read_head(&mut tcp).await;
            tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            assert!(tcp.read_u8().await.is_err());
            noted.store(true, Ordering::SeqCst);
        });
    })
    .await;
    let (_closing, closed_rx) = tokio::sync::watch::channel(false);
    let settings = settings(std::slice::from_ref(&upstream.url));
    let gateway = Gateway::new(settings, parts(closed_rx).await).unwrap();
    let load = Load::on(gateway.upstreams.values().next().unwrap());
    let connection = load.upstream().pool().checkout().await.unwrap();
    let (answer, hold) = connection.send(Request::new(Upload::EMPTY), &load).await.unwrap();
    let body = Body::stream(answer.into_body(), Idle::new(Duration::from_secs(60), None), Loan::new(hold, None, load));
    http_body_util::BodyExt::collect(body).await.unwrap();
    assert_eq!(gateway.upstreams.values().next().unwrap().pool().idle_connections(), 1);
    drop(gateway);
    while !closed.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_body_goes_both_ways() {
    let upstream = Upstream::serving("http", |request| async move {
        let sized = request.body().size_hint().exact();
        let body = http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes();
        Response::new(text(format!("{sized:?} {}", String::from_utf8_lossy(&body))))
    })
    .await;
    let rig = Rig::before(&upstream).await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n";
    let sized = rig.raw(&format!("{head}content-length: 5\r\n\r\nhello")).await;
    assert!(sized.ends_with("Some(5) hello"), "{sized}");
    let chunked = rig.raw(&format!("{head}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")).await;
    assert!(chunked.ends_with("None hello"), "{chunked}");
    let expected = rig.raw(&format!("{head}expect: 100-continue\r\ncontent-length: 5\r\n\r\nhello")).await;
    assert!(expected.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"), "{expected}");
}
