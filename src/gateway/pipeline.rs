//! The life of a request. Each step needs what the step above proved: only `admission` makes an `Admitted`, and nothing is
//! forwarded without one.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::time::Instant;

use crate::admission::Admitted;
use crate::gateway::body::Body;
use crate::gateway::forwarded::{self, Hop};
use crate::gateway::idle::Idle;
use crate::gateway::refusal::Refusal;
use crate::gateway::route::Route;
use crate::gateway::story::Story;
use crate::gateway::upload::Upload;
use crate::gateway::upstream::Outgoing;
use crate::gateway::{Gateway, framing, headers, upgrade};
use crate::net::Peer;

impl Gateway {
    /// Takes one request from arrival to answer.
    pub(super) async fn run(
        &self,
        mut request: Request<Incoming>,
        story: &mut Story,
    ) -> Result<Response<Body>, Refusal> {
        let route = self.arrive(&mut request, story)?;
        let stopped = |stop| Refusal::Stopped { stop, scope: route.policy.scope() };
        let token = self.gate.extract(request.headers(), request.uri().query(), &route.policy).map_err(stopped)?;
        let verified = self.gate.verify(token, &route.policy).await.map_err(stopped)?;
        story.claims = verified.as_ref().map(|verified| verified.claims().clone());
        let admitted = self.gate.admit(verified, &route.policy, self.clock.now()).map_err(stopped)?;
        self.pass(request, &route, &admitted, story).await
    }

    /// What is asked for: one meaning per message, and the path that matched is the one forwarded.
    pub(super) fn arrive<B>(&self, request: &mut Request<B>, story: &mut Story) -> Result<Arc<Route>, Refusal> {
        framing::check(request, &self.limits)?;
        let route = self.routes.find(request)?;
        story.route = Some(route.clone());
        Ok(route)
    }

    /// On to an upstream: strip first, add last.
    pub(super) async fn pass(
        &self,
        mut request: Request<Incoming>,
        route: &Route,
        admitted: &Admitted,
        story: &mut Story,
    ) -> Result<Response<Body>, Refusal> {
        let wish = upgrade::wish(&mut request, route)?;
        let outgoing = self.prepare(request, story)?;
        match wish {
            None => self.forwarding.forward(outgoing, route, admitted, story).await,
            Some(wish) => self.forwarding.upgrade(outgoing, wish, &self.tunnels, (route, admitted), story).await,
        }
    }

    /// Strips what may not pass and tells of this hop; identity comes last, when the request is sent.
    fn prepare(&self, mut request: Request<Incoming>, story: &mut Story) -> Result<Outgoing, Refusal> {
        let too_large = |limit| headers::content_length(request.headers()).is_some_and(|length| length > limit);
        if self.limits.body_bytes.is_some_and(too_large) {
            return Err(Refusal::BodyTooLarge);
        }
        let peer = request.extensions_mut().remove::<Arc<Peer>>();
        let address = peer.as_ref().map(|peer| peer.address.ip());
        let trusted = address.is_some_and(|address| self.trusts(address));
        self.hygiene.clean_request(request.headers_mut(), trusted);
        if let (Some(peer), Some(address)) = (peer, address) {
            forwarded::tell(request.headers_mut(), Hop { address, is_tls: peer.tls.is_some() });
        }
        story.request_id = Some(forwarded::identify(request.headers_mut()));
        let deadline = self.forwarding.timeouts.total.map(|total| Instant::now() + total);
        let idle = Idle::new(self.forwarding.timeouts.body, deadline);
        let request = request.map(|body| Upload::new(body, &self.hygiene, self.limits.body_bytes, idle));
        Ok(Outgoing { request, deadline })
    }
}
