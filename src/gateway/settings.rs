//! What the configuration tells the gateway, already parsed: a text that is no upstream, host or path never gets this far.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderName;
use hyper::http::uri::Authority;
use hyper::{Method, Uri};
use ipnet::IpNet;

use crate::admission::Policy;
use crate::domain::Dialect;
use crate::gateway::path;
use crate::gateway::token_endpoint::TokenEndpoint;
use crate::telemetry::access_log;

/// Everything the gateway is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is served, and by whom. What no route names is 404.
    pub routes: Vec<RouteSettings>,
    /// The paths where upstreams hand out tokens; no path is two of them.
    pub token_endpoints: Vec<TokenEndpoint>,
    /// How upstreams are reached.
    pub upstream: UpstreamSettings,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// How large a request may be.
    pub limits: Limits,
    /// Peers whose `Forwarded`, `X-Forwarded-*` and `X-Request-Id` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Which answers get a line in the access log.
    pub access_log: access_log::Settings,
}

/// One route: which requests it takes, what it demands, where it sends them.
#[derive(Clone, Debug)]
pub struct RouteSettings {
    /// The label in logs and metrics.
    pub name: Arc<str>,
    /// The prefix, matched at segment boundaries; the longest wins.
    pub path: RoutePath,
    /// Only for these hosts; empty for any.
    pub hosts: Vec<HostPattern>,
    /// Only these methods; empty for any. The most specific path that has no such method answers 405.
    pub methods: Vec<Method>,
    /// Where requests go; at least one.
    pub upstreams: Vec<UpstreamUrl>,
    /// What a token must show.
    pub policy: Policy,
    /// Protocols a connection may be upgraded to, in lower case; never `h2c`.
    pub upgrades: Vec<String>,
    /// The names identity is told under; `None` tells nothing.
    pub identity_headers: Option<IdentityHeaders>,
    /// Whether what is open ends when its token expires. A revocation always ends it.
    pub cut_on_expiry: bool,
    /// Whose clients call: how a refusal is worded.
    pub dialect: Dialect,
}

/// Under which names the upstream learns who calls.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IdentityHeaders {
    /// `sub`.
    pub user: HeaderName,
    /// The name people know the user by.
    pub username: HeaderName,
    /// `sid`.
    pub session: HeaderName,
    /// `iss`.
    pub issuer: HeaderName,
    /// `azp` or `client_id`.
    pub client: HeaderName,
    /// The scopes, parted by blanks.
    pub scopes: HeaderName,
}

impl Default for IdentityHeaders {
    fn default() -> Self {
        Self {
            user: HeaderName::from_static("x-auth-user"),
            username: HeaderName::from_static("x-auth-username"),
            session: HeaderName::from_static("x-auth-session"),
            issuer: HeaderName::from_static("x-auth-issuer"),
            client: HeaderName::from_static("x-auth-client"),
            scopes: HeaderName::from_static("x-auth-scopes"),
        }
    }
}

impl IdentityHeaders {
    /// All six names.
    #[must_use]
    pub fn names(&self) -> [&HeaderName; 6] {
        [&self.user, &self.username, &self.session, &self.issuer, &self.client, &self.scopes]
    }
}

/// How upstreams are reached and judged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UpstreamSettings {
    /// A PEM file of roots trusted beside the system's.
    pub ca: Option<PathBuf>,
    /// Idle HTTP/1.1 connections kept per upstream, and the most HTTP/2 connections to one.
    pub idle_connections: usize,
    /// Consecutive failures to connect or to answer in time after which an upstream is left out for a while.
    pub failures: u32,
    /// How long it is left out, and up to a quarter more, so that replicas do not come back in step.
    pub eject: Duration,
    /// How often a request of which nothing was sent is sent anew.
    pub retries: u32,
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        Self { ca: None, idle_connections: 64, failures: 3, eject: Duration::from_secs(10), retries: 1 }
    }
}

/// How long each step may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// TCP, TLS and HTTP/2 handshakes with an upstream.
    pub connect: Duration,
    /// From the last piece of the request to the head of the answer.
    pub upstream: Duration,
    /// Between two pieces of a body, either way.
    pub body: Duration,
    /// How long an unused upstream connection is kept.
    pub idle: Duration,
    /// How long a tunnel may be silent in both directions.
    pub tunnel: Duration,
    /// The whole exchange, bodies included; `None` for no bound.
    pub total: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            upstream: Duration::from_secs(60),
            body: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            tunnel: Duration::from_secs(3600),
            total: None,
        }
    }
}

/// How large a request may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Header fields.
    pub headers: usize,
    /// Bytes of a head, of an upstream's answer too.
    pub head_bytes: usize,
    /// Bytes of a request target.
    pub uri_bytes: usize,
    /// Bytes of a request body; `None` for no bound, since bodies are streamed.
    pub body_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { headers: 128, head_bytes: 64 * 1024, uri_bytes: 8 * 1024, body_bytes: None }
    }
}

/// How an upstream is spoken to.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Scheme {
    /// `http://`: HTTP/1.1 in the clear.
    Http,
    /// `https://`: TLS; ALPN chooses between HTTP/2 and HTTP/1.1.
    Https,
    /// `h2c://`: HTTP/2 in the clear, by prior knowledge (RFC 9113 §3.3).
    H2c,
}

