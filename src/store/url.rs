//! The URL of a store on a server: whether it can be right, and what it means for who may listen in. What is wrong is said
//! without the URL, which may hold a password.

use crate::store::{InvalidUrl, StoreUrl};

impl StoreUrl {
    /// Whether it holds a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        ServerUrl::parse(self.reveal()).is_ok_and(|url| url.has_password())
    }

    /// Whether it asks for TLS, or leaves it to be agreed on.
    #[must_use]
    pub fn may_encrypt(&self) -> bool {
        ServerUrl::parse(self.reveal()).is_ok_and(|url| url.may_encrypt())
    }

    /// Whether nobody on the way can listen in or pose as the server: it is this machine, or its certificate is verified.
    #[must_use]
    pub fn is_private(&self) -> bool {
        ServerUrl::parse(self.reveal()).is_ok_and(|url| url.is_private())
    }
}

/// A URL, taken apart; nothing is decoded.
#[derive(Clone, Copy)]
pub(super) struct ServerUrl<'a> {
    scheme: &'a str,
    user: Option<&'a str>,
    hosts: &'a str,
    path: &'a str,
    query: &'a str,
}

/// What PostgreSQL's `sslmode` may be, from the least to the most.
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

impl<'a> ServerUrl<'a> {
    /// Takes a URL apart and judges each part.
    pub(super) fn parse(url: &'a str) -> Result<Self, InvalidUrl> {
        let (scheme, rest) = url.split_once("://").ok_or(InvalidUrl::NoHost)?;
        if url.contains(|c: char| c == '#' || c.is_whitespace() || c.is_control()) {
            return Err(InvalidUrl::Character);
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = place.split_once('/').unwrap_or((place, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        let url = Self { scheme, user, hosts, path, query };
        if user.is_some_and(|user| !is_encoded(user)) {
            return Err(InvalidUrl::Character);
        }
        if url.is_postgres() {
            url.judge_postgres()?
        } else {
            url.judge_redis()?
        }
        Ok(url)
    }

    fn judge_postgres(&self) -> Result<(), InvalidUrl> {
        if self.hosts.contains(',') {
            return Err(InvalidUrl::SeveralHosts);
        }
        if !self.hosts.is_empty() || self.parameter("host").is_none() {
            check_host(self.hosts)?;
        }
        let known = self.ssl_mode().is_none_or(|mode| SSL_MODES.contains(&mode));
        if known { Ok(()) } else { Err(InvalidUrl::SslMode) }
    }

    fn judge_redis(&self) -> Result<(), InvalidUrl> {
        let one = !self.scheme.contains('+');
        if one && self.hosts.contains(',') {
            return Err(InvalidUrl::SeveralHosts);
        }
        self.hosts.split(',').try_for_each(check_host)?;
        let (first, second) = self.path.split_once('/').unwrap_or((self.path, ""));
        let number = |text: &str| text.is_empty() || text.parse::<u32>().is_ok();
        match self.scheme.split_once('+').map(|(_, kind)| kind) {
            Some("sentinel") if first.is_empty() => Err(InvalidUrl::NoMaster),
            Some("sentinel") if !number(second) => Err(InvalidUrl::Database),
            Some("cluster") if !matches!(self.path, "" | "0") => Err(InvalidUrl::ClusterDatabase),
            None if !number(self.path) => Err(InvalidUrl::Database),
            _ => Ok(()),
        }
    }

    fn is_postgres(&self) -> bool {
        self.scheme.starts_with("postgres")
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .rfind(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    fn ssl_mode(&self) -> Option<&'a str> {
        self.parameter("sslmode").or_else(|| self.parameter("ssl-mode"))
    }

    fn has_password(&self) -> bool {
        self.user.is_some_and(|user| user.contains(':')) || self.parameter("password").is_some()
    }

    fn may_encrypt(&self) -> bool {
        if self.is_postgres() { self.ssl_mode() != Some("disable") } else { self.scheme.starts_with("rediss") }
    }

    fn is_private(&self) -> bool {
        let verified = if self.is_postgres() {
            self.ssl_mode().is_some_and(|mode| mode.starts_with("verify-"))
        } else {
            self.may_encrypt()
        };
        verified || self.hosts.split(',').all(is_here)
    }
}

/// Whether every percent sign is followed by two hexadecimal digits.
fn is_encoded(text: &str) -> bool {
    text.split('%')
        .skip(1)
        .all(|rest| rest.as_bytes().get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)))
}

fn check_host(text: &str) -> Result<(), InvalidUrl> {
    let (host, port) = split_port(text);
    if host.is_empty() || host.contains(|c: char| !c.is_ascii_graphic() || "[]<>\"\\^`{|}@".contains(c)) {
        return Err(InvalidUrl::NoHost);
    }
    let fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if fits { Ok(()) } else { Err(InvalidUrl::Port) }
}

/// The host, without the brackets of an IPv6 address, and the port.
fn split_port(text: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, (!rest.is_empty()).then(|| rest.strip_prefix(':').unwrap_or("-")));
    }
    match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    }
}

