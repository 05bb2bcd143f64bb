//! What a token says of itself, after it was read under one issuer's rules. Names that issuers spell differently are
//! already the field's own here; every other claim is kept as text, so that a selector may ask for it.

use std::sync::Arc;

use crate::domain::{Memo, Name, Timestamp, TokenDigest, TokenKind};

/// What one token says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claims {
    /// The configured issuer's `iss`, exactly; every other field means something only within it.
    pub issuer: Arc<str>,
    /// What the token is good for.
    pub kind: TokenKind,
    /// The digest of the token's own bytes; its identity when it has no `jti`.
    pub digest: TokenDigest,
    /// `jti`.
    pub token_id: Option<Box<str>>,
    /// `sid`: one login.
    pub session: Option<Box<str>>,
    /// The token family: all tokens of one grant (RFC 9700 §4.14). No token says so itself; a token endpoint's answer did.
    pub family: Option<Box<str>>,
    /// `sub`.
    pub user: Option<Box<str>>,
    /// The name people know the user by.
    pub username: Option<Box<str>>,
    /// `azp` or `client_id`.
    pub client: Option<Box<str>>,
    /// `kid` of the token's header.
    pub key_id: Option<Box<str>>,
    /// `iat`, floored to the second.
    pub issued_at: Option<Timestamp>,
    /// `exp`, floored to the second.
    pub expires_at: Option<Timestamp>,
    /// `scope`, split at blanks, or the members of an array.
    pub scopes: Box<[Box<str>]>,
    /// Every claim whose value is a text, a number, a boolean or an array of those, under the issuer's own names, sorted.
    pub other: Box<[OtherClaim]>,
    /// The same token as it belongs to other logins: an issuer that names neither session nor token id in it may issue the
    /// very same bytes twice in one second. Such a token is dead when it is dead in each of its logins, not before.
    pub twins: Box<[Arc<Claims>]>,
    /// Of a temporary token, the generation of its user's temporary tokens that it is of; such tokens say nothing of when
    /// they were issued.
    pub generation: Option<u64>,
    /// What the index remembers of them; empty in claims that are made.
    pub memo: Memo,
}

/// What a cut-off counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scale {
    /// Seconds in which tokens were issued.
    Seconds,
    /// Generations of a user's temporary tokens, each written where a second would be.
    Generations,
}

/// A claim under its own name, and its values as text.
pub type OtherClaim = (Box<str>, Box<[Box<str>]>);

impl Claims {
    /// Claims of which nothing is known but whose token it is, of what kind, and its digest.
    #[must_use]
    pub fn bare(issuer: Arc<str>, kind: TokenKind, digest: TokenDigest) -> Self {
        Self {
            issuer,
            kind,
            digest,
            token_id: None,
            session: None,
            family: None,
            user: None,
            username: None,
            client: None,
            key_id: None,
            issued_at: None,
            expires_at: None,
            scopes: Box::default(),
            other: Box::default(),
            twins: Box::default(),
            generation: None,
            memo: Memo::default(),
        }
    }

    /// The values a selector's `name` is compared with; an array claim has several.
    #[must_use]
    pub fn values(&self, name: &Name) -> ClaimValues<'_> {
        match name {
            Name::Issuer => ClaimValues::One(&self.issuer),
            Name::TokenId => self.token_id.as_deref().into(),
            Name::TokenSha256 => ClaimValues::Digest(self.digest),
            Name::Session => self.session.as_deref().into(),
            Name::Family => self.family.as_deref().into(),
            Name::User => self.user.as_deref().into(),
            Name::Username => self.username.as_deref().into(),
            Name::Client => self.client.as_deref().into(),
            Name::KeyId => self.key_id.as_deref().into(),
            Name::Temporary => self.user.as_deref().filter(|_| self.generation.is_some()).into(),
            Name::Claim(claim) => self.other_values(claim),
        }
    }

    /// Where the token stands on the scale of a cut-off: the second it was issued in, or its generation where those count.
    #[must_use]
    pub fn standing(&self, scale: Scale) -> Option<Timestamp> {
        match scale {
            Scale::Seconds => self.issued_at,
            Scale::Generations => self.generation.map(Timestamp::from_secs),
        }
    }

    fn other_values(&self, claim: &str) -> ClaimValues<'_> {
        let at = self.other.binary_search_by(|(name, _)| (**name).cmp(claim));
        at.ok().and_then(|at| self.other.get(at)).map_or(ClaimValues::None, |(_, values)| ClaimValues::Many(values))
    }

    /// About how much memory these claims hold, in bytes; what a cache weighs.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        let texts =
            [&self.token_id, &self.session, &self.family, &self.user, &self.username, &self.client, &self.key_id];
        let own: usize = texts.into_iter().flatten().map(|text| text.len()).sum();
        let scopes: usize = self.scopes.iter().map(|scope| scope.len() + 16).sum();
        let value_bytes = |values: &[Box<str>]| values.iter().map(|value| value.len() + 16).sum::<usize>();
        // Scopes and the names of who calls are kept once more, as an upstream is told of them.
        let told = scopes + self.issuer.len() + own;
        let other: usize = self.other.iter().map(|(name, values)| name.len() + 32 + value_bytes(values)).sum();
        size_of::<Self>() + own + scopes + told + other
    }
}

/// The values one name has in a token's claims.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClaimValues<'a> {
    /// The token does not say.
    None,
    /// One text.
    One(&'a str),
    /// The token's digest, which selectors write in hexadecimal.
    Digest(TokenDigest),
    /// The members of an array, or the one text of a plain claim.
    Many(&'a [Box<str>]),
}

impl ClaimValues<'_> {
    /// Whether `wanted` is one of the values.
    #[must_use]
    pub fn contains(&self, wanted: &str) -> bool {
        match self {
            Self::None => false,
            Self::One(value) => *value == wanted,
            Self::Digest(digest) => digest.hex(&mut [0; 64]) == wanted,
            Self::Many(values) => values.iter().any(|value| **value == *wanted),
        }
    }
}

impl<'a> From<Option<&'a str>> for ClaimValues<'a> {
    fn from(value: Option<&'a str>) -> Self {
        value.map_or(Self::None, Self::One)
    }
}
