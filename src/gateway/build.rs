//! Makes a gateway of its settings, taking over from the one before what has not changed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::admission::Gate;
use crate::clock::SharedClock;
use crate::gateway::balance::{Health, Upstream, Upstreams};
use crate::gateway::connect::{Connector, Tls};
use crate::gateway::headers::Hygiene;
use crate::gateway::pool::Pool;
use crate::gateway::route::{Route, Routes};
use crate::gateway::settings::{RouteSettings, Scheme, Settings, UpstreamSettings, UpstreamUrl};
use crate::gateway::token_endpoint::flight::Flights;
use crate::gateway::token_endpoint::rotate::Redeemed;
use crate::gateway::tunnel::Tunnels;
use crate::gateway::upstream::Forwarding;
use crate::gateway::{Gateway, Limits, NO_ROUTE};
use crate::live::Live;
use crate::net::Local;
use crate::sessions::{Book, Tracker};
use crate::telemetry::Metrics;
use crate::telemetry::access_log::AccessLog;

/// Why a gateway cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The roots an upstream's certificate is checked against cannot be read.
    #[error("cannot read the trusted roots in {0}")]
    Roots(PathBuf, #[source] rustls::pki_types::pem::Error),
    /// The file of roots holds something else.
    #[error("{0} holds a certificate that cannot be trusted as a root")]
    Root(PathBuf, #[source] rustls::Error),
    /// The file of roots holds no certificate.
    #[error("{0} holds no certificate")]
    NoRoots(PathBuf),
    /// TLS cannot be set up at all.
    #[error("TLS towards upstreams cannot be set up")]
    Tls(#[source] rustls::Error),
    /// A route has no upstream.
    #[error("the route {0:?} has no upstream")]
    NoUpstream(Arc<str>),
    /// A route offers HTTP/2 as an upgrade, which would carry unchecked requests.
    #[error("the route {0:?} may not be upgraded to {1:?}")]
    Upgrade(Arc<str>, String),
}

/// What a gateway works with.
pub(super) struct Surroundings {
    pub(super) gate: Arc<Gate>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: SharedClock,
    pub(super) tunnels: Arc<Tunnels>,
    pub(super) live: Arc<Live>,
    pub(super) book: Arc<Book>,
    pub(super) flights: Arc<Flights<Redeemed>>,
    pub(super) tracker: Arc<Tracker>,
    pub(super) local: Arc<dyn Local>,
}

/// What must be the same for an upstream to keep its connections over a reload.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct UpstreamKey {
    url: UpstreamUrl,
    ca: Option<PathBuf>,
    idle_connections: usize,
    failures: u32,
    durations: [Duration; 3],
    head_bytes: usize,
}

type Known = HashMap<UpstreamKey, Arc<Upstream>>;

/// Makes a gateway that takes over what `before` has.
pub(super) fn gateway(settings: Settings, around: Surroundings, before: &Known) -> Result<Gateway, GatewayError> {
    let hygiene = Hygiene::new(settings.routes.iter().filter_map(|route| route.identity_headers.as_ref()));
    let mut known = Known::new();
    let mut tls = None;
    for url in settings.routes.iter().flat_map(|route| &route.upstreams) {
        let key = key(url, &settings);
        if let Entry::Vacant(place) = known.entry(key) {
            let held = before.get(place.key()).cloned();
            let upstream = held.map_or_else(|| upstream(url, &settings, &mut tls, &around), Ok)?;
            place.insert(upstream);
        }
    }
    let mut routes = Routes::default();
    for route in &settings.routes {
        routes.add(&route.path, ready(route, &settings, &known, &around.metrics)?);
    }
    let forwarding = Forwarding {
        timeouts: settings.timeouts,
        retries: settings.upstream.retries,
        metrics: around.metrics.clone(),
        clock: around.clock.clone(),
        gate: around.gate.clone(),
    };
    Ok(Gateway {
        gate: around.gate,
        routes,
        upstreams: known,
        hygiene: Arc::new(hygiene),
        limits: settings.limits,
        trusted_proxies: settings.trusted_proxies.into(),
        forwarding,
        access_log: AccessLog::new(settings.access_log),
        tunnels: around.tunnels,
        live: around.live,
        token_endpoints: settings.token_endpoints.into_iter().map(Arc::new).collect(),
        book: around.book,
        flights: around.flights,
        tracker: around.tracker,
        local: around.local,
        no_route: around.metrics.requests(&NO_ROUTE.into()),
        metrics: around.metrics,
        clock: around.clock,
    })
}

fn key(url: &UpstreamUrl, settings: &Settings) -> UpstreamKey {
    let UpstreamSettings { ca, idle_connections, failures, eject, .. } = &settings.upstream;
    UpstreamKey {
        url: url.clone(),
        ca: ca.clone(),
        idle_connections: *idle_connections,
        failures: *failures,
        durations: [*eject, settings.timeouts.connect, settings.timeouts.idle],
        head_bytes: settings.limits.head_bytes,
    }
}

fn upstream(
    url: &UpstreamUrl,
    settings: &Settings,
    tls: &mut Option<Tls>,
    around: &Surroundings,
) -> Result<Arc<Upstream>, GatewayError> {
    if tls.is_none() && url.scheme() == Scheme::Https {
        *tls = Some(Tls::new(trusting(settings.upstream.ca.as_deref())?));
    }
    let Limits { head_bytes, .. } = settings.limits;
    let connector = Connector { url: url.clone(), tls: tls.clone(), bound: settings.timeouts.connect, head_bytes };
    let pool = Pool::new(connector, settings.upstream.idle_connections, settings.timeouts.idle, around.clock.clone());
    let health = Health::new(settings.upstream.failures, settings.upstream.eject);
    let label: Arc<str> = url.to_string().into();
    let latency = around.metrics.upstream(&label);
    Ok(Upstream::new(label, pool, health, latency))
}

fn ready(route: &RouteSettings, settings: &Settings, known: &Known, metrics: &Metrics) -> Result<Route, GatewayError> {
    let members: Vec<_> = route.upstreams.iter().filter_map(|url| known.get(&key(url, settings)).cloned()).collect();
    if members.is_empty() {
        return Err(GatewayError::NoUpstream(route.name.clone()));
    }
    let is_http = |name: &&String| {
        ["h2c", "h2", "http", "tls"]
            .iter()
            .any(|http| name.split('/').next().is_some_and(|name| name.eq_ignore_ascii_case(http)))
    };
    if let Some(upgrade) = route.upgrades.iter().find(is_http) {
        return Err(GatewayError::Upgrade(route.name.clone(), upgrade.clone()));
    }
    Ok(Route {
        name: route.name.clone(),
        hosts: route.hosts.clone().into(),
        methods: route.methods.clone().into(),
        upstreams: Upstreams::new(members),
        policy: route.policy.clone(),
        upgrades: route.upgrades.iter().map(|name| name.to_ascii_lowercase().into()).collect(),
        identity_headers: route.identity_headers.clone(),
        cut_on_expiry: route.cut_on_expiry,
        dialect: route.dialect,
        requests: metrics.requests(&route.name),
    })
}

/// TLS that trusts the system's roots and those in `ca`.
fn trusting(ca: Option<&Path>) -> Result<ClientConfig, GatewayError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    let (_, unusable) = roots.add_parsable_certificates(system.certs);
    if unusable > 0 || !system.errors.is_empty() {
        tracing::debug!(unusable, errors = system.errors.len(), "some of the system's roots were left out");
    }
    if let Some(ca) = ca {
        let before = roots.len();
        let certificates = CertificateDer::pem_file_iter(ca).map_err(|error| GatewayError::Roots(ca.into(), error))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| GatewayError::Roots(ca.into(), error))?;
            roots.add(certificate).map_err(|error| GatewayError::Root(ca.into(), error))?;
        }
        if roots.len() == before {
            return Err(GatewayError::NoRoots(ca.into()));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(builder.map_err(GatewayError::Tls)?.with_root_certificates(roots).with_no_client_auth())
}
