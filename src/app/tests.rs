//! The whole, started and reloaded in this process.

use std::net::TcpListener;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::config;

/// Routes and nothing that must be there: no issuer, no file.
const PUBLIC: &str =
    "[proxy]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[store]\nurl = \"memory:\"\n";

fn route(path: &str) -> String {
    format!("[[routes]]\npath = \"{path}\"\nauth = \"none\"\nupstreams = [\"http://127.0.0.1:9\"]\n")
}

fn settings(text: &str) -> Settings {
    config::parse(Path::new("test.toml"), text, &|_| None).unwrap()
}

async fn app() -> App {
    App::start(settings(&format!("{PUBLIC}{}", route("/a"))), None).await.unwrap()
}

/// The status of a `GET`.
async fn get(address: SocketAddr, path: &str) -> u16 {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_has_started_serves_and_is_ready() {
    let app = app().await;
    assert_eq!(get(app.proxy_addr(), "/nowhere").await, 404);
    assert_eq!(get(app.proxy_addr(), "/a").await, 502);
    assert_eq!(get(app.admin_addr(), "/readyz").await, 200);
    assert_eq!(get(app.admin_addr(), "/v1/status").await, 401);
    app.shutdown().await;
}

#[tokio::test]
async fn what_was_shut_down_serves_no_more() {
    let app = app().await;
    let addresses = [app.proxy_addr(), app.admin_addr()];
    app.shutdown().await;
    for address in addresses {
        assert!(TcpStream::connect(address).await.is_err());
    }
}

#[tokio::test]
async fn an_address_in_use_stops_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!("{PUBLIC}{}", route("/a")).replacen("127.0.0.1:0", &taken.local_addr().unwrap().to_string(), 1);
    let error = App::start(settings(&text), None).await.unwrap_err();
    assert!(matches!(error, AppError::Listen(_)), "{error}");
}

#[tokio::test]
async fn a_reload_changes_the_routes_of_the_running_gateway() {
    let app = app().await;
    let changed = format!("{PUBLIC}{}", route("/b"));
    assert_eq!(app.reload(settings(&changed)).unwrap(), Vec::<&str>::new());
    assert_eq!(get(app.proxy_addr(), "/a").await, 404);
    assert_eq!(get(app.proxy_addr(), "/b").await, 502);
    assert!(app.metrics.text().contains("portcullis_reloads_total{result=\"ok\"} 1"));
    app.shutdown().await;
}

#[tokio::test]
async fn a_reload_names_what_takes_a_restart() {
    let app = app().await;
    let moved = format!("{PUBLIC}max_staleness = \"20s\"\n{}", route("/a"));
    let moved = moved.replacen("127.0.0.1:0", "127.0.0.1:1", 1).replace("memory:", "sqlite:/nowhere/x.db");
    let mut named = app.reload(settings(&moved)).unwrap();
    named.sort_unstable();
    assert_eq!(named, ["proxy.listen", "store.max_staleness", "store.url"]);
    assert_eq!(get(app.proxy_addr(), "/nowhere").await, 404);
    app.shutdown().await;
}

#[tokio::test]
async fn a_reload_that_fails_changes_nothing() {
    let app = app().await;
    let mut wrong = settings(&format!("{PUBLIC}{}", route("/b")));
    let missing = crate::net::tls::KeyPair { cert: "gone.pem".into(), key: "gone.key".into() };
    let tls = crate::net::tls::Settings { default: missing, certificates: Vec::new(), client_ca: None };
    wrong.admin_listener.tls = Some(tls);
    assert!(app.reload(wrong).is_err());
    assert_eq!(get(app.proxy_addr(), "/a").await, 502);
    assert_eq!(get(app.proxy_addr(), "/b").await, 404);
    assert!(app.metrics.text().contains("portcullis_reloads_total{result=\"failed\"} 1"));
    app.shutdown().await;
}
