//! What a listener is told: where, how long, how much.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::framing::Bounds;
use super::tls;

/// One listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where to listen. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// TLS; `None` for plain connections.
    pub tls: Option<tls::Settings>,
    /// Whose `PROXY` header is believed. (Whose `Forwarded` is, the gateway says.)
    pub trusted_proxies: Vec<IpNet>,
    /// Whether connections from `trusted_proxies` must begin with a `PROXY` header, version 1 or 2.
    pub proxy_protocol: bool,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How much to take.
    pub limits: Limits,
}

/// How long a listener waits for its peers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// For a `PROXY` header, a TLS handshake, and a request's head, each from its first due moment to its last byte.
    pub header: Duration,
    /// Between two pieces of a body, either way.
    pub body: Duration,
    /// Between two requests of a connection.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { header: Duration::from_secs(10), body: Duration::from_secs(30), idle: Duration::from_secs(60) }
    }
}

/// How much a listener takes from its peers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes of a request's head, in HTTP/2 decompressed; of its trailers too.
    pub head_bytes: usize,
    /// Fields of a request's head.
    pub headers: usize,
    /// Connections in all.
    pub connections: usize,
    /// Connections of one address, or one IPv6 /64.
    pub connections_per_address: Option<usize>,
    /// HTTP/2: streams of a connection that are open at once.
    pub streams: u32,
    /// HTTP/2: resets that are pending or were caused by the peer's errors, before the connection is closed.
    pub resets: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 * 1024,
            headers: 128,
            connections: 10_000,
            connections_per_address: None,
            streams: 128,
            resets: 200,
        }
    }
}

impl Settings {
    /// A plain listener with the default limits.
    #[must_use]
    pub fn plain(listen: SocketAddr) -> Self {
        Self {
            listen,
            tls: None,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            timeouts: Timeouts::default(),
            limits: Limits::default(),
        }
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds { head_bytes: self.limits.head_bytes, headers: self.limits.headers }
    }
}
