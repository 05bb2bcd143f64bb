//! Which tokens a revocation is about: a set of claims that must all match.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::{Claims, Scale, SessionKey};

/// The longest value a selector may ask for, in bytes.
const MAX_VALUE_BYTES: usize = 1024;
/// The most names a selector may have.
const MAX_NAMES: usize = 8;

/// One claim a selector may ask for.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Name {
    /// `issuer`: the issuer's `iss`.
    Issuer,
    /// `token_id`: `jti`.
    TokenId,
    /// `token_sha256`: the digest of a token that has no `jti`, in lower-case hexadecimal.
    TokenSha256,
    /// `session`: `sid`.
    Session,
    /// `family`: a token family, by the name portcullis gave it.
    Family,
    /// `user`: `sub`.
    User,
    /// `temporary`: the user whose temporary token it is, one that has a generation. The cut-off counts generations then.
    Temporary,
    /// `username`.
    Username,
    /// `client`: `azp` or `client_id`.
    Client,
    /// `key_id`: `kid` of the header.
    KeyId,
    /// `claim:NAME`: any other claim.
    Claim(Box<str>),
}

impl Name {
    const PLAIN: [(Self, &'static str); 10] = [
        (Self::Issuer, "issuer"),
        (Self::TokenId, "token_id"),
        (Self::TokenSha256, "token_sha256"),
        (Self::Session, "session"),
        (Self::Family, "family"),
        (Self::User, "user"),
        (Self::Temporary, "temporary"),
        (Self::Username, "username"),
        (Self::Client, "client"),
        (Self::KeyId, "key_id"),
    ];

    fn parse(text: &str) -> Option<Self> {
        if let Some(claim) = text.strip_prefix("claim:") {
            return (1..=128).contains(&claim.len()).then(|| Self::Claim(claim.into()));
        }
        Self::PLAIN.into_iter().find(|(_, plain)| *plain == text).map(|(name, _)| name)
    }

    /// Whether no token's claims are kept under this name, so that a selector would never match.
    fn is_never_kept(&self) -> bool {
        matches!(self, Self::Claim(claim) if matches!(&**claim, "iss" | "iat" | "exp" | "nbf" | "kid"))
    }

    /// Whether the value means something only within one issuer.
    const fn needs_issuer(&self) -> bool {
        matches!(self, Self::TokenId | Self::Session | Self::Family | Self::User | Self::Temporary | Self::Client)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Claim(claim) = self {
            return write!(f, "claim:{claim}");
        }
        let plain = Self::PLAIN.iter().find(|(name, _)| name == self).map_or("", |(_, plain)| *plain);
        f.write_str(plain)
    }
}

/// The names of a selector alone, in order: what the index keeps to know which hashes to probe.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Shape(Box<[Name]>);

impl Shape {
    /// The names, sorted.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        &self.0
    }

    /// What the cut-offs of this shape's revocations count.
    #[must_use]
    pub fn scale(&self) -> Scale {
        if self.0.contains(&Name::Temporary) { Scale::Generations } else { Scale::Seconds }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(at, name)| write!(f, "{}{name}", if at == 0 { "" } else { "+" }))
    }
}

/// Claims that must all match. Its JSON is an object of strings; the members' order means nothing.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Selector(BTreeMap<Name, Box<str>>);

impl Selector {
    /// Makes a selector of names and values.
    ///
    /// # Errors
    ///
    /// The first rule that does not hold: see [`InvalidSelector`].
    pub fn new(parts: impl IntoIterator<Item = (Name, String)>) -> Result<Self, InvalidSelector> {
        let parts: BTreeMap<Name, Box<str>> = parts.into_iter().map(|(name, value)| (name, value.into())).collect();
        if parts.is_empty() {
            return Err(InvalidSelector::Empty);
        }
        if parts.len() > MAX_NAMES {
            return Err(InvalidSelector::TooManyNames);
        }
        if let Some(name) = parts.keys().find(|name| name.is_never_kept()) {
            return Err(InvalidSelector::NeverKept(name.to_string()));
        }
        if let Some((name, _)) = parts.iter().find(|(_, value)| !valid_value(value)) {
            return Err(InvalidSelector::Value(name.to_string()));
        }
        if let Some(name) = parts.keys().find(|name| name.needs_issuer() && !parts.contains_key(&Name::Issuer)) {
            return Err(InvalidSelector::NeedsIssuer(name.to_string()));
        }
        if parts.get(&Name::TokenSha256).is_some_and(|hex| !valid_digest(hex)) {
            return Err(InvalidSelector::Digest);
        }
        Ok(Self(parts))
    }

