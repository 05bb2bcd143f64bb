//! Where a Redis is, read from a `store.url`: one server, the sentinels that know the master, or some nodes of a cluster.

use std::fmt;

/// The port a Redis listens at when the URL names none.
const REDIS_PORT: u16 = 6379;
/// The same for a sentinel.
const SENTINEL_PORT: u16 = 26379;

/// A `store.url` of a Redis, in parts.
#[derive(Clone, Eq, PartialEq)]
pub(in crate::store) struct Address {
    pub(super) kind: Kind,
    /// Whom to ask, in this order.
    pub(super) hosts: Vec<Host>,
    pub(super) tls: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    /// The number of the database.
    pub(super) database: u16,
}

/// How the hosts of an address are to be understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// The server itself.
    Single,
    /// Sentinels, which know where the master of this name is.
    Sentinel(String),
    /// Nodes of a cluster, any of which knows who serves our keys.
    Cluster,
}

/// A name or number, and a port.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, port } = self;
        if name.contains(':') { write!(f, "[{name}]:{port}") } else { write!(f, "{name}:{port}") }
    }
}

/// The address without what is secret in it.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(Host::to_string).collect();
        let kind = match &self.kind {
            Kind::Single => String::new(),
            Kind::Sentinel(master) => format!(" ({master})"),
            Kind::Cluster => " (cluster)".to_owned(),
        };
        write!(f, "{}{}", hosts.join(","), kind)
    }
}

/// Why a text is no URL of a Redis. It never repeats the text, which may hold a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidAddress {
    /// Another scheme.
    #[error("the URL of a Redis begins with redis://, rediss://, redis+sentinel:// or redis+cluster://")]
    Scheme,
    /// No host, an empty one, or a port that is none.
    #[error("the URL of a Redis names HOST or HOST:PORT")]
    Host,
    /// Several hosts where there is one server.
    #[error("several hosts need redis+sentinel:// or redis+cluster://")]
    SeveralHosts,
    /// Sentinels, but not the name of what they watch.
    #[error("redis+sentinel:// needs the master's name after the hosts: redis+sentinel://HOST:PORT,HOST:PORT/NAME")]
    NoMaster,
    /// A database that is no number, or one in a cluster, which has none.
    #[error("the path of a Redis URL is the number of the database; a cluster has none")]
    Database,
    /// A broken percent-encoding.
    #[error("the user or password in the URL of a Redis is not percent-encoded")]
    Encoding,
    /// Anything after `?` or `#`.
    #[error("the URL of a Redis takes no query and no fragment; percent-encode what is special in the password")]
    Query,
}

impl Address {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// [`InvalidAddress`]
    pub(in crate::store) fn parse(url: &str) -> Result<Self, InvalidAddress> {
        let (scheme, rest) = url.split_once("://").ok_or(InvalidAddress::Scheme)?;
        let (tls, sort) = match scheme.split_once('+').map_or((scheme, ""), |(base, sort)| (base, sort)) {
            ("redis", sort) => (false, sort),
            ("rediss", sort) => (true, sort),
            _ => return Err(InvalidAddress::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(InvalidAddress::Query);
        }
        let (login, place) = rest.rsplit_once('@').map_or((None, rest), |(login, place)| (Some(login), place));
        let (hosts, path) = place.split_once('/').unwrap_or((place, ""));
        let (kind, database) = kind(sort, path)?;
        let port = if matches!(kind, Kind::Sentinel(_)) { SENTINEL_PORT } else { REDIS_PORT };
        let hosts = hosts.split(',').map(|text| host(text, port)).collect::<Result<Vec<_>, _>>()?;
        if kind == Kind::Single && hosts.len() > 1 {
            return Err(InvalidAddress::SeveralHosts);
        }
        let (user, password) = login.map(self::login).transpose()?.unwrap_or_default();
        Ok(Self { kind, hosts, tls, user, password, database })
    }
}

/// What kind of address it is, and the database.
fn kind(sort: &str, path: &str) -> Result<(Kind, u16), InvalidAddress> {
    let number = |text: &str| if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| InvalidAddress::Database) };
    match sort {
        "" => Ok((Kind::Single, number(path)?)),
        "sentinel" => {
            let (master, database) = path.split_once('/').unwrap_or((path, ""));
            if master.is_empty() {
                return Err(InvalidAddress::NoMaster);
            }
            Ok((Kind::Sentinel(decoded(master)?), number(database)?))
        }
        "cluster" if number(path)? == 0 => Ok((Kind::Cluster, 0)),
        "cluster" => Err(InvalidAddress::Database),
        _ => Err(InvalidAddress::Scheme),
    }
}

