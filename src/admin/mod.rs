//! The admin side: its listener's router, who may call it, and the calls.
//!
//! A handler turns bytes into a command, hands it to [`Control`], and turns the receipt into bytes; no rule lives here, and
//! nothing here reaches the store or the index. Without a credential there is health and nothing else, not even the
//! knowledge of which paths exist. Every body, stream, queue and wait has a bound; a token that came in never goes out.
//!
//! What a call goes through, outermost first: `answer` (headers, metrics), `door` (who asks, may they), the call.
//! A dialect is one more module beside `native` with a router of its own and its own words for a `Fault`; see `dialect`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};

use crate::clock::SharedClock;
use crate::control::Control;
use crate::domain::{Claims, Denial};
use crate::telemetry::Metrics;
use crate::verify::Verifier;

mod answer;
pub mod bluesky;
mod caller;
mod dialect;
mod door;
pub mod elasticsearch;
mod extract;
mod fault;
mod limiter;
mod native;
pub mod onezone;
pub mod privx;
mod services;
mod settings;
#[cfg(test)]
mod tests;

pub use caller::Identity;
pub use dialect::{Dialects, Mount};
pub use fault::{Fault, Problem};
pub use services::Services;
pub use settings::{Certificate, Credential, Fingerprint, InvalidFingerprint, Settings, TokenRule};

/// Event streams open at once; the next is told to come back.
const MAX_STREAMS: usize = 64;
/// Bulk imports and exports under way at once; the next is told to come back.
const MAX_BULKS: usize = 4;

/// The parts the admin side speaks for.
pub struct Parts {
    /// Carries out the commands.
    pub control: Arc<Control>,
    /// Verifies the tokens of callers who bring one.
    pub verifier: Arc<Verifier>,
    /// The figures served at `/metrics`.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: SharedClock,
    /// What else must be so before this replica is ready.
    pub readiness: Arc<dyn Readiness>,
    /// Judges a token on a route; without it `/v1/check` knows no routes.
    pub routes: Option<Arc<dyn RouteCheck>>,
}

/// What, beside the index being in step, must be so before this replica is ready.
pub trait Readiness: Send + Sync + 'static {
    /// Why it is not ready, a short sentence each: a listener that is not up, a drain under way. Empty when it is.
    fn obstacles(&self) -> Vec<String>;
}

/// Which route a check asks about.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// The route's name.
    pub route: Option<String>,
    /// The `Host` of a request.
    pub host: Option<String>,
    /// The path of a request.
    pub path: Option<String>,
    /// The method of a request; `GET` when there is a path and no method.
    pub method: Option<String>,
}

/// What a route says to a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RouteVerdict {
    /// The route's name.
    pub route: String,
    /// What it demands that the token lacks; `None` when it lacks nothing.
    pub denial: Option<Denial>,
}

/// Judges a token that is good in itself by what a route demands of it: its issuers, its scopes.
pub trait RouteCheck: Send + Sync + 'static {
    /// What the route at `place` says to these claims; `None` when no route is there.
    fn judge(&self, place: &Place, claims: &Claims) -> Option<RouteVerdict>;
}

/// What all calls share. A reload replaces its settings, never itself, so that limits and streams outlive it.
pub struct Admin {
    control: Arc<Control>,
    verifier: ArcSwap<Verifier>,
    metrics: Arc<Metrics>,
    clock: SharedClock,
    readiness: Arc<dyn Readiness>,
    routes: Option<Arc<dyn RouteCheck>>,
    settings: ArcSwap<Settings>,
    failures: limiter::Limiter,
    anonymous: limiter::Limiter,
    unknown: limiter::Limiter,
    streams: Arc<Semaphore>,
    bulks: Arc<Semaphore>,
    closing: watch::Sender<bool>,
    started: Duration,
}

impl Admin {
    /// The admin side of these parts.
    #[must_use]
    pub fn new(parts: Parts, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            started: parts.clock.elapsed(),
            control: parts.control,
            verifier: ArcSwap::new(parts.verifier),
            metrics: parts.metrics,
            clock: parts.clock,
            readiness: parts.readiness,
            routes: parts.routes,
            settings: ArcSwap::from_pointee(settings),
            failures: limiter::Limiter::default(),
            anonymous: limiter::Limiter::default(),
            unknown: limiter::Limiter::default(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            bulks: Arc::new(Semaphore::new(MAX_BULKS)),
            closing: watch::Sender::new(false),
        })
    }

    /// Takes over new settings and the verifier of the same configuration, for every call from now on; streams whose caller
    /// they no longer know end.
    pub fn replace(&self, settings: Settings, verifier: Arc<Verifier>) {
        self.verifier.store(verifier);
        self.settings.store(Arc::new(settings));
    }

    /// Ends the event streams, each with a last comment, so that a drain need not wait for them.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("settings", &self.settings.load()).finish_non_exhaustive()
    }
}
