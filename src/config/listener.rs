//! `[proxy]` and the listening part of `[admin]`: addresses, TLS, time-outs, limits. TLS files are read and tried here, so
//! that a bad one is found before anything starts or is replaced.

use std::net::SocketAddr;
use std::time::Duration;

use super::range::{DAY, HOUR, MILLI, SECOND};
use super::table::Table;
use super::value::{File, Size};
use crate::gateway;
use crate::net;
use crate::net::tls::{KeyPair, NamedKeyPair, server_config};
use crate::telemetry::in_one_line;

/// What `[proxy]` says, for the listener and for the gateway behind it.
pub(super) struct Proxy {
    pub(super) listener: net::Settings,
    pub(super) timeouts: gateway::Timeouts,
    pub(super) limits: gateway::Limits,
    pub(super) drain: Duration,
}

/// Reads `[proxy]`.
pub(super) fn settle_proxy(table: &mut Table<'_>) -> Option<Proxy> {
    let mut listener = net::Settings::plain(table.or("listen", SocketAddr::from(([127, 0, 0, 1], 8080))));
    listener.trusted_proxies = table.or("trusted_proxies", Vec::new());
    listener.proxy_protocol = table.or("proxy_protocol", false);
    if listener.proxy_protocol && listener.trusted_proxies.is_empty() {
        table.fault("proxy_protocol", "needs trusted_proxies: nobody else's PROXY header is believed");
    }
    listener.tls = table.optional_section("tls", tls);
    let (timeouts, limits) = (table.section("timeouts", timeouts), table.section("limits", limits));
    let ((waits, timeouts, drain), (bounds, limits)) = (timeouts?, limits?);
    listener.timeouts = waits;
    listener.limits = bounds;
    Some(Proxy { listener, timeouts, limits, drain })
}

/// Reads `listen` and `tls` of `[admin]`; the rest is as usual.
pub(super) fn settle_admin(table: &mut Table<'_>) -> net::Settings {
    let mut listener = net::Settings::plain(table.or("listen", SocketAddr::from(([127, 0, 0, 1], 9090))));
    listener.tls = table.optional_section("tls", tls);
    listener
}

fn tls(table: &mut Table<'_>) -> Option<net::tls::Settings> {
    let default = pair(table);
    let client_ca = table.optional::<File>("client_ca").map(|file| file.0);
    let certificates = table.sections("certificates", |table| {
        let names: Option<Vec<String>> = table.required("names");
        if names.as_ref().is_some_and(Vec::is_empty) {
            table.fault("names", "must name one server at least");
        }
        let pair = pair(table);
        Some(NamedKeyPair { names: names?, pair: pair? })
    });
    let settings = net::tls::Settings { default: default?, certificates, client_ca };
    if let Err(error) = server_config(&settings) {
        table.fault("", in_one_line(&error));
    }
    Some(settings)
}

fn pair(table: &mut Table<'_>) -> Option<KeyPair> {
    let cert = table.required::<File>("cert");
    let key = table.required::<File>("key");
    Some(KeyPair { cert: cert?.0, key: key?.0 })
}

fn timeouts(table: &mut Table<'_>) -> Option<(net::Timeouts, gateway::Timeouts, Duration)> {
    let waits = net::Timeouts::default();
    let usual = gateway::Timeouts::default();
    let mut time = |key: &'static str, usual: Duration| table.within(key, usual, MILLI..=DAY);
    let waits = net::Timeouts {
        header: time("header", waits.header),
        body: time("body", waits.body),
        idle: time("idle", waits.idle),
    };
    let timeouts = gateway::Timeouts {
        connect: time("connect", usual.connect),
        upstream: time("upstream", usual.upstream),
        tunnel: time("tunnel", usual.tunnel),
        body: waits.body,
        idle: waits.idle,
        total: table.optional_within("total", MILLI..=7 * DAY),
    };
    let drain = table.within("drain", 30 * SECOND, Duration::ZERO..=HOUR);
    Some((waits, timeouts, drain))
}

fn limits(table: &mut Table<'_>) -> Option<(net::Limits, gateway::Limits)> {
    let kib = |n: u64| Size(n << 10);
    let usual = net::Limits::default();
    let bounds = net::Limits {
        // hyper reads no head into less.
        head_bytes: table.within("head_bytes", kib(64), kib(8)..=kib(1024)).as_usize(),
        headers: table.within("headers", usual.headers, 8..=4096),
        connections: table.within("connections", usual.connections, 1..=10_000_000),
        connections_per_address: table.optional_within("connections_per_address", 1..=10_000_000),
        streams: table.within("streams", usual.streams, 1..=100_000),
        resets: table.within("resets", usual.resets, 1..=100_000),
    };
    let limits = gateway::Limits {
        head_bytes: bounds.head_bytes,
        headers: bounds.headers,
        uri_bytes: table.within("uri_bytes", kib(8), Size(64)..=kib(1024)).as_usize(),
        body_bytes: table.optional_within("body_bytes", Size(0)..=Size(1 << 50)).map(|size| size.0),
    };
    if limits.uri_bytes > limits.head_bytes {
        table.fault("uri_bytes", "must not be larger than head_bytes");
    }
    Some((bounds, limits))
}
