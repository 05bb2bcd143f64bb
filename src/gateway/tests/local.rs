use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::rig::{parts, serve, settings};
use crate::gateway::{Gateway, Parts, Settings};
use crate::net::{Local, Peer, Taken};

/// Answers `DELETE /own/{id}`, and `GET /root` when nobody else does; says from where it was asked.
#[derive(Debug)]
struct Own;

#[async_trait]
impl Local for Own {
    fn takes(&self, method: &Method, path: &str) -> Taken {
        match (method.as_str(), path) {
            ("DELETE", path) if path.strip_prefix("/own/").is_some_and(|id| !id.contains('/')) => Taken::Yes,
            ("GET", "/root") => Taken::UnlessRouted,
            _ => Taken::No,
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Bytes> {
        let peer = request.extensions().get::<Arc<Peer>>().unwrap();
        Response::new(format!("answered to {}", peer.address.ip()).into())
    }
}

/// A gateway whose one route wants a token, which nobody here has.
async fn start(settings: Settings) -> SocketAddr {
    let (_closing, closed) = watch::channel(false);
    let gateway = Gateway::new(settings, Parts { local: Arc::new(Own), ..parts(closed).await }).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, address)) = listener.accept().await {
            let (gateway, peer) = (gateway.clone(), Arc::new(Peer { address, tls: None }));
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(peer.clone());
                let answer = gateway.clone().call(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            serve(tcp, false, service);
        }
    });
    address
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let head = format!("{request} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-forwarded-for: 203.0.113.9\r\n\r\n");
    tcp.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    answer
}

fn guarded(path: &str) -> Settings {
    let mut settings = settings(&["http://127.0.0.1:1".parse().unwrap()]);
    settings.routes[0].path = path.parse().unwrap();
    settings
}

#[tokio::test]
async fn only_the_very_calls_are_answered_here_in_every_spelling_of_one_meaning() {
    let address = start(guarded("/")).await;
    for own in ["DELETE /own/a", "DELETE /own/%61", "DELETE /%6fwn/a?x=1", "DELETE http://a/own/a"] {
        assert!(ask(address, own).await.contains("answered to 127.0.0.1"), "{own}");
    }
    for other in ["GET /own/a", "DELETE /own", "DELETE /own/a/b", "DELETE /own/a;b=c", "DELETE /own//a", "DELETE /ownx"]
    {
        assert!(ask(address, other).await.contains("401 Unauthorized"), "{other}: the route's");
    }
    for nobodys in ["DELETE /own/a%2fb", "DELETE /own/%2e%2e", "DELETE /own/a%5cb"] {
        assert!(ask(address, nobodys).await.contains("400 Bad Request"), "{nobodys}");
    }
}

#[tokio::test]
async fn a_route_goes_before_what_is_answered_for_want_of_one() {
    assert!(ask(start(guarded("/")).await, "GET /root").await.contains("401 Unauthorized"));
    let elsewhere = start(guarded("/elsewhere")).await;
    assert!(ask(elsewhere, "GET /root").await.contains("answered"));
    assert!(ask(elsewhere, "GET /other").await.contains("404 Not Found"));
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_client_is_who_asks() {
    let trusting = Settings { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..guarded("/") };
    assert!(ask(start(trusting).await, "DELETE /own/a").await.contains("answered to 203.0.113.9"));
}
