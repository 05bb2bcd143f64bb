//! Whose API is spoken, where that makes a difference to what clients send and understand.

use std::fmt;
use std::str::FromStr;

/// Whose API is spoken.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Dialect {
    /// RFC 6749 and RFC 6750, to the letter.
    #[default]
    OAuth2,
    /// bluesky-httpserver: failures have a `detail`.
    Bluesky,
    /// Elasticsearch: a media type and a header of its own, and `DELETE` beside `POST` on the token endpoint.
    Elasticsearch,
    /// PrivX: failures have an `error_code`.
    PrivX,
    /// Onezone: failures nest.
    Onezone,
}

impl Dialect {
    /// Those that are somebody's in particular.
    pub const FOREIGN: [Self; 4] = [Self::Bluesky, Self::Elasticsearch, Self::PrivX, Self::Onezone];

    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OAuth2 => "oauth2",
            Self::Bluesky => "bluesky",
            Self::Elasticsearch => "elasticsearch",
            Self::PrivX => "privx",
            Self::Onezone => "onezone",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no dialect.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unknown dialect {0:?}; the dialects are bluesky, elasticsearch, privx, onezone")]
pub struct UnknownDialect(String);

impl FromStr for Dialect {
    type Err = UnknownDialect;

    fn from_str(name: &str) -> Result<Self, UnknownDialect> {
        Self::FOREIGN.into_iter().find(|dialect| dialect.name() == name).ok_or_else(|| UnknownDialect(name.to_owned()))
    }
}