/// This machine, by a name, an address or a socket.
fn is_here(text: &str) -> bool {
    let (host, _) = split_port(text);
    let loopback = host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    loopback || host.is_empty() || host == "localhost" || host.starts_with("%2F") || host.starts_with("%2f")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judged(url: &str) -> Result<(), InvalidUrl> {
        ServerUrl::parse(url).map(|_| ())
    }

    #[test]
    fn what_servers_are_reached_by_is_taken() {
        for url in [
            "postgres://u@h/d",
            "postgresql://u:p%40ss@h:5432/d?sslmode=verify-full",
            "postgres://u@[::1]:5432/d",
            "postgres:///d?host=/run/postgresql",
            "postgres://u@%2Frun%2Fpostgresql/d",
            "redis://h",
            "rediss://u:p@h:6380/3",
            "redis+sentinel://h1:26379,h2/main/2",
            "rediss+cluster://h1:7000,h2:7001,[::1]:7002",
        ] {
            assert_eq!(judged(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_right_is_named() {
        for (url, expected) in [
            ("postgres:h/d", InvalidUrl::NoHost),
            ("postgres:///d", InvalidUrl::NoHost),
            ("postgres://u@a,b/d", InvalidUrl::SeveralHosts),
            ("postgres://u@h:0/d", InvalidUrl::Port),
            ("postgres://u@h:x/d", InvalidUrl::Port),
            ("postgres://u@[::1]5432/d", InvalidUrl::Port),
            ("postgres://u:p%@h/d", InvalidUrl::Character),
            ("postgres://u:p#x@h/d", InvalidUrl::Character),
            ("postgres://u@h/d?sslmode=verify", InvalidUrl::SslMode),
            ("redis://", InvalidUrl::NoHost),
            ("redis://a,b", InvalidUrl::SeveralHosts),
            ("redis://h/one", InvalidUrl::Database),
            ("redis+sentinel://h1,h2", InvalidUrl::NoMaster),
            ("redis+sentinel://h1/main/x", InvalidUrl::Database),
            ("redis+cluster://h1,/", InvalidUrl::NoHost),
            ("redis+cluster://h1,h2/1", InvalidUrl::ClusterDatabase),
        ] {
            assert_eq!(judged(url), Err(expected), "{url}");
        }
    }

    #[test]
    fn who_may_listen_in_shows() {
        let private = |url: &str| ServerUrl::parse(url).unwrap().is_private();
        for url in ["redis://127.0.0.1", "redis://[::1]:1", "rediss://h", "postgres://u@localhost/d"] {
            assert!(private(url), "{url}");
        }
        assert!(private("postgres://u@h/d?sslmode=verify-ca") && private("postgres:///d?host=/run/postgresql"));
        for url in ["redis://h", "redis+cluster://127.0.0.1,h", "postgres://u@h/d", "postgres://u@h/d?sslmode=require"]
        {
            assert!(!private(url), "{url}");
        }
        assert!(ServerUrl::parse("redis://:p@h").unwrap().has_password());
        assert!(ServerUrl::parse("postgres://u@h/d?password=p").unwrap().has_password());
        assert!(!ServerUrl::parse("postgres://u@h/d").unwrap().has_password());
    }

    proptest! {
        #[test]
        fn no_text_upsets_it(text in "(postgres|redis|rediss\\+sentinel|redis\\+cluster)(://)?\\PC*") {
            let _ = judged(&text);
        }
    }
}
