//! A request, from arrival to answer.
//!
//! `pipeline` is the way; the other files are its steps. What holds for all of them: nothing matches by default, nothing is
//! forwarded that was not admitted, what was matched is what is forwarded, and whatever waits or grows has a bound.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Request, Response};
use ipnet::IpNet;
use tokio::sync::watch;

use crate::admission::Gate;
use crate::clock::SharedClock;
use crate::gateway::balance::Upstream;
use crate::gateway::headers::{Hygiene, X_REQUEST_ID};
use crate::gateway::refusal::Refusal;
use crate::gateway::route::Routes;
use crate::gateway::story::Story;
use crate::gateway::token_endpoint::TokenEndpoint;
use crate::gateway::token_endpoint::flight::Flights;
use crate::gateway::token_endpoint::rotate::Redeemed;
use crate::gateway::tunnel::Tunnels;
use crate::gateway::upstream::Forwarding;
use crate::live::Live;
use crate::net::Local;
use crate::sessions::{Book, Tracker};
use crate::telemetry::access_log::{AccessLog, Line};
use crate::telemetry::{Metrics, Requests};

mod balance;
mod body;
mod build;
mod connect;
mod correct;
mod cut;
mod early;
mod ending;
mod forwarded;
mod frames;
mod framing;
mod headers;
mod identity;
mod idle;
mod local;
mod logout;
mod origin;
pub mod path;
mod pipeline;
mod pool;
mod probe;
mod pump;
mod refusal;
mod reserve;
mod respond;
mod route;
mod settings;
mod story;
mod tasks;
pub mod token_endpoint;
mod tunnel;
mod upgrade;
mod upload;
mod upstream;
mod websocket;
mod wire;

pub use body::{Body, BodyError};
pub use build::GatewayError;
pub use settings::{
    HostPattern, IdentityHeaders, InvalidSetting, Limits, RoutePath, RouteSettings, Scheme, Settings, Timeouts,
    UpstreamSettings, UpstreamUrl,
};

/// What stands for a route in logs and metrics where there is none.
const NO_ROUTE: &str = "-";

/// The proxy's side of the gate, for one configuration. A reload makes a successor, which takes over what is unchanged.
#[derive(Debug)]
pub struct Gateway {
    gate: Arc<Gate>,
    routes: Routes,
    upstreams: HashMap<build::UpstreamKey, Arc<Upstream>>,
    hygiene: Arc<Hygiene>,
    limits: Limits,
    trusted_proxies: Box<[IpNet]>,
    forwarding: Forwarding,
    access_log: AccessLog,
    tunnels: Arc<Tunnels>,
    live: Arc<Live>,
    token_endpoints: Box<[Arc<TokenEndpoint>]>,
    book: Arc<Book>,
    flights: Arc<Flights<Redeemed>>,
    tracker: Arc<Tracker>,
    local: Arc<dyn Local>,
    metrics: Arc<Metrics>,
    clock: SharedClock,
    /// Of the requests that found no route.
    no_route: Requests,
}

/// What a gateway works with.
#[derive(Debug)]
pub struct Parts {
    /// Who may pass.
    pub gate: Arc<Gate>,
    /// The exchanges that are open, to be joined.
    pub live: Arc<Live>,
    /// Where what token endpoints hand out is written down.
    pub book: Arc<Book>,
    /// Takes note of sessions.
    pub tracker: Arc<Tracker>,
    /// Answers the calls that are not for an upstream.
    pub local: Arc<dyn Local>,
    /// Where things are counted.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: SharedClock,
    /// Tunnels end when it turns true.
    pub closing: watch::Receiver<bool>,
}

impl Gateway {
    /// A gateway of these parts.
    ///
    /// # Errors
    ///
    /// See [`GatewayError`].
    pub fn new(settings: Settings, parts: Parts) -> Result<Arc<Self>, GatewayError> {
        let Parts { gate, live, book, tracker, local, metrics, clock, closing } = parts;
        let (tunnels, flights) = (Tunnels::new(closing), Arc::default());
        let surroundings = build::Surroundings { gate, metrics, clock, tunnels, live, book, flights, tracker, local };
        build::gateway(settings, surroundings, &HashMap::new()).map(Arc::new)
    }

    /// The gateway for a new configuration. Upstreams that stay the same keep their connections and what is known of their
    /// health; requests and tunnels under way here go on.
    ///
    /// # Errors
    ///
    /// See [`GatewayError`]; this gateway serves on.
    pub fn succeed(&self, settings: Settings, gate: Arc<Gate>) -> Result<Arc<Self>, GatewayError> {
        let surroundings = build::Surroundings {
            gate,
            book: self.book.clone(),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            tunnels: self.tunnels.clone(),
            live: self.live.clone(),
            flights: self.flights.clone(),
            tracker: self.tracker.clone(),
            local: self.local.clone(),
        };
        build::gateway(settings, surroundings, &self.upstreams).map(Arc::new)
    }

    /// Answers one request. The listener puts an `Arc<`[`Peer`](crate::net::Peer)`>` into its extensions.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, or the answer's body, ends the exchange with the upstream.
    pub async fn call(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let started = self.clock.elapsed();
        let mut story = Story::new(&request);
        let outcome = self.run(request, &mut story).await;
        let name = outcome.as_ref().map_or_else(Refusal::outcome, |_| story.outcome());
        let mut response = outcome.unwrap_or_else(|refusal| self.refuse(&refusal, &story));
        let request_id = story.request_id.take().unwrap_or_else(forwarded::fresh_id);
        story.route.as_ref().map_or(&self.no_route, |route| &route.requests).count(name);
        self.note(&story, &response, name, (started, &request_id));
        response.headers_mut().insert(X_REQUEST_ID, request_id);
        response
    }

    /// Waits until the tunnels open now have ended, and the refresh tokens under way are redeemed; for draining, after
    /// `closing` has turned true.
    pub async fn tunnels_ended(&self) {
        tokio::join!(self.tunnels.ended(), self.flights.landed());
    }

    fn refuse(&self, refusal: &Refusal, story: &Story) -> Response<Body> {
        if let Some(denial) = refusal.denial() {
            self.metrics.denial(denial.name());
        }
        if let Some(reason) = refusal.reason() {
            self.metrics.refusal(reason);
        }
        respond::refuse(refusal, story)
    }

    fn note(
        &self,
        story: &Story,
        response: &Response<Body>,
        outcome: &'static str,
        (started, request_id): (std::time::Duration, &HeaderValue),
    ) {
        if !self.access_log.wants(outcome) {
            return;
        }
        self.access_log.write(&Line {
            method: story.method.as_str(),
            route: story.route.as_ref().map_or(NO_ROUTE, |route| &*route.name),
            status: response.status().as_u16(),
            outcome,
            duration: self.clock.elapsed().saturating_sub(started),
            token: story.claims.as_ref().map(|claims| claims.digest),
            user: story.claims.as_ref().and_then(|claims| claims.user.as_deref()),
            upstream: story.upstream.as_deref(),
            request_id: request_id.to_str().unwrap_or("-"),
        });
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }
}

#[cfg(test)]
mod tests;
