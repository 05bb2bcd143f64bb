//! The service behind the gateway: it keeps a record of every request that reached it, and misbehaves on demand.
//!
//! What it does is in the first part of the path: `/echo` gives the body back as it comes, `/bytes/N` sends N zeros,
//! `/sink` counts a body, `/status/N`, `/trailers`, `/never`, `/held` and `/held-head` wait to be released, `/events` is an
//! event stream of one event, `/early` answers without reading, `/truncated` breaks off, `/ws` is a WebSocket echo; anything
//! else says 200 and its name.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};
use rustls::ServerConfig;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::rig::serve::{Body, BoxError, Server, full};
use crate::rig::websocket;

/// The header by which a story finds its own requests in the record.
pub(crate) const TAG: &str = "x-tag";

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// All values of one header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
    }
}

/// An upstream on loopback.
pub(crate) struct Upstream {
    server: Server,
    shared: Arc<Shared>,
    tls: bool,
}

struct Shared {
    name: String,
    seen: Mutex<Vec<Seen>>,
    releases: Semaphore,
}

impl Upstream {
    pub(crate) async fn start(name: &str) -> Self {
        Self::with(name, None).await
    }

    pub(crate) async fn with(name: &str, tls: Option<Arc<ServerConfig>>) -> Self {
        let shared = Shared { name: name.to_owned(), seen: Mutex::default(), releases: Semaphore::new(0) };
        let shared = Arc::new(shared);
        let (of, secure) = (shared.clone(), tls.is_some());
        let server = Server::start(tls, move |request| answer(of.clone(), request)).await;
        Self { server, shared, tls: secure }
    }

    /// The address to configure, under this scheme.
    pub(crate) fn url(&self, scheme: &str) -> String {
        assert_eq!(self.tls, scheme == "https", "an upstream speaks TLS or it does not");
        format!("{scheme}://{}", self.server.address)
    }

    /// Every request so far, in the order of arrival.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The last request.
    pub(crate) fn last(&self) -> Seen {
        self.shared.seen.lock().unwrap().last().cloned().expect("a request has reached the upstream")
    }

    /// The tags of all requests so far.
    pub(crate) fn tags(&self) -> HashSet<String> {
        self.seen().iter().filter_map(|seen| seen.header(TAG).map(str::to_owned)).collect()
    }

    /// Lets one held answer go on.
    pub(crate) fn release(&self) {
        self.shared.releases.add_permits(1);
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let head = request.method() == Method::HEAD;
    let response = behave(shared, request).await;
    // Over HTTP/2 a server has to leave out the body of an answer to HEAD by itself.
    if head { response.map(|_| full("")) } else { response }
}

async fn behave(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    shared.seen.lock().unwrap().push(Seen {
        method: request.method().clone(),
        target: request.uri().path_and_query().map_or_else(|| request.uri().to_string(), ToString::to_string),
        version: request.version(),
        headers: request.headers().clone(),
    });
    let path = request.uri().path().to_owned();
    let mut parts = path.trim_start_matches('/').split('/');
    match (parts.next().unwrap_or_default(), parts.next().unwrap_or_default()) {
        ("echo", _) => echo(request),
        ("bytes", count) => zeros(count.parse().unwrap_or(0)),
        ("sink", _) => sink(request).await,
        ("status", code) => with_status(code),
        ("trailers", _) => trailers(),
        ("never", _) => std::future::pending().await,
        ("held", _) => held(shared),
        ("events", _) => events(),
        ("held-head", _) => held_head(&shared).await,
        ("early", _) => Response::builder().status(StatusCode::PAYLOAD_TOO_LARGE).body(full("early")).unwrap(),
        ("truncated", _) => truncated(),
        ("ws", _) => websocket::accept(request),
        _ => Response::new(full(json!({"upstream": shared.name}).to_string())),
    }
}

fn echo(request: Request<Incoming>) -> Response<Body> {
    Response::new(request.into_body().map_err(Into::into).boxed_unsync())
}

fn zeros(count: u64) -> Response<Body> {
    const PIECE: u64 = 64 * 1024;
    let pieces = (0..count.div_ceil(PIECE)).map(move |at| {
        let size = PIECE.min(count - at * PIECE);
        Ok::<_, BoxError>(Frame::data(Bytes::from(vec![0; usize::try_from(size).unwrap()])))
    });
    let body = StreamBody::new(futures_util::stream::iter(pieces)).boxed_unsync();
    Response::builder().header("content-length", count).body(body).unwrap()
}

async fn sink(request: Request<Incoming>) -> Response<Body> {
    let mut body = request.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes += frame.data_ref().map_or(0, Bytes::len),
            Err(_) => return Response::builder().status(StatusCode::BAD_REQUEST).body(full("torn")).unwrap(),
        }
    }
    Response::new(full(json!({ "bytes": bytes }).to_string()))
}

fn with_status(code: &str) -> Response<Body> {
    let body = if matches!(code, "204" | "304") { String::new() } else { format!("status {code}") };
    Response::builder().status(code.parse::<u16>().unwrap()).body(full(body)).unwrap()
}

fn trailers() -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "abc".parse().unwrap());
    let frames = [Frame::data(Bytes::from_static(b"hello")), Frame::trailers(trailers)];
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok::<_, BoxError>))).boxed_unsync();
    Response::builder().header("trailer", "x-checksum").body(body).unwrap()
}

/// A first piece at once, the second when it is released.
fn held(shared: Arc<Shared>) -> Response<Body> {
    let pieces = futures_util::stream::unfold(0, move |at| {
        let shared = shared.clone();
        async move {
            if at == 1 {
                shared.releases.acquire().await.unwrap().forget();
            }
            let piece = ["one ", "two"].get(at)?;
            Some((Ok::<_, BoxError>(Frame::data(Bytes::from_static(piece.as_bytes()))), at + 1))
        }
    });
    Response::new(StreamBody::new(pieces).boxed_unsync())
}

/// One event, and never an end.
fn events() -> Response<Body> {
    let event = Frame::data(Bytes::from_static(b"data: one\n\n"));
    let pieces = futures_util::stream::iter([Ok::<_, BoxError>(event)]).chain(futures_util::stream::pending());
    let body = StreamBody::new(pieces).boxed_unsync();
    Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
}

async fn held_head(shared: &Shared) -> Response<Body> {
    shared.releases.acquire().await.unwrap().forget();
    Response::new(full("released"))
}

/// Promises a hundred bytes and breaks off after nine.
fn truncated() -> Response<Body> {
    let pieces = [Ok(Frame::data(Bytes::from_static(b"truncated"))), Err("broken off".into())];
    let body = StreamBody::new(futures_util::stream::iter::<[Result<_, BoxError>; 2]>(pieces)).boxed_unsync();
    Response::builder().header("content-length", 100).body(body).unwrap()
}
