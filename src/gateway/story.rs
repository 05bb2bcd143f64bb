//! What becomes of one request, collected along its way for the access log, the metrics and the answer's form.

use std::sync::Arc;

use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, Request, Version};

use crate::admission::Place;
use crate::domain::Claims;
use crate::gateway::balance::Upstream;
use crate::gateway::route::Route;

/// One request's story so far.
#[derive(Clone, Debug)]
pub(super) struct Story {
    /// What was asked.
    pub(super) method: Method,
    /// In which version.
    pub(super) version: Version,
    /// Whether the client speaks gRPC.
    pub(super) is_grpc: bool,
    /// Whether a body comes behind the head.
    pub(super) has_body: bool,
    /// Which route it found.
    pub(super) route: Option<Arc<Route>>,
    /// Whether it is answered here instead of by an upstream.
    pub(super) is_local: bool,
    /// Whose token it carries, once that was verified.
    pub(super) claims: Option<Arc<Claims>>,
    /// Which upstream was asked last.
    pub(super) upstream: Option<Arc<str>>,
    /// Its id, once settled.
    pub(super) request_id: Option<HeaderValue>,
}

impl Story {
    /// A story that begins.
    pub(super) fn new<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let has_length = headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
        Self {
            method: request.method().clone(),
            version: request.version(),
            is_grpc: content_type.is_some_and(|kind| kind.starts_with(b"application/grpc")),
            has_body: has_length || headers.contains_key(TRANSFER_ENCODING),
            route: None,
            is_local: false,
            claims: None,
            upstream: None,
            request_id: None,
        }
    }

    /// Whether its route takes session passwords.
    pub(super) fn takes_passwords(&self) -> bool {
        self.route.as_ref().is_some_and(|route| route.policy.places.contains(&Place::SessionPassword))
    }

    /// The outcome in logs and metrics, of what was not refused.
    pub(super) const fn outcome(&self) -> &'static str {
        if self.is_local { "answered" } else { "forwarded" }
    }

    /// An upstream is asked.
    pub(super) fn met(&mut self, upstream: &Upstream) {
        self.upstream = Some(upstream.label().clone());
    }
}
