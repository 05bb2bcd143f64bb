//! Calls that arrive among the requests and are answered here instead of by an upstream: a client of another system has one
//! base URL for its tokens and for taking them back.
//!
//! Which those are is decided by the very path that routing would match, and only where that path has one reading. What
//! answers them checks who calls; nothing of the route's policy applies.

use std::sync::Arc;

use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};

use crate::gateway::Gateway;
use crate::gateway::body::Body;
use crate::gateway::path::{self, Path};
use crate::gateway::refusal::{Form, Refusal};
use crate::gateway::route::{Routes, forwarded_target};
use crate::net::{Peer, Taken};

impl Gateway {
    /// Whether this request is answered here.
    pub(super) fn is_local<B>(&self, request: &Request<B>) -> Result<bool, Refusal> {
        let taken = |path: &str| self.local.takes(request.method(), path);
        if request.method() == Method::CONNECT || taken(request.uri().path()) == Taken::No && !is_escaped(request) {
            return Ok(false);
        }
        let path = path::normalise(request.uri().path()).map_err(|fault| Refusal::Form(Form::Path(fault)))?;
        Ok(match taken(path.decoded()) {
            Taken::No => false,
            Taken::UnlessRouted => !self.routes.serves(request, &path),
            Taken::Yes => has_one_reading(&path),
        })
    }

    /// Has it answered here.
    pub(super) async fn answer_locally(&self, mut request: Request<Incoming>) -> Response<Body> {
        self.tell_who_asks(&mut request);
        respell(&mut request);
        let body = |bytes: Bytes| if bytes.is_empty() { Body::EMPTY } else { Body::whole(bytes) };
        self.local.answer(request).await.map(body)
    }

    /// Behind a trusted proxy the connection is not the client's, nor is the certificate it showed.
    fn tell_who_asks<B>(&self, request: &mut Request<B>) {
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        let client = self.client_address(request);
        if let (Some(peer), Some(client)) = (peer, client)
            && peer.address.ip().to_canonical() != client
        {
            request.extensions_mut().insert(Arc::new(Peer { address: (client, 0).into(), tls: None }));
        }
    }
}

/// The path that was matched is the one that is answered, as on a route.
fn respell<B>(request: &mut Request<B>) {
    let target = path::normalise(request.uri().path()).ok().map(|path| forwarded_target(request.uri(), &path));
    if let Some(Ok(target)) = target {
        *request.uri_mut() = target;
    }
}

/// An escape may hide a path of ours.
fn is_escaped<B>(request: &Request<B>) -> bool {
    request.uri().path().contains('%')
}

/// What could be read as another path is left to routing, which refuses it or finds one route for all its readings.
fn has_one_reading(path: &Path<'_>) -> bool {
    path.readings().next().is_none()
}

impl Routes {
    /// Whether some route takes this path, with whatever method.
    fn serves<B>(&self, request: &Request<B>, path: &Path<'_>) -> bool {
        !matches!(self.find_by(request.headers(), path, request.method()), Err(Refusal::NoRoute))
    }
}