fn host(text: &str, default: u16) -> Result<Host, InvalidAddress> {
    let (name, port) = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']').ok_or(InvalidAddress::Host)?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(digits) => digits.parse().ok().filter(|port| *port != 0).ok_or(InvalidAddress::Host)?,
        None if port.is_empty() => default,
        None => return Err(InvalidAddress::Host),
    };
    if name.is_empty() { Err(InvalidAddress::Host) } else { Ok(Host { name: name.to_owned(), port }) }
}

/// `USER:PASSWORD`, `:PASSWORD` or `USER`.
fn login(text: &str) -> Result<(Option<String>, Option<String>), InvalidAddress> {
    let (user, password) = text.split_once(':').map_or((text, None), |(user, password)| (user, Some(password)));
    let user = Some(decoded(user)?).filter(|user| !user.is_empty());
    Ok((user, password.map(decoded).transpose()?))
}

/// RFC 3986 §2.1.
fn decoded(text: &str) -> Result<String, InvalidAddress> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16)).ok_or(InvalidAddress::Encoding);
        let byte = if byte == b'%' { u8::try_from(digit()? * 16 + digit()?).unwrap_or(b'%') } else { byte };
        bytes.push(byte);
    }
    String::from_utf8(bytes).map_err(|_| InvalidAddress::Encoding)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hosts(url: &str) -> Vec<String> {
        Address::parse(url).unwrap().hosts.iter().map(Host::to_string).collect()
    }

    #[test]
    fn each_kind_of_url_is_read() {
        let one = Address::parse("rediss://gate:p%40ss@db.example:6380/3").unwrap();
        assert_eq!((one.tls, one.database, &one.kind), (true, 3, &Kind::Single));
        assert_eq!((one.user.as_deref(), one.password.as_deref()), (Some("gate"), Some("p@ss")));
        assert_eq!(hosts("redis://[::1]"), ["[::1]:6379"]);
        assert_eq!(hosts("redis+sentinel://a,b:2/gate/1"), ["a:26379", "b:2"]);
        let watched = Address::parse("rediss+sentinel://a/gate").unwrap();
        assert_eq!((watched.kind, watched.tls), (Kind::Sentinel("gate".into()), true));
        assert_eq!(Address::parse("redis+cluster://:secret@a:7000,b:7001").unwrap().kind, Kind::Cluster);
        assert_eq!(Address::parse("redis://:a:b@h").unwrap().password.as_deref(), Some("a:b"));
    }

    #[test]
    fn what_is_wrong_is_said_and_never_repeated() {
        use InvalidAddress::*;
        for (url, why) in [
            ("redis:hunter2", Scheme),
            ("redis+x://hunter2", Scheme),
            ("redis://", Host),
            ("redis://hunter2:0", Host),
            ("redis://a,hunter2", SeveralHosts),
            ("redis+sentinel://hunter2", NoMaster),
            ("redis://h/hunter2", Database),
            ("redis+cluster://h/1", Database),
            ("redis://%hunter2@h", Encoding),
            ("redis://h?hunter2", Query),
        ] {
            assert_eq!(Address::parse(url), Err(why), "{url}");
            assert!(!why.to_string().contains("hunter2"));
        }
        assert!(!format!("{:?}", Address::parse("redis://u:hunter2@h").unwrap()).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "redis(s|)(\\+sentinel|\\+cluster|)://.{0,40}") {
            let _ = Address::parse(&text);
        }
    }
}
