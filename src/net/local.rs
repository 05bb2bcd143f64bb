//! The port by which one listener's requests reach what another serves.

use std::fmt;

use async_trait::async_trait;
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};

/// What answers such calls.
#[async_trait]
pub trait Local: fmt::Debug + Send + Sync + 'static {
    /// Whether a call is answered here. `path` is decoded.
    fn takes(&self, method: &Method, path: &str) -> Taken;

    /// Answers one. Its `Arc<`[`Peer`](super::Peer)`>` has the client's address, behind trusted proxies too.
    async fn answer(&self, request: Request<Incoming>) -> Response<Bytes>;
}

/// Whether a call is answered here.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Taken {
    /// It goes to its route.
    No,
    /// It is answered here when no route takes its path.
    UnlessRouted,
    /// It is answered here.
    Yes,
}

/// No call is answered here.
#[derive(Clone, Copy, Debug)]
pub struct Nowhere;

#[async_trait]
impl Local for Nowhere {
    fn takes(&self, _: &Method, _: &str) -> Taken {
        Taken::No
    }

    async fn answer(&self, _: Request<Incoming>) -> Response<Bytes> {
        Response::default()
    }
}
