//! Which store, and its bounds; what the configuration fills in.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::store::redis::{Address, InvalidAddress};
use crate::store::url::ServerUrl;

/// A store's settings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Where revocations are kept: `store.url`.
    pub backend: Backend,
    /// The longest one call may take, waiting in line included.
    pub timeout: Duration,
    /// A file up to this size is checked page by page at start; a larger one is checked as it is read.
    pub check_bytes: u64,
    /// The file may not grow beyond this; then revocations are refused, as on a full disk. `None`: as far as the disk goes.
    pub max_bytes: Option<u64>,
    /// Connections that read.
    pub readers: u32,
    /// What a store on a server needs to know.
    pub remote: Remote,
}

/// How a store on a server is reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Remote {
    /// How often the log is read though nothing woke us.
    pub poll: Duration,
    /// The most connections at once, those that wait for news aside.
    pub connections: u32,
    /// The password, where the URL has none.
    pub password: Option<Password>,
    /// Certificates to trust instead of the system's, a PEM file.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key, PEM files.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How many Redis replicas must have a write before it is answered; 0 for none.
    pub wait_replicas: u32,
    /// How long that may take.
    pub wait_timeout: Duration,
}

impl Default for Remote {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(1),
            connections: 8,
            password: None,
            ca: None,
            identity: None,
            wait_replicas: 0,
            wait_timeout: Duration::from_secs(1),
        }
    }
}

/// A password, which no log shows.
#[derive(Clone, Eq, PartialEq)]
pub struct Password(Box<str>);

impl Password {
    /// The password of this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Its text, for the server alone.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(_)")
    }
}

impl Settings {
    /// The usual bounds around a backend.
    #[must_use]
    pub fn new(backend: Backend) -> Self {
        Self {
            backend,
            timeout: Duration::from_secs(10),
            check_bytes: 1 << 30,
            max_bytes: None,
            readers: 4,
            remote: Remote::default(),
        }
    }
}

/// Where a store keeps its data.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Backend {
    /// A file, for one replica.
    Sqlite(PathBuf),
    /// This process's memory, for tests: gone with it.
    Memory,
    /// A PostgreSQL database, for many replicas.
    Postgres(StoreUrl),
    /// Redis or Valkey, alone, watched by Sentinels or as a cluster, for many replicas.
    Redis(StoreUrl),
}

/// The URL of a server, which may hold a password; its `Debug` shows the scheme alone.
#[derive(Clone, Eq, PartialEq)]
pub struct StoreUrl(Box<str>);

impl StoreUrl {
    /// Its text, for the server's client alone.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Its scheme.
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.0.split_once(':').map_or("", |(scheme, _)| scheme)
    }
}

impl From<&str> for StoreUrl {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({}:_)", self.scheme())
    }
}

impl Backend {
    /// Whether other replicas may share it.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_) | Self::Redis(_))
    }

    /// Reads a `store.url`.
    ///
    /// # Errors
    ///
    /// [`InvalidUrl`], which says what is known.
    pub fn parse(url: &str) -> Result<Self, InvalidUrl> {
        if url == "memory:" {
            return Ok(Self::Memory);
        }
        if let Some(path) = url.strip_prefix("sqlite:") {
            return sqlite(path.strip_prefix("//").unwrap_or(path));
        }
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("postgres" | "postgresql") => ServerUrl::parse(url).map(|_| Self::Postgres(url.into())),
            Some("redis" | "rediss" | "redis+sentinel" | "rediss+sentinel" | "redis+cluster" | "rediss+cluster") => {
                ServerUrl::parse(url)?;
                Address::parse(url)?;
                Ok(Self::Redis(url.into()))
            }
            _ => Err(InvalidUrl::Unknown),
        }
    }
}

fn sqlite(path: &str) -> Result<Backend, InvalidUrl> {
    match path {
        "" => Err(InvalidUrl::NoPath),
        ":memory:" => Err(InvalidUrl::SqliteMemory),
        path => Ok(Backend::Sqlite(path.into())),
    }
}

impl FromStr for Backend {
    type Err = InvalidUrl;

    fn from_str(url: &str) -> Result<Self, InvalidUrl> {
        Self::parse(url)
    }
}

/// Why a text is no `store.url`. It never repeats the text, which may hold a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidUrl {
    /// Another scheme, or none.
    #[error("the store is sqlite:PATH, postgres://…, redis://… or memory:")]
    Unknown,
    /// A Redis whose URL is not whole.
    #[error(transparent)]
    Redis(#[from] InvalidAddress),
    /// `sqlite:` alone.
    #[error("sqlite: needs the path of a file")]
    NoPath,
    /// `sqlite::memory:`, which would forget everything.
    #[error("an SQLite store needs a file; for tests, write memory:")]
    SqliteMemory,
    /// No host, or one that cannot be.
    #[error("needs a host, as in postgres://user@host/database or redis://host")]
    NoHost,
    /// A port that is none.
    #[error("has a wrong port")]
    Port,
    /// Several hosts where one is meant.
    #[error("names several hosts; only redis+sentinel:// and redis+cluster:// have several")]
    SeveralHosts,
    /// A character that must be percent-encoded.
    #[error("holds a character that must be percent-encoded, as # is %23, % is %25 and a space is %20")]
    Character,
    /// An unknown `sslmode`.
    #[error("sslmode must be one of disable, allow, prefer, require, verify-ca, verify-full")]
    SslMode,
    /// Sentinels without the name of what they watch.
    #[error("needs the name of the master that the Sentinels watch, as in redis+sentinel://host:26379/NAME")]
    NoMaster,
    /// A database of Redis that is no number.
    #[error("the database of a Redis is a number")]
    Database,
    /// A database of a cluster, which has only one.
    #[error("a cluster has no databases to choose from: leave the path out")]
    ClusterDatabase,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_their_backend() {
        assert_eq!(Backend::parse("memory:"), Ok(Backend::Memory));
        assert_eq!(Backend::parse("sqlite:data/p.db"), Ok(Backend::Sqlite("data/p.db".into())));
        assert_eq!(Backend::parse("sqlite:///var/p.db"), Ok(Backend::Sqlite("/var/p.db".into())));
    }

    #[test]
    fn other_urls_are_refused_without_being_repeated() {
        for url in
            ["mysql://hunter2", "", "sqlite:", "sqlite::memory:", "redis://:hunter2@h:x", "postgres://u:hunter2#@h"]
        {
            let refusal = Backend::parse(url).unwrap_err().to_string();
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }

    #[test]
    fn a_url_keeps_its_password_to_itself() {
        for url in ["postgres://u:hunter2@h/d", "redis://:hunter2@h", "rediss+sentinel://:hunter2@h/m"] {
            let backend = Backend::parse(url).unwrap();
            assert!(backend.is_shared() && !format!("{backend:?}").contains("hunter2"), "{backend:?}");
        }
    }
}
