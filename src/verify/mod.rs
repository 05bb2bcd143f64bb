//! From a token's text to claims that were verified.
//!
//! | file | what |
//! |---|---|
//! | `settings` | what the operator decides |
//! | `jws` | a text taken apart, with one meaning |
//! | `claims`, `kind` | what it says of itself, and what kind of token that is |
//! | `jwt`, `key_set`, `keys` | signatures, the keys that make them, and how they are kept current |
//! | `macaroon` | tokens that anybody may confine further, verified with a secret or not at all |
//! | `generations` | which generations of temporary tokens were seen |
//! | `opaque`, `news` | asking the issuer, and when to ask again |
//! | `cache` | what was verified of late |
//! | `issuer` | the rules and means of one issuer |
//! | `verifier` | all of them together |
//!
//! Verification may be cached; whether a token may pass is decided elsewhere, and on every request.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::{Claims, Denial, Timestamp, Uuid};

mod cache;
mod claims;
mod fetch;
mod generations;
mod issuer;
mod jws;
mod jwt;
mod key_set;
mod keys;
mod kind;
mod macaroon;
mod news;
mod opaque;
mod settings;
#[cfg(test)]
mod tests;
mod verifier;

pub use fetch::Fetch;
pub use jwt::{Algorithm, UnknownAlgorithm};
pub use key_set::KeySetError;
pub use keys::KeysError;
pub use settings::{
    CacheSettings, ClaimNames, ClientSecret, IntrospectionSettings, IssuerSettings, KeySource, MacaroonSettings,
    Settings, SignatureSettings, Verification,
};
pub use verifier::{Calls, Verifier, VerifierError};

/// Claims that an issuer's key or word vouches for, or that may only be used to refuse. Only this module makes one.
#[derive(Clone, Debug)]
pub struct Verified {
    claims: Arc<Claims>,
    assurance: Assurance,
    deadline: Option<Timestamp>,
    is_known: bool,
    flaw: Option<Denial>,
}

/// How far claims may be believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Assurance {
    /// Signature or introspection vouch for them.
    Vouched,
    /// Nobody checked (`verification = "none"`): good for refusing, never for granting.
    Unchecked,
}

impl Verified {
    /// What the token says.
    #[must_use]
    pub const fn claims(&self) -> &Arc<Claims> {
        &self.claims
    }

    /// How far that may be believed.
    #[must_use]
    pub const fn assurance(&self) -> Assurance {
        self.assurance
    }

    /// Whether more is known of the token than it says: it was learned when it was handed out.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.is_known
    }

    /// The first second in which the token is dead: its `exp` and the issuer's leeway. `None` for one that never says.
    #[must_use]
    pub const fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// Why the token is no good, revocations aside. It is told beside the claims, so that whoever must say that a token was
    /// revoked can say so of one that is bad in other ways too; only [`Verifier::examine`] hands out such a one.
    #[must_use]
    pub const fn flaw(&self) -> Option<Denial> {
        self.flaw
    }

    /// The same token, of which more is known: `claims` must be its own, with what was learned of it filled in.
    pub(crate) fn knowing(self, claims: Arc<Claims>) -> Self {
        let is_known = !Arc::ptr_eq(&claims, &self.claims);
        // What was learned has the leeway in it.
        let deadline = self.deadline.or(claims.expires_at).filter(|_| is_known).or(self.deadline);
        Self { claims, is_known, deadline, ..self }
    }

    /// Claims that were vouched for when their bearer was given a secret to come back with; good until they say.
    pub(crate) fn vouched_before(claims: Arc<Claims>) -> Self {
        Self { deadline: claims.expires_at, claims, assurance: Assurance::Vouched, is_known: false, flaw: None }
    }

    /// Claims that nothing vouches for but a test.
    #[cfg(test)]
    pub(crate) fn of(claims: Claims, assurance: Assurance) -> Self {
        Self { deadline: claims.expires_at, claims: Arc::new(claims), assurance, is_known: false, flaw: None }
    }
}

/// Why a token could not be verified.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum VerifyError {
    /// It is no good.
    #[error("token refused: {0}")]
    Denied(Denial),
    /// The issuer's keys or its word are not to be had; nobody knows.
    #[error("the issuer {issuer:?} cannot be asked")]
    Unavailable {
        /// The issuer's configured name.
        issuer: Arc<str>,
    },
}

impl From<Denial> for VerifyError {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

/// What control needs to know of an issuer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IssuerFacts {
    /// The configured name.
    pub name: Arc<str>,
    /// The `iss`.
    pub issuer: Arc<str>,
    /// No token lives longer; `None` when that is not known.
    pub max_token_lifetime: Option<Duration>,
    /// No refresh token lives longer; `None` when that is not known.
    pub max_refresh_token_lifetime: Option<Duration>,
    /// No token that a revocation of sessions or users reaches lives longer, refresh tokens included; `None` when that is
    /// not known.
    pub longest_life: Option<Duration>,
    /// Tolerance for clocks.
    pub leeway: Duration,
    /// How far its `iat` has run ahead of our clock, at most `leeway`.
    pub lead: Duration,
    /// Whether its session ids are UUIDs, which its tokens write without dashes.
    pub uuid_sessions: bool,
}

impl IssuerFacts {
    /// A session's id as tokens spell it, whatever spelling it was given in.
    #[must_use]
    pub fn session_id<'i>(&self, given: &'i str) -> Cow<'i, str> {
        let uuid = self.uuid_sessions.then(|| given.parse::<Uuid>().ok()).flatten();
        uuid.map_or(Cow::Borrowed(given), |uuid| uuid.undashed().into())
    }
}

/// Which issuers a route accepts: names from the configuration; `None` for all.
pub type Accepted = Option<Arc<[Arc<str>]>>;