/// Where requests go: a scheme, a host and a port; no path, since the path that was matched is the one forwarded.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct UpstreamUrl {
    scheme: Scheme,
    host: Arc<str>,
    port: u16,
}

impl UpstreamUrl {
    /// How it is spoken to.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host, an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, the scheme's own by default.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::H2c => "h2c",
        };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}:{}", self.host, self.port)
    }
}

/// Why a text names no upstream, host or path.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidSetting {
    /// No upstream.
    #[error("an upstream is http://, https:// or h2c://, a host and perhaps a port, and nothing else")]
    Upstream,
    /// No host.
    #[error("a host is a name, or *. and a name, without a port")]
    Host,
    /// No path.
    #[error("a route's path begins with / and has no query and no ambiguous part: {0}")]
    Path(path::PathFault),
}

impl FromStr for UpstreamUrl {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let uri: Uri = text.parse().map_err(|_| InvalidSetting::Upstream)?;
        let (scheme, default_port) = match uri.scheme_str() {
            Some("http") => (Scheme::Http, 80),
            Some("https") => (Scheme::Https, 443),
            Some("h2c") => (Scheme::H2c, 80),
            _ => return Err(InvalidSetting::Upstream),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let host = authority.map(Authority::host).filter(|host| !host.is_empty()).ok_or(InvalidSetting::Upstream)?;
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let whole_port = authority.is_some_and(|authority| authority.port().is_none_or(|port| port.as_u16() != 0));
        if !bare || !whole_port || text.contains('#') {
            return Err(InvalidSetting::Upstream);
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        Ok(Self { scheme, host: host.into(), port: uri.port_u16().unwrap_or(default_port) })
    }
}

/// A host a route is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HostPattern {
    /// This very name, in lower case.
    Exact(Box<str>),
    /// Any name below this one; it begins with a dot.
    Below(Box<str>),
}

impl HostPattern {
    /// Whether `host`, without port, is meant. Names are compared without case, a final dot aside.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        match self {
            Self::Exact(name) => name.eq_ignore_ascii_case(host),
            Self::Below(suffix) => {
                let at = host.len().checked_sub(suffix.len()).filter(|at| *at > 0);
                at.and_then(|at| host.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
            }
        }
    }

    /// The greater, the more exact.
    #[must_use]
    pub const fn exactness(&self) -> usize {
        match self {
            Self::Exact(_) => usize::MAX,
            Self::Below(suffix) => suffix.len(),
        }
    }
}

impl FromStr for HostPattern {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let name = text.strip_prefix('*').unwrap_or(text);
        let below = name.len() != text.len();
        let fit = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
            || (name.starts_with('[') && name.ends_with(']'));
        if !fit || name.len() < 1 + usize::from(below) || name.starts_with('.') != below || name.ends_with('.') {
            return Err(InvalidSetting::Host);
        }
        let name = name.to_ascii_lowercase().into_boxed_str();
        Ok(if below { Self::Below(name) } else { Self::Exact(name) })
    }
}

/// A route's prefix, decoded as requests are before they are matched. A final slash means nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoutePath(Box<str>);

impl RoutePath {
    /// The segments.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|segment| !segment.is_empty())
    }
}

impl FromStr for RoutePath {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let path = path::normalise(text).map_err(InvalidSetting::Path)?;
        if path.readings().next().is_some() {
            return Err(InvalidSetting::Path(path::PathFault::Ambiguous));
        }
        Ok(Self(path.decoded().trim_end_matches('/').into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_a_scheme_a_host_and_a_port() {
        let shown = |text: &str| text.parse::<UpstreamUrl>().map(|url| url.to_string());
        assert_eq!(shown("http://127.0.0.1:3000"), Ok("http://127.0.0.1:3000".into()));
        assert_eq!(shown("https://API.example.com/"), Ok("https://api.example.com:443".into()));
        assert_eq!(shown("h2c://[::1]:50051"), Ok("h2c://[::1]:50051".into()));
        for wrong in
            ["ftp://a", "http://", "a:80", "http://u@a", "http://a/b", "http://a?b", "http://a#b", "http://a:0"]
        {
            assert_eq!(shown(wrong), Err(InvalidSetting::Upstream), "{wrong}");
        }
    }

    #[test]
    fn a_host_pattern_matches_names_not_text() {
        let below: HostPattern = "*.Example.com".parse().unwrap();
        assert!(below.matches("a.example.COM") && below.matches("a.b.example.com."));
        assert!(!below.matches("example.com") && !below.matches(".example.com") && !below.matches("aexample.com"));
        let exact: HostPattern = "example.com".parse().unwrap();
        assert!(exact.matches("EXAMPLE.com") && !exact.matches("a.example.com"));
        for wrong in ["", "*", "*.", "*a.com", "a:80", "a/b", ".a", "a."] {
            assert!(wrong.parse::<HostPattern>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_route_path_is_read_like_a_request() {
        let path: RoutePath = "/a%62/c%20d/".parse().unwrap();
        assert_eq!(path.segments().collect::<Vec<_>>(), ["ab", "c d"]);
        assert_eq!("/".parse::<RoutePath>().unwrap().segments().count(), 0);
        for wrong in ["", "a", "/a//b", "/a/../b", "/a%2fb", "/a;x", "/a?b"] {
            assert!(wrong.parse::<RoutePath>().is_err(), "{wrong}");
        }
    }
}
