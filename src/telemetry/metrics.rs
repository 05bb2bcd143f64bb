//! What is counted, and under which names. Labels are bounded: routes, upstreams and issuers by their configured names,
//! reasons and outcomes from closed lists; never a token, a user, a `jti` or a path.
//!
//! | metric | labels | what |
//! |---|---|---|
//! | `portcullis_requests_total` | `route`, `outcome` | requests answered by the proxy: `forwarded`, `denied`, `refused`, `unavailable`, `failed` |
//! | `portcullis_denials_total` | `reason` | tokens that may not pass, by reason |
//! | `portcullis_refusals_total` | `reason` | requests refused for their form, by reason |
//! | `portcullis_verification_cache_total` | `result` | look-ups of verified tokens: `hit`, `miss` |
//! | `portcullis_verification_cache_entries` | | tokens in the verification cache |
//! | `portcullis_verification_cache_bytes` | | what they weigh |
//! | `portcullis_introspections_total` | `issuer`, `result` | questions to an issuer: `cached`, `active`, `inactive`, `failed` |
//! | `portcullis_key_fetches_total` | `issuer`, `result` | fetches of a key set: `ok`, `failed` |
//! | `portcullis_index_entries` | `shape` | revocations in the index, by shape |
//! | `portcullis_index_shapes` | | shapes in use |
//! | `portcullis_index_position` | | the place in the log that is applied |
//! | `portcullis_index_in_step` | | 1 when the index may be believed |
//! | `portcullis_store_seconds` | `operation` | how long the store took |
//! | `portcullis_store_errors_total` | `operation` | what the store could not do |
//! | `portcullis_sightings_total` | `result` | what requests told of sessions: `queued`, `dropped` |
//! | `portcullis_upstream_seconds` | `upstream` | from sending a request to the head of its answer |
//! | `portcullis_upstream_errors_total` | `upstream`, `reason` | `connect`, `timeout`, `reset`, `protocol` |
//! | `portcullis_upstream_retries_total` | `upstream` | requests sent anew because nothing of them had been sent |
//! | `portcullis_open_connections` | `listener` | connections open now, by `proxy` and `admin` |
//! | `portcullis_connections_total` | `listener`, `result` | connections `accepted`, `refused` for a limit, `failed` in a handshake |
//! | `portcullis_tunnels` | | upgraded connections open now |
//! | `portcullis_token_endpoint_total` | `issuer`, `result` | at token endpoints: answers `learned`, refresh tokens `dead`, `joined` to a redemption under way, `repeated` within the grace, `reused` after it |
//! | `portcullis_open_exchanges` | | requests and tunnels with a token that are open now |
//! | `portcullis_cut_total` | `reason` | exchanges ended because their token was `revoked` or had `expired` |
//! | `portcullis_admin_requests_total` | `call`, `status` | admin calls by their route and status |
//! | `portcullis_reloads_total` | `result` | configuration reloads: `ok`, `failed` |
//! | `portcullis_panics_total` | | panics caught at a connection's edge; each is a bug |
//!
//! Those of `sync` stand in `sync_metrics.rs`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::latency::Latency;
use super::sync_metrics::SyncMetrics;

macro_rules! labels {
    ($name:ident: $($field:ident),+) => {
        #[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
        pub(super) struct $name { $(pub(super) $field: Arc<str>),+ }
    };
}

labels!(RouteOutcome: route, outcome);
labels!(Reason: reason);
labels!(CacheResult: result);
labels!(IssuerResult: issuer, result);
labels!(OfShape: shape);
labels!(Operation: operation);
labels!(OfUpstream: upstream);
labels!(UpstreamReason: upstream, reason);
labels!(OfListener: listener);
labels!(ListenerResult: listener, result);
labels!(CallStatus: call, status);

/// What nearly all requests come to.
const FORWARDED: &str = "forwarded";

