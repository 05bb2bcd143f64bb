//! How each dialect words a refusal: what its real clients read out of a status, a header, a member of a document.
//!
//! Values in, values out. The gateway says it on routes that name the dialect, the admin side in its calls, so that a
//! shape is written once.

use serde_json::Value;

use crate::domain::Dialect;

pub mod bluesky;
pub mod elasticsearch;
pub mod onezone;
pub mod privx;

/// Why a request is refused, as far as the client's system tells its clients.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Complaint {
    /// It has no token.
    Missing,
    /// What it has is no token.
    Malformed,
    /// The token is forged, has expired, or is nobody's.
    Invalid,
    /// The token was taken back.
    Revoked,
    /// The token is good and does not suffice.
    Scope,
    /// It has more than one credential.
    Ambiguous,
    /// Nobody can tell just now.
    Blind,
}

impl Complaint {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Missing, Self::Malformed, Self::Invalid, Self::Revoked, Self::Scope, Self::Ambiguous, Self::Blind];
}

/// What is said: a status, headers and a JSON document.
#[derive(Clone, Debug, PartialEq)]
pub struct Wording {
    /// The HTTP status.
    pub status: u16,
    /// Headers, by their names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The document.
    pub body: Value,
}

impl Wording {
    /// A document with a status and no headers of its own.
    #[must_use]
    pub const fn new(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Dialect {
    /// What a client of this system is told of a token that has expired, where it would be told something else than of any
    /// other bad one: clients that hold a refresh token wait for it.
    #[must_use]
    pub fn expired(self) -> Option<Wording> {
        match self {
            Self::Bluesky => Some(bluesky::Sentence::Expired.worded()),
            Self::OAuth2 | Self::Elasticsearch | Self::PrivX | Self::Onezone => None,
        }
    }

    /// What a client of this system is told; `None` where it is told what everybody is.
    #[must_use]
    pub fn wording(self, complaint: Complaint) -> Option<Wording> {
        match self {
            Self::OAuth2 => None,
            Self::Bluesky => Some(bluesky::refusal(complaint)),
            Self::Elasticsearch => Some(elasticsearch::refusal(complaint)),
            Self::PrivX => Some(privx::refusal(complaint)),
            Self::Onezone => Some(onezone::refusal(complaint)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_tells_a_dead_token_from_not_knowing() {
        for dialect in Dialect::FOREIGN {
            let status = |complaint| dialect.wording(complaint).unwrap().status;
            for complaint in [Complaint::Missing, Complaint::Malformed, Complaint::Invalid, Complaint::Revoked] {
                assert_eq!(status(complaint), 401, "{dialect} {complaint:?}");
            }
            assert_eq!((status(Complaint::Scope), status(Complaint::Blind)), (403, 503), "{dialect}");
            assert_eq!(status(Complaint::Ambiguous), 400, "{dialect}");
        }
        assert_eq!(Dialect::OAuth2.wording(Complaint::Revoked), None);
    }
}
