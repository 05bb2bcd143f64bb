//! The life of a request. Each step needs what the step above proved: only `admission` makes an `Admitted`, and nothing is
//! forwarded without one.

use std::pin::pin;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderName};
use hyper::{Request, Response, Version};
use tokio::time::Instant;

use crate::admission::{Admitted, Credential};
use crate::gateway::body::Body;
use crate::gateway::correct::Asked;
use crate::gateway::cut;
use crate::gateway::ending::Ending;
use crate::gateway::forwarded::{self, Hop};
use crate::gateway::idle::Idle;
use crate::gateway::logout::Leaving;
use crate::gateway::refusal::Refusal;
use crate::gateway::route::Route;
use crate::gateway::story::Story;
use crate::gateway::upload::Upload;
use crate::gateway::upstream::Outgoing;
use crate::gateway::{Gateway, framing, headers, upgrade};
use crate::live::Lease;
use crate::net::Peer;

impl Gateway {
    /// Takes one request from arrival to answer. What few requests need is in a box of its own: the room for it would be
    /// moved and written over for every request.
    pub(super) async fn run(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        story: &mut Story,
    ) -> Result<Response<Body>, Refusal> {
        let Some(route) = self.arrive(&mut request, story)? else {
            return Ok(Box::pin(self.answer_locally(request)).await);
        };
        let stopped = |stop| Refusal::Stopped { stop, scope: route.policy.scope() };
        let token = self.gate.extract(request.headers(), request.uri().query(), &route.policy).map_err(stopped)?;
        let by_password = matches!(token, Some(Credential::Password(_)));
        if by_password {
            // It is between us and the client; the upstream is told who calls instead.
            request.headers_mut().remove(AUTHORIZATION);
        }
        self.gate.drop_ignored(request.headers_mut(), &route.policy);
        let companions = self.gate.refuse_revoked_companions(request.headers(), &route.policy, self.clock.now());
        companions.await.map_err(stopped)?;
        let verified = self.gate.verify(token, &route.policy).await.map_err(stopped)?;
        // What a bad token says of itself is nobody's story.
        let good = verified.as_ref().filter(|verified| verified.flaw().is_none());
        story.claims = good.map(|verified| verified.claims().clone());
        // Join before the check: a revocation that lands in between still cuts this exchange.
        let lease = verified
            .as_ref()
            .map(|verified| self.live.join(verified.claims(), verified.deadline().filter(|_| route.cut_on_expiry)));
        let admitted = self.gate.admit(verified, &route.policy, self.clock.now()).map_err(stopped)?;
        if !by_password {
            // A password is none of its session's tokens, though it speaks for one.
            self.see(&admitted, &request);
        }
        match self.token_endpoint(request.uri().path()) {
            None => {
                let leaving = Leaving::note(&request, &route, &admitted, self.client_address(&request));
                // The end of the session must not cut the answer that confirms it.
                let lease = lease.filter(|_| leaving.is_none());
                let answer = self.pass(request, &route, (&admitted, lease), story).await?;
                self.confirm(leaving, answer.status()).await?;
                Ok(answer)
            }
            Some(endpoint) => {
                let visit = self.visit(endpoint, (&route, &admitted), &request);
                Box::pin(self.at_token_endpoint(request, visit, lease, story)).await
            }
        }
    }

    /// What is asked for: one meaning per message, and the path that matched is the one forwarded. No route: it is answered
    /// here.
    pub(super) fn arrive<B>(&self, request: &mut Request<B>, story: &mut Story) -> Result<Option<Arc<Route>>, Refusal> {
        framing::check(request, &self.limits)?;
        story.is_local = self.is_local(request)?;
        if !story.is_local {
            story.route = Some(self.routes.find(request)?);
        }
        Ok(story.route.clone())
    }

    /// On to an upstream, as long as the lease lasts: strip first, add last.
    pub(super) async fn pass(
        &self,
        request: Request<Incoming>,
        route: &Route,
        (admitted, lease): (&Admitted, Option<Lease>),
        story: &mut Story,
    ) -> Result<Response<Body>, Refusal> {
        let is_http2 = story.version >= Version::HTTP_2;
        let lent = lease.as_ref();
        let mut sent = pin!(self.send(request, route, (admitted, lent), story));
        let Some(lease) = &lease else { return sent.await };
        let answer = cut::unless_cut(lease, sent.as_mut()).await?;
        let ending = Ending::of(answer.headers(), is_http2);
        Ok(answer.map(|body| body.tied(lease.clone(), ending)))
    }

    async fn send(
        &self,
        mut request: Request<Incoming>,
        route: &Route,
        (admitted, lease): (&Admitted, Option<&Lease>),
        story: &mut Story,
    ) -> Result<Response<Body>, Refusal> {
        let listing = Asked::note(&mut request, route);
        // A list of sessions is no tunnel, whatever is wished: what the server answers is to be put right.
        let wish = if listing.is_some() { None } else { upgrade::wish(&mut request, route)? };
        let outgoing = self.prepare(request, lease, story)?;
        match (wish, listing) {
            (None, None) => self.forwarding.forward(outgoing, route, admitted, story).await,
            (None, Some(asked)) => Box::pin(self.corrected(asked, outgoing, (route, admitted), story)).await,
            (Some(wish), _) => {
                let upgrade = self.forwarding.upgrade(outgoing, wish, &self.tunnels, (route, admitted), story);
                Box::pin(upgrade).await
            }
        }
    }

    fn prepare(
        &self,
        request: Request<Incoming>,
        lease: Option<&Lease>,
        story: &mut Story,
    ) -> Result<Outgoing, Refusal> {
        let limit_bytes = self.limits.body_bytes;
        let (request, deadline) = self.cleaned(request, story)?;
        let idle = Idle::new(self.forwarding.timeouts.body, deadline);
        let request = request.map(|body| Upload::new(body, &self.hygiene, limit_bytes, idle, lease));
        Ok(Outgoing { request, deadline, lease: lease.cloned() })
    }

    /// Strips what may not pass and tells of this hop; identity comes last, when the request is sent. Also says when the
    /// whole exchange must be over.
    pub(super) fn cleaned<B>(
        &self,
        mut request: Request<B>,
        story: &mut Story,
    ) -> Result<(Request<B>, Option<Instant>), Refusal> {
        let too_large = |limit| headers::content_length(request.headers()).is_some_and(|length| length > limit);
        if self.limits.body_bytes.is_some_and(too_large) {
            return Err(Refusal::BodyTooLarge);
        }
        let peer = request.extensions_mut().remove::<Arc<Peer>>();
        let address = peer.as_ref().map(|peer| peer.address.ip());
        let trusted = address.is_some_and(|address| self.trusts(address));
        let policy = story.route.as_ref().map(|route| &route.policy);
        let is_token = |name: &HeaderName| policy.is_some_and(|policy| policy.has_place_in(name));
        self.hygiene.clean_request(request.headers_mut(), trusted, is_token);
        if let (Some(peer), Some(address)) = (peer, address) {
            forwarded::tell(request.headers_mut(), Hop { address, is_tls: peer.tls.is_some() });
        }
        story.request_id = Some(forwarded::identify(request.headers_mut()));
        Ok((request, self.forwarding.timeouts.total.map(|total| Instant::now() + total)))
    }
}
