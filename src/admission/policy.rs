//! What a route demands of whoever comes. Plain data, made from the configuration.

use std::sync::Arc;

use hyper::header::HeaderName;

use crate::admission::WhenStale;
use crate::admission::credential::Place;
use crate::domain::TokenKind;
use crate::verify::Accepted;

/// Whether a token is needed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Auth {
    /// Nobody passes without one.
    #[default]
    Required,
    /// Who has none passes as nobody; who has a bad one does not pass.
    Optional,
    /// Tokens are not looked at.
    None,
}

/// What a route demands of a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    /// Whether one is needed.
    pub auth: Auth,
    /// Whose tokens are good here; `None` for all issuers'.
    pub accepted: Accepted,
    /// Where a token may stand; nothing else is looked at.
    pub places: Vec<Place>,
    /// Where an API key may stand, which is a kind of its own.
    pub api_keys: Vec<Place>,
    /// The scopes a token must have, all of them.
    pub scopes: Vec<Box<str>>,
    /// What the token is used as.
    pub kind: TokenKind,
    /// Whether the first of the places that has a token counts, and those behind it are not looked at, as some upstreams do;
    /// else two tokens are one too many.
    pub first_only: bool,
    /// Headers with tokens of third parties, which must not be revoked either.
    pub companions: Vec<HeaderName>,
    /// The query parameter in which a token may stand as well, which RFC 9700 §4.3.2 advises against.
    pub query_token: Option<Box<str>>,
    /// What to do here while the index is out of step; `None`: as everywhere.
    pub when_stale: Option<WhenStale>,
}

impl Policy {
    /// The scopes demanded, parted by blanks, for the challenge of a 403 (RFC 6750 §3); `None` when there are none.
    #[must_use]
    pub fn scope(&self) -> Option<Arc<str>> {
        (!self.scopes.is_empty()).then(|| self.scopes.join(" ").into())
    }

    /// Whether a token may stand in the header of that name.
    #[must_use]
    pub fn has_place_in(&self, header: &HeaderName) -> bool {
        let is_there = |place: &Place| matches!(place, Place::Header(name) if name == header);
        self.places.iter().chain(&self.api_keys).any(is_there)
    }
}

impl Default for Policy {
    /// An access token of any issuer, in the `Authorization` header.
    fn default() -> Self {
        Self {
            auth: Auth::Required,
            accepted: None,
            places: vec![Place::Bearer],
            api_keys: Vec::new(),
            scopes: Vec::new(),
            kind: TokenKind::Access,
            first_only: false,
            companions: Vec::new(),
            query_token: None,
            when_stale: None,
        }
    }
}
