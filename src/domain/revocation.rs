//! The rule: a revocation is a selector, a reach and a cut-off.
//!
//! `iat` counts whole seconds (RFC 7519 §2), so a token issued in the very second of the cut-off dies with it: we err
//! towards logging out. Temporary tokens of a user have no such second but a generation, a number that grows with each
//! revocation; a cut-off for those counts generations, and is kept where a second would be.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::domain::{Claims, RevocationId, Selector, Timestamp};

/// What a token is good for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// Opens a resource (RFC 6749 §1.4).
    Access,
    /// Fetches new access tokens (RFC 6749 §1.5).
    Refresh,
    /// A long-lived credential that belongs to no login.
    ApiKey,
}

impl TokenKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Access, Self::Refresh, Self::ApiKey];

    /// The kind's name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Refresh => "refresh",
            Self::ApiKey => "api_key",
        }
    }
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no kind of token.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unknown kind {0:?}; the kinds are access, refresh, api_key")]
pub struct UnknownKind(String);

impl FromStr for TokenKind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| UnknownKind(name.to_owned()))
    }
}

/// Which kinds of token a revocation kills.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(from = "Vec<TokenKind>", into = "Vec<TokenKind>")]
pub struct Reach(u8);

impl Reach {
    /// Every kind.
    pub const ALL: Self = Self(0b111);
    /// What belongs to a login: access and refresh tokens, not API keys.
    pub const LOGIN: Self = Self(0b011);

    /// The reach of these bits, one a kind in the order of [`TokenKind::ALL`]; others are dropped.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// One bit a kind, in the order of [`TokenKind::ALL`].
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether `kind` is reached.
    #[must_use]
    pub const fn contains(self, kind: TokenKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// Whether all of `other` is reached.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is reached.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The kinds reached.
    pub fn kinds(self) -> impl Iterator<Item = TokenKind> {
        TokenKind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

impl FromIterator<TokenKind> for Reach {
    fn from_iter<I: IntoIterator<Item = TokenKind>>(kinds: I) -> Self {
        Self(kinds.into_iter().fold(0, |bits, kind| bits | (1 << kind as u8)))
    }
}

impl From<Vec<TokenKind>> for Reach {
    fn from(kinds: Vec<TokenKind>) -> Self {
        kinds.into_iter().collect()
    }
}

impl From<Reach> for Vec<TokenKind> {
    fn from(reach: Reach) -> Self {
        reach.kinds().collect()
    }
}

/// How far back a revocation reaches; the greater of two covers whatever the lesser does.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Cutoff {
    /// Tokens issued up to and including this second, and those that do not say when. The next login passes.
    Until(Timestamp),
    /// All of them: tokens and sessions never come back, and a ban waits to be lifted.
    Absolute,
}

impl Cutoff {
    /// Whether a token issued then is dead.
    #[must_use]
    pub fn includes(self, issued_at: Option<Timestamp>) -> bool {
        match self {
            Self::Absolute => true,
            Self::Until(last) => issued_at.is_none_or(|issued_at| issued_at <= last),
        }
    }

    /// The first second whose tokens pass; none if it is absolute.
    #[must_use]
    pub fn readmits_from(self) -> Option<Timestamp> {
        match self {
            Self::Absolute => None,
            Self::Until(last) => Some(Timestamp::from_secs(last.as_secs().saturating_add(1))),
        }
    }
}

/// One revocation: what is dead, since when, and who said so.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revocation {
    /// Its name, for lifting and for the audit trail.
    pub id: RevocationId,
    /// Which tokens.
    pub selector: Selector,
    /// Of which kinds.
    pub reach: Reach,
    /// Issued how late.
    pub cutoff: Cutoff,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// The first second in which it says nothing any more; `None` for one that is kept until lifted.
    pub expires_at: Option<Timestamp>,
    /// Who asked for it.
    pub actor: Box<str>,
    /// Why, in the actor's words.
    pub reason: Option<Box<str>>,
    /// The wider revocation that named this session or token, by its selector, when none did so by itself: what is lifted
    /// with that one. For what users revoked of their own in no right but that, the selector of that very token with its
    /// owner's name, which stands for no revocation: theirs to lift, as long as nobody with more rights has said the same.
    pub named_for: Option<Selector>,
}

impl Revocation {
    /// Whether a token with these claims is dead. The index answers the same, only faster.
    #[must_use]
    pub fn covers(&self, claims: &Claims) -> bool {
        self.selector.matches(claims)
            && self.reach.contains(claims.kind)
            && self.cutoff.includes(claims.standing(self.selector.scale()))
    }

    /// Whether it still says something.
    #[must_use]
    pub fn in_force(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }

    /// Whether, as long as both are in force, `other` adds nothing to this one. What goes with a wider revocation says less
    /// than what stands by itself.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        let lasts = self.named_for.is_none() || self.named_for == other.named_for;
        lasts && self.selector == other.selector && self.reach.covers(other.reach) && self.cutoff >= other.cutoff
    }

    /// Whether it is kept at least as long as `other`.
    #[must_use]
    pub fn outlives(&self, other: &Self) -> bool {
        match (self.expires_at, other.expires_at) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => own >= others,
        }
    }
}
