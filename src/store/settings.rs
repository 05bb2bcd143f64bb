//! Which store, and its bounds; what the configuration fills in.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

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
}

impl Settings {
    /// The usual bounds around a backend.
    #[must_use]
    pub const fn new(backend: Backend) -> Self {
        Self { backend, timeout: Duration::from_secs(10), check_bytes: 1 << 30, max_bytes: None, readers: 4 }
    }
}

/// Where a store keeps its data.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Backend {
    /// A file, for one replica.
    Sqlite(PathBuf),
    /// This process's memory, for tests: gone with it.
    Memory,
}

impl Backend {
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
            Some("postgres" | "postgresql") => Err(InvalidUrl::NotInThisBuild("PostgreSQL")),
            Some("redis" | "rediss") => Err(InvalidUrl::NotInThisBuild("Redis")),
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
    #[error("the store is sqlite:PATH or memory:")]
    Unknown,
    /// A backend this program was built without.
    #[error("{0} is not in this build; the store is sqlite:PATH or memory:")]
    NotInThisBuild(&'static str),
    /// `sqlite:` alone.
    #[error("sqlite: needs the path of a file")]
    NoPath,
    /// `sqlite::memory:`, which would forget everything.
    #[error("an SQLite store needs a file; for tests, write memory:")]
    SqliteMemory,
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
            ["postgres://u:hunter2@h/d", "redis://:hunter2@h", "mysql://hunter2", "", "sqlite:", "sqlite::memory:"]
        {
            let refusal = Backend::parse(url).unwrap_err().to_string();
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
        assert_eq!(Backend::parse("redis://h"), Err(InvalidUrl::NotInThisBuild("Redis")));
    }
}
