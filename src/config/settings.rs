//! What a configuration comes to: the settings of each part, and what holds only for several sections together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::issuers::Issuers;
use super::store::{Snapshot, Staleness};
use super::table::Table;
use super::{admin, cache, dialects, issuers, listener, log, routes, sessions, store, token_endpoints, upstream};
use crate::gateway;
use crate::net;
use crate::sessions::PasswordSettings;
use crate::store::Backend;
use crate::telemetry;
use crate::verify;

/// Everything a configuration file says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The listener that is the gateway.
    pub proxy: net::Settings,
    /// The listener of the admin side.
    pub admin_listener: net::Settings,
    /// How long requests under way may take to finish when the process is told to stop.
    pub drain: Duration,
    /// Who may call the admin side.
    pub admin: crate::admin::Settings,
    /// Where revocations are kept.
    pub store: crate::store::Settings,
    /// What an index that is out of step means.
    pub staleness: Staleness,
    /// What is kept here for a start while the store is down.
    pub snapshot: Option<Snapshot>,
    /// The name of this replica, where it is given; else the machine's.
    pub replica: Option<Arc<str>>,
    /// The issuers and the caches.
    pub verify: verify::Settings,
    /// The routes and how they are served.
    pub gateway: gateway::Settings,
    /// What is kept of sessions.
    pub sessions: crate::sessions::Settings,
    /// How many sessions a user may have at an issuer, by its `iss`; the oldest ends. No entry: any number.
    pub session_limits: Vec<(Arc<str>, u32)>,
    /// How long session passwords are good.
    pub session_passwords: PasswordSettings,
    /// The log.
    pub log: telemetry::Settings,
    /// What is allowed, but ought to be known.
    pub warnings: Vec<String>,
}

/// Reads the whole file. The order matters only where a section names what another defines.
pub(super) fn settle(root: &mut Table<'_>) -> Option<Settings> {
    let proxy = root.section("proxy", listener::settle_proxy);
    let issuers = issuers::settle_all(root);
    let admin =
        root.section("admin", |table| Some((listener::settle_admin(table), admin::settle(table, &issuers.names))));
    let dialects = root.section("dialects", |table| dialects::settle(table, &issuers));
    let store = root.section("store", store::settle);
    let cache = root.section("cache", cache::settle);
    let log = root.section("log", log::settle);
    let upstream = root.section("upstream", upstream::settle);
    let sessions = root.section("sessions", sessions::settle);
    let (routes, all) = routes::settle_all(root, &issuers);
    if let Some(dialects) = &dialects {
        token_endpoints::judge_places(root, &issuers.endpoints, dialects);
    }
    let endpoint_warnings = token_endpoints::judge(root, &issuers.endpoints, all.then_some(&*routes));
    if !root.was_given("routes") {
        root.fault("routes", "is missing: without a route every request is answered 404");
    }
    let (proxy, (admin_listener, mut admin)) = (proxy?, admin?);
    refuse_one_address(root, proxy.listener.listen, admin_listener.listen);
    let (log, access_log) = log?;
    let store::Section { settings: store, staleness, snapshot, replica, warnings: store_warnings } = store?;
    admin.dialects = dialects?;
    let session_passwords = session_passwords(&admin.dialects);
    admin.store = scheme(&store.backend).into();
    let mut warnings = warnings(&issuers, &admin_listener, &admin);
    warnings.extend(endpoint_warnings);
    warnings.extend(store_warnings);
    Some(Settings {
        gateway: gateway::Settings {
            routes,
            token_endpoints: issuers.endpoints.into_iter().map(|placed| placed.endpoint).collect(),
            upstream: upstream?,
            timeouts: proxy.timeouts,
            limits: proxy.limits,
            trusted_proxies: proxy.listener.trusted_proxies.clone(),
            access_log,
        },
        proxy: proxy.listener,
        admin_listener,
        drain: proxy.drain,
        admin,
        store,
        staleness,
        snapshot,
        replica,
        verify: verify::Settings { issuers: issuers.settled, cache: cache? },
        sessions: sessions?,
        session_limits: issuers.session_limits,
        session_passwords,
        log,
        warnings,
    })
}

/// Passwords are given without PrivX's dialect too; what it says of them holds for all.
fn session_passwords(dialects: &crate::admin::Dialects) -> PasswordSettings {
    let usual = PasswordSettings::default();
    dialects.privx.as_ref().map_or(usual, |privx| PasswordSettings { ttl: privx.session_password_ttl })
}

/// The kind of store, as its URL's scheme names it.
const fn scheme(backend: &Backend) -> &'static str {
    match backend {
        Backend::Sqlite(_) => "sqlite",
        Backend::Memory => "memory",
        Backend::Postgres(_) => "postgres",
        Backend::Redis(_) => "redis",
    }
}

/// The admin side has its own listener. Port 0 is a new port each time.
fn refuse_one_address(root: &Table<'_>, proxy: SocketAddr, admin: SocketAddr) {
    let overlap = proxy.ip() == admin.ip() || proxy.ip().is_unspecified() || admin.ip().is_unspecified();
    if overlap && proxy.port() == admin.port() && proxy.port() != 0 {
        root.fault("admin.listen", "is the address of the proxy; the admin side needs its own");
    }
}

fn warnings(issuers: &Issuers, listener: &net::Settings, admin: &crate::admin::Settings) -> Vec<String> {
    let mut warnings = issuers.warnings.clone();
    if listener.tls.is_none() && !listener.listen.ip().is_loopback() {
        warnings.push("admin: credentials come in over plain http from other machines; set admin.tls".to_owned());
    }
    if admin.credentials.is_empty() && admin.certificates.is_empty() && admin.tokens.is_empty() {
        warnings.push("admin: nobody may call it, so nothing can be revoked".to_owned());
    }
    if admin.dialects.onezone.as_ref().is_some_and(|onezone| onezone.upstream.is_none()) {
        let counted = "upstream is not set, so generations are counted here: whoever hands out temporary tokens must read \
            them here";
        warnings.push(format!("dialects.onezone: {counted}"));
    }
    if issuers.names.is_empty() {
        warnings.push("issuers: there is none, so no token passes".to_owned());
    }
    warnings
}
