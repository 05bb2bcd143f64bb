//! A real service behind: nginx with static files, ranges and long bodies.

use std::process::Command;

use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::Request;
use hyper::body::{Bytes, Frame};
use serde_json::json;

use crate::rig::program::{Companion, find, project};
use crate::rig::serve::{BoxError, full};
use crate::rig::{Rig, Wire, get, within};

const GIB: u64 = 1 << 30;

/// A gateway in front of nginx, which serves what lies in the folder that is answered.
async fn before_nginx(scheme: &str) -> (Rig, Companion) {
    find("nginx", "apt-get install nginx");
    let builder = Rig::builder().await;
    let mut command = Command::new(find("python3", "apt-get install python3"));
    command.arg(project("tests/nginx/serve.py")).arg(builder.folder().join("nginx"));
    let nginx = Companion::start(command).await;
    let url = nginx.text(if scheme == "h2c" { "h2c_url" } else { "url" }).to_owned();
    let rig = builder.tls().word("nginx", url).config("[[routes]]\npath = '/'\nupstreams = ['{nginx}']").start().await;
    (rig, nginx)
}

#[tokio::test]
async fn files_ranges_and_conditions() {
    for scheme in ["http", "h2c"] {
        let (rig, nginx) = before_nginx(scheme).await;
        std::fs::write(format!("{}/file.txt", nginx.text("www")), "0123456789").unwrap();
        let token = rig.issuer.token(json!({})).text;
        let mut connection = rig.connect(Wire::TlsH2).await;
        let whole = connection.send(get("/file.txt", &token)).await.unwrap();
        assert_eq!((whole.status, whole.text().as_str()), (200, "0123456789"));
        let mut with = async |name: &'static str, value: &str| {
            let mut request = get("/file.txt", &token);
            request.headers_mut().insert(name, value.parse().unwrap());
            connection.send(request).await.unwrap()
        };
        let part = with("range", "bytes=2-4").await;
        assert_eq!((part.status, part.text().as_str(), part.header("content-range")), (206, "234", "bytes 2-4/10"));
        assert_eq!(with("range", "bytes=20-").await.status, 416);
        assert_eq!(with("if-none-match", whole.header("etag")).await.status, 304);
        let several = with("range", "bytes=0-1,8-9").await;
        assert!(several.status == 206 && several.header("content-type").starts_with("multipart/byteranges"));
    }
}

#[tokio::test]
async fn nginx_learns_who_calls_and_nothing_else() {
    let (rig, _nginx) = before_nginx("http").await;
    let token = rig.issuer.token(json!({"sub": "alice"})).text;
    let mut request = get("/echo", &token);
    request.headers_mut().insert("x_auth_user", "root".parse().unwrap());
    let answer = rig.connect(Wire::TlsH1).await.send(request).await.unwrap().text();
    assert!(answer.contains("X-Auth-User: alice\n") && !answer.contains("root"), "{answer}");
}

#[tokio::test]
async fn a_gibibyte_comes_down_with_flat_memory() {
    for wire in [Wire::TlsH1, Wire::TlsH2] {
        let (rig, nginx) = before_nginx("http").await;
        let sparse = std::fs::File::create(format!("{}/big.bin", nginx.text("www"))).unwrap();
        sparse.set_len(GIB).unwrap();
        let token = rig.issuer.token(json!({})).text;
        let mut connection = rig.connect(wire).await;
        connection.send(get("/", &token)).await.unwrap();
        let before = rig.gateway.resident_bytes();
        let response = connection.start(get("/big.bin", &token)).await.unwrap();
        let (mut body, mut read) = (response.into_body(), 0);
        while let Some(frame) = within("a piece", body.frame()).await {
            read += frame.unwrap().into_data().map_or(0, |data| data.len() as u64);
        }
        assert_eq!(read, GIB);
        let grown = rig.gateway.peak_bytes().saturating_sub(before);
        assert!(grown < 24 << 20, "{wire:?}: memory grew by {grown} bytes");
    }
}

#[tokio::test]
async fn a_gibibyte_goes_up_with_flat_memory() {
    const PIECE: usize = 64 * 1024;
    for wire in [Wire::TlsH1, Wire::TlsH2] {
        let (rig, _nginx) = before_nginx("http").await;
        let token = rig.issuer.token(json!({})).text;
        let mut connection = rig.connect(wire).await;
        connection.send(get("/", &token)).await.unwrap();
        let before = rig.gateway.resident_bytes();
        let piece = Bytes::from(vec![7; PIECE]);
        let pieces = (0..GIB / PIECE as u64).map(move |_| Ok::<_, BoxError>(Frame::data(piece.clone())));
        let body = StreamBody::new(stream::iter(pieces)).boxed_unsync();
        let request =
            Request::put("/sink").header("authorization", format!("Bearer {token}")).header("content-length", GIB);
        let answer = connection.send(request.body(body).unwrap()).await.unwrap();
        assert_eq!(answer.json()["bytes"], json!(GIB.to_string()), "{}", answer.text());
        let grown = rig.gateway.peak_bytes().saturating_sub(before);
        assert!(grown < 24 << 20, "{wire:?}: memory grew by {grown} bytes");
    }
}

#[tokio::test]
async fn what_was_uploaded_comes_back() {
    let (rig, _nginx) = before_nginx("http").await;
    let token = rig.issuer.token(json!({})).text;
    let mut connection = rig.connect(Wire::TlsH1).await;
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let request = Request::put("/upload/file").header("authorization", format!("Bearer {token}"));
    let stored = connection.send(request.body(full(content.clone())).unwrap()).await.unwrap();
    assert_eq!(stored.status, 201);
    assert_eq!(connection.send(get("/upload/file", &token)).await.unwrap().body, content);
}