    /// Whether a token with these claims is selected.
    #[must_use]
    pub fn matches(&self, claims: &Claims) -> bool {
        self.0.iter().all(|(name, value)| claims.values(name).contains(value))
    }

    /// Whether it names one token, one session or one token family, which never come back: such a revocation knows no cut-off.
    #[must_use]
    pub fn is_absolute(&self) -> bool {
        [Name::TokenId, Name::TokenSha256, Name::Session, Name::Family].iter().any(|name| self.0.contains_key(name))
    }

    /// What the cut-off of a revocation with this selector counts.
    #[must_use]
    pub fn scale(&self) -> Scale {
        if self.0.contains_key(&Name::Temporary) { Scale::Generations } else { Scale::Seconds }
    }

    /// Whether it names one token.
    #[must_use]
    pub fn is_token(&self) -> bool {
        [Name::TokenId, Name::TokenSha256].iter().any(|name| self.0.contains_key(name))
    }

    /// Whether it sweeps over users: it names an issuer or a key and nothing within.
    #[must_use]
    pub fn is_sweeping(&self) -> bool {
        self.0.keys().all(|name| matches!(name, Name::Issuer | Name::KeyId))
    }

    /// The one session it names, when it asks for nothing else.
    #[must_use]
    pub fn session(&self) -> Option<SessionKey> {
        let key = SessionKey { issuer: self.value(&Name::Issuer)?.into(), id: self.value(&Name::Session)?.into() };
        (self.0.len() == 2).then_some(key)
    }

    /// The value asked for under `name`.
    #[must_use]
    pub fn value(&self, name: &Name) -> Option<&str> {
        self.0.get(name).map(|value| &**value)
    }

    /// Names and values, sorted by name.
    pub fn parts(&self) -> impl Iterator<Item = (&Name, &str)> {
        self.0.iter().map(|(name, value)| (name, &**value))
    }

    /// The names alone.
    #[must_use]
    pub fn shape(&self) -> Shape {
        Shape(self.0.keys().cloned().collect())
    }

    /// One text for one meaning: the JSON object with its members in the order of their names. The key of the store.
    #[must_use]
    pub fn canonical(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn valid_value(value: &str) -> bool {
    (1..=MAX_VALUE_BYTES).contains(&value.len()) && !value.contains('\0')
}

fn valid_digest(hex: &str) -> bool {
    hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl TryFrom<BTreeMap<String, String>> for Selector {
    type Error = InvalidSelector;

    fn try_from(parts: BTreeMap<String, String>) -> Result<Self, InvalidSelector> {
        let named = parts.into_iter().map(|(name, value)| {
            let name = Name::parse(&name).ok_or(InvalidSelector::UnknownName(name))?;
            Ok((name, value))
        });
        Self::new(named.collect::<Result<Vec<_>, _>>()?)
    }
}

impl From<Selector> for BTreeMap<String, String> {
    fn from(selector: Selector) -> Self {
        selector.0.into_iter().map(|(name, value)| (name.to_string(), value.into())).collect()
    }
}

/// Why a set of claims is no selector.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidSelector {
    /// Nothing to match: it would select every token of every issuer.
    #[error("a selector needs at least one claim")]
    Empty,
    /// More names than the index supports.
    #[error("a selector has at most {MAX_NAMES} claims")]
    TooManyNames,
    /// A name that is none of ours.
    #[error(
        "unknown claim {0:?} in the selector; known are issuer, token_id, token_sha256, session, family, user, \
         temporary, username, client, key_id and claim:NAME"
    )]
    UnknownName(String),
    /// A name under which no claim is kept: it would match nothing.
    #[error("the selector's {0} would match nothing: use issuer, key_id or a cutoff")]
    NeverKept(String),
    /// A value that is empty, too long, or holds NUL.
    #[error("the selector's {0} must have 1 to {MAX_VALUE_BYTES} bytes and no NUL")]
    Value(String),
    /// A value that means nothing without its issuer.
    #[error("the selector's {0} needs an issuer beside it")]
    NeedsIssuer(String),
    /// A digest that is not 64 lower-case hexadecimal digits.
    #[error("the selector's token_sha256 must be 64 lower-case hexadecimal digits")]
    Digest,
}