/// The requests of one route, to be counted without looking for where.
#[derive(Clone, Debug)]
pub struct Requests {
    route: Arc<str>,
    all: Family<RouteOutcome, Counter>,
    forwarded: Counter,
}

impl Requests {
    /// One was answered.
    pub fn count(&self, outcome: &'static str) {
        if outcome == FORWARDED {
            self.forwarded.inc();
            return;
        }
        self.all.get_or_create(&RouteOutcome { route: self.route.clone(), outcome: outcome.into() }).inc();
    }
}

/// Every figure the product gives of itself; one for the process, shared.
pub struct Metrics {
    registry: Registry,
    requests: Family<RouteOutcome, Counter>,
    denials: Family<Reason, Counter>,
    refusals: Family<Reason, Counter>,
    verification_cache: Family<CacheResult, Counter>,
    cache_hits: Counter,
    cache_misses: Counter,
    verification_cache_entries: Gauge,
    verification_cache_bytes: Gauge,
    introspections: Family<IssuerResult, Counter>,
    key_fetches: Family<IssuerResult, Counter>,
    index_entries: Family<OfShape, Gauge>,
    index_shapes: Gauge,
    index_position: Gauge,
    index_in_step: Gauge,
    store_seconds: Family<Operation, Histogram>,
    store_errors: Family<Operation, Counter>,
    sightings: Family<CacheResult, Counter>,
    upstream_seconds: Family<OfUpstream, Latency>,
    upstream_errors: Family<UpstreamReason, Counter>,
    upstream_retries: Family<OfUpstream, Counter>,
    connections: Family<OfListener, Gauge>,
    connections_total: Family<ListenerResult, Counter>,
    tunnels: Gauge,
    token_endpoint: Family<IssuerResult, Counter>,
    open_exchanges: Gauge,
    cut: Family<Reason, Counter>,
    admin_requests: Family<CallStatus, Counter>,
    reloads: Family<CacheResult, Counter>,
    panics: Counter,
    pub(super) sync: SyncMetrics,
}

/// From 100 µs to about 26 s.
fn latencies() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 4.0, 10))
}

