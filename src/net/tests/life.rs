//! Connections come within limits, and go when they are told.

use super::*;
use crate::net::{Limits, ListenError, Timeouts};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn draining_lets_requests_finish_and_takes_no_new_ones() {
    let rig = Rig::start(loopback());
    let mut idle = rig.connect().await;
    idle.write_all(GET.as_bytes()).await.unwrap();
    until(&mut idle, "hello").await;
    let mut busy = rig.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    rig.arrived().await;
    let mut busy2 = http2(rig.connect().await).await;
    let slow2 = tokio::spawn(async move { ask(&mut busy2, "/slow").await });
    rig.arrived().await;

    let finishing = tokio::spawn({
        let drain = rig.drain.clone();
        async move { drain.finish(LONG).await }
    });
    assert_eq!(until_closed(&mut idle).await, "");
    while TcpStream::connect(rig.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!finishing.is_finished());
    rig.seen.proceed.add_permits(2);
    let answer = until_closed(&mut busy).await;
    assert!(answer.ends_with("hello") && answer.to_lowercase().contains("connection: close"), "{answer}");
    assert_eq!(slow2.await.unwrap(), (StatusCode::OK, "hello".to_owned()));
    assert_eq!(finishing.await.unwrap(), 0);
}

#[tokio::test]
async fn what_does_not_finish_is_cut() {
    let rig = Rig::start(loopback());
    let mut busy = rig.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    rig.arrived().await;
    let mut tunnel = rig.connect().await;
    tunnel.write_all(b"GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await.unwrap();
    until(&mut tunnel, "\r\n\r\n").await;
    assert_eq!(rig.drain.finish(Duration::from_millis(500)).await, 2);
    assert_eq!(until_closed(&mut busy).await, "");
    assert_eq!(until_closed(&mut tunnel).await, "");
    assert_eq!(rig.drain.holders(), 0);
}

#[tokio::test]
async fn a_connection_too_many_is_closed_and_there_is_room_again_later() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let rig = Rig::start(Settings { limits, ..loopback() });
    let mut first = rig.connect().await;
    first.write_all(GET.as_bytes()).await.unwrap();
    until(&mut first, "hello").await;
    let mut second = rig.connect().await;
    assert_eq!(until_closed(&mut second).await, "");
    assert!(rig.metrics.text().contains(r#"connections_total{listener="proxy",result="refused"} 1"#));
    drop(first);
    loop {
        let mut third = rig.connect().await;
        if third.write_all(GET.as_bytes()).await.is_err() {
            continue;
        }
        let mut first_byte = [0];
        if matches!(third.read(&mut first_byte).await, Ok(1)) {
            break;
        }
    }
}

#[tokio::test]
async fn an_address_has_no_more_connections_than_its_share() {
    let limits = Limits { connections_per_address: Some(1), ..Limits::default() };
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let rig = Rig::start(Settings { limits, trusted_proxies, proxy_protocol: true, ..loopback() });
    let mut held = Vec::new();
    for source in ["192.0.2.1", "192.0.2.2"] {
        let mut stream = rig.connect().await;
        stream.write_all(format!("PROXY TCP4 {source} 192.0.2.9 1 2\r\n{GET}").as_bytes()).await.unwrap();
        until(&mut stream, "hello").await;
        held.push(stream);
    }
    let refused = rig.say(format!("PROXY TCP4 192.0.2.1 192.0.2.9 3 2\r\n{GET}")).await;
    assert_eq!(refused, "");
}

#[tokio::test]
async fn a_trusted_balancer_says_whom_it_speaks_for() {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let rig = Rig::start(Settings { trusted_proxies, proxy_protocol: true, ..loopback() });
    let ask = "GET /peer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = rig.say(format!("PROXY TCP4 192.0.2.1 192.0.2.9 1 2\r\n{ask}")).await;
    assert!(answer.ends_with("192.0.2.1"), "{answer}");
    let v2 = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x05\xc0\0\x02\x09\0\x01\0\x02".as_slice(), ask.as_bytes()];
    let answer = rig.say(v2.concat()).await;
    assert!(answer.ends_with("192.0.2.5"), "{answer}");
    for bad in [ask.to_owned(), format!("PROXY TCP4 nobody 192.0.2.9 1 2\r\n{ask}")] {
        assert_eq!(rig.say(bad).await, "");
    }
}

#[tokio::test]
async fn a_header_from_anyone_else_is_a_malformed_request() {
    let trusted_proxies = vec!["192.0.2.0/24".parse().unwrap()];
    let rig = Rig::start(Settings { trusted_proxies, proxy_protocol: true, ..loopback() });
    let answer = rig.say(format!("PROXY TCP4 192.0.2.1 192.0.2.9 1 2\r\n{GET}")).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(rig.requests(), 0);
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let rig = Rig::start(loopback());
    let error = Server::bind("proxy", Settings::plain(rig.address), Metrics::new()).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {}", rig.address));
}

#[tokio::test]
async fn new_settings_are_for_new_connections() {
    let rig = Rig::start(loopback());
    let elsewhere = Settings::plain(SocketAddr::from(([127, 0, 0, 1], 1)));
    assert!(matches!(rig.handle.prepare(elsewhere), Err(ListenError::Moved { .. })));
    let mut old = rig.connect().await;
    old.write_all(GET.as_bytes()).await.unwrap();
    until(&mut old, "hello").await;
    let timeouts = Timeouts { header: Duration::from_millis(50), ..Timeouts::default() };
    rig.handle.install(rig.handle.prepare(Settings { timeouts, ..loopback() }).unwrap());
    assert_eq!(rig.say("GET").await, "");
    old.write_all(GET.as_bytes()).await.unwrap();
    assert!(until(&mut old, "hello").await.ends_with("hello"));
}

#[tokio::test]
async fn an_axum_router_is_served_as_it_is() {
    let server = Server::bind("admin", loopback(), Metrics::new()).unwrap();
    let (address, drain) = (server.local_addr(), Drain::new());
    let router = axum::Router::new().route("/", axum::routing::get(async || "routed"));
    tokio::spawn(server.run(hyper_util::service::TowerToHyperService::new(router), drain.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(GET.as_bytes()).await.unwrap();
    assert!(until(&mut stream, "routed").await.starts_with("HTTP/1.1 200 "));
    assert_eq!(drain.finish(LONG).await, 0);
}