impl Metrics {
    /// All figures at zero, under their names.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let verification_cache = Family::<CacheResult, Counter>::default();
        let looked_up = |result: &str| verification_cache.get_or_create_owned(&CacheResult { result: result.into() });
        let mut metrics = Self {
            cache_hits: looked_up("hit"),
            cache_misses: looked_up("miss"),
            registry: Registry::with_prefix("portcullis"),
            requests: Family::default(),
            denials: Family::default(),
            refusals: Family::default(),
            verification_cache,
            verification_cache_entries: Gauge::default(),
            verification_cache_bytes: Gauge::default(),
            introspections: Family::default(),
            key_fetches: Family::default(),
            index_entries: Family::default(),
            index_shapes: Gauge::default(),
            index_position: Gauge::default(),
            index_in_step: Gauge::default(),
            store_seconds: Family::new_with_constructor(latencies),
            store_errors: Family::default(),
            sightings: Family::default(),
            upstream_seconds: Family::default(),
            upstream_errors: Family::default(),
            upstream_retries: Family::default(),
            connections: Family::default(),
            connections_total: Family::default(),
            tunnels: Gauge::default(),
            token_endpoint: Family::default(),
            open_exchanges: Gauge::default(),
            cut: Family::default(),
            admin_requests: Family::default(),
            reloads: Family::default(),
            panics: Counter::default(),
            sync: SyncMetrics::default(),
        };
        metrics.register_traffic();
        metrics.register_state();
        metrics.sync.register(&mut metrics.registry);
        Arc::new(metrics)
    }

    fn register_traffic(&mut self) {
        let r = &mut self.registry;
        r.register("requests", "Requests answered by the proxy", self.requests.clone());
        r.register("denials", "Tokens that may not pass", self.denials.clone());
        r.register("refusals", "Requests refused for their form", self.refusals.clone());
        r.register(
            "upstream_seconds",
            "From sending a request to the head of its answer",
            self.upstream_seconds.clone(),
        );
        r.register("upstream_errors", "Upstream failures", self.upstream_errors.clone());
        r.register("upstream_retries", "Requests sent anew, nothing having been sent", self.upstream_retries.clone());
        r.register("open_connections", "Connections open now", self.connections.clone());
        r.register("connections", "Connections accepted, refused, failed", self.connections_total.clone());
        r.register("tunnels", "Upgraded connections open now", self.tunnels.clone());
        r.register("token_endpoint", "What became of requests at token endpoints", self.token_endpoint.clone());
        r.register("open_exchanges", "Exchanges with a token open now", self.open_exchanges.clone());
        r.register("cut", "Exchanges ended because their token died", self.cut.clone());
        r.register("admin_requests", "Admin calls", self.admin_requests.clone());
    }

    fn register_state(&mut self) {
        let r = &mut self.registry;
        r.register("verification_cache", "Look-ups of verified tokens", self.verification_cache.clone());
        r.register("verification_cache_entries", "Tokens in the cache", self.verification_cache_entries.clone());
        r.register("verification_cache_bytes", "What the cached tokens weigh", self.verification_cache_bytes.clone());
        r.register("introspections", "Questions to an issuer", self.introspections.clone());
        r.register("key_fetches", "Fetches of a key set", self.key_fetches.clone());
        r.register("index_entries", "Revocations in the index", self.index_entries.clone());
        r.register("index_shapes", "Shapes in use", self.index_shapes.clone());
        r.register("index_position", "The place in the log that is applied", self.index_position.clone());
        r.register("index_in_step", "1 when the index may be believed", self.index_in_step.clone());
        r.register("store_seconds", "How long the store took", self.store_seconds.clone());
        r.register("store_errors", "What the store could not do", self.store_errors.clone());
        r.register("sightings", "What requests told of sessions", self.sightings.clone());
        r.register("reloads", "Configuration reloads", self.reloads.clone());
        r.register("panics", "Panics caught at a connection's edge", self.panics.clone());
    }

    /// All figures in Prometheus' text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// Counts the requests of one route.
    #[must_use]
    pub fn requests(&self, route: &Arc<str>) -> Requests {
        let labels = RouteOutcome { route: route.clone(), outcome: FORWARDED.into() };
        let forwarded = self.requests.get_or_create_owned(&labels);
        Requests { route: route.clone(), all: self.requests.clone(), forwarded }
    }

    /// A token may not pass.
    pub fn denial(&self, reason: &'static str) {
        self.denials.get_or_create(&Reason { reason: reason.into() }).inc();
    }

    /// A request was refused for its form.
    pub fn refusal(&self, reason: &'static str) {
        self.refusals.get_or_create(&Reason { reason: reason.into() }).inc();
    }

    /// The verification cache was asked.
    pub fn verification_cache(&self, hit: bool) {
        if hit {
            self.cache_hits.inc()
        } else {
            self.cache_misses.inc()
        };
    }

    /// How full the verification cache is.
    pub fn verification_cache_size(&self, entries: u64, bytes: u64) {
        self.verification_cache_entries.set(gauge(entries));
        self.verification_cache_bytes.set(gauge(bytes));
    }

    /// An issuer was, or need not be, asked about a token.
    pub fn introspection(&self, issuer: &Arc<str>, result: &'static str) {
        self.introspections.get_or_create(&IssuerResult { issuer: issuer.clone(), result: result.into() }).inc();
    }

    /// Something happened at a token endpoint.
    pub fn token_endpoint(&self, issuer: &Arc<str>, result: &'static str) {
        self.token_endpoint.get_or_create(&IssuerResult { issuer: issuer.clone(), result: result.into() }).inc();
    }

    /// A key set was fetched, or not.
    pub fn key_fetch(&self, issuer: &Arc<str>, ok: bool) {
        let result = if ok { "ok" } else { "failed" };
        self.key_fetches.get_or_create(&IssuerResult { issuer: issuer.clone(), result: result.into() }).inc();
    }

    /// What the index holds.
    pub fn index(&self, shapes: &[(String, usize)], position: u64, in_step: bool) {
        self.index_entries.clear();
        for (shape, entries) in shapes {
            self.index_entries.get_or_create(&OfShape { shape: shape.as_str().into() }).set(gauge(*entries as u64));
        }
        self.index_shapes.set(gauge(shapes.len() as u64));
        self.index_position.set(gauge(position));
        self.index_in_step.set(i64::from(in_step));
    }

    /// The store was asked for something, and took so long.
    pub fn store(&self, operation: &'static str, took: Duration, ok: bool) {
        let operation = Operation { operation: operation.into() };
        self.store_seconds.get_or_create(&operation).observe(took.as_secs_f64());
        if !ok {
            self.store_errors.get_or_create(&operation).inc();
        }
    }

    /// A request told of a session; it was `queued`, or `dropped` because too much waited.
    pub fn sighting(&self, result: &'static str) {
        self.sightings.get_or_create(&CacheResult { result: result.into() }).inc();
    }

    /// How long an upstream takes.
    #[must_use]
    pub fn upstream(&self, upstream: &Arc<str>) -> Latency {
        self.upstream_seconds.get_or_create_owned(&OfUpstream { upstream: upstream.clone() })
    }

    /// An upstream failed.
    pub fn upstream_error(&self, upstream: &Arc<str>, reason: &'static str) {
        self.upstream_errors.get_or_create(&UpstreamReason { upstream: upstream.clone(), reason: reason.into() }).inc();
    }

    /// A request of which nothing had been sent was sent anew.
    pub fn upstream_retry(&self, upstream: &Arc<str>) {
        self.upstream_retries.get_or_create(&OfUpstream { upstream: upstream.clone() }).inc();
    }

    /// A connection came; dropping the answer says that it went.
    #[must_use]
    pub fn connection(&self, listener: &'static str) -> Open {
        self.connection_result(listener, "accepted");
        Open::new(self.connections.get_or_create_owned(&OfListener { listener: listener.into() }))
    }

    /// A connection was `refused` for a limit, or `failed` in its handshake.
    pub fn connection_result(&self, listener: &'static str, result: &'static str) {
        let labels = ListenerResult { listener: listener.into(), result: result.into() };
        self.connections_total.get_or_create(&labels).inc();
    }

    /// A tunnel opened; dropping the answer says that it closed.
    #[must_use]
    pub fn tunnel(&self) -> Open {
        Open::new(self.tunnels.clone())
    }

    /// How many exchanges with a token are open.
    pub fn open_exchanges(&self, open: usize) {
        self.open_exchanges.set(gauge(open as u64));
    }

    /// So many exchanges were ended because their token was `revoked` or had `expired`.
    pub fn cut(&self, reason: &'static str, exchanges: usize) {
        self.cut.get_or_create(&Reason { reason: reason.into() }).inc_by(exchanges as u64);
    }

    /// An admin call was answered. `call` is the route's template, never the path.
    pub fn admin_request(&self, call: &str, status: u16) {
        self.admin_requests.get_or_create(&CallStatus { call: call.into(), status: status.to_string().into() }).inc();
    }

    /// The configuration was read anew.
    pub fn reload(&self, ok: bool) {
        let result = if ok { "ok" } else { "failed" };
        self.reloads.get_or_create(&CacheResult { result: result.into() }).inc();
    }

    /// A panic was caught.
    pub fn panic(&self) {
        self.panics.inc();
    }
}

pub(super) fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Something that is open as long as this value lives.
#[derive(Debug)]
pub struct Open(Gauge);

impl Open {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
