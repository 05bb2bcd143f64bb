//! A session: one login of one user at one issuer, as it is known from traffic.
//!
//! What is known of it grows: [`Session::learn`] is the rule by which two accounts of one session become one, whichever
//! came first. Nothing here decides whether a token may pass.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::{RevocationId, Timestamp, TokenDigest, TokenKind};

/// How a session came about.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionType {
    /// Somebody logged in.
    #[default]
    Login,
    /// It was opened from another session.
    Sso,
}

impl SessionType {
    /// Its name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Sso => "sso",
        }
    }
}

impl fmt::Display for SessionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no type of session.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unknown type {0:?}; the types are login, sso")]
pub struct UnknownSessionType(String);

impl FromStr for SessionType {
    type Err = UnknownSessionType;

    fn from_str(name: &str) -> Result<Self, UnknownSessionType> {
        let known = [Self::Login, Self::Sso].into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| UnknownSessionType(name.to_owned()))
    }
}

/// Which session: its id means something only within its issuer.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionKey {
    /// The issuer's `iss`.
    pub issuer: Arc<str>,
    /// `sid`, or the name portcullis gave to a session whose issuer names none.
    pub id: Box<str>,
}

/// One login.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Session {
    /// Which.
    pub key: SessionKey,
    /// `sub`.
    pub user: Option<Box<str>>,
    /// The name people know the user by.
    pub username: Option<Box<str>>,
    /// The session it was opened from, of the same issuer; when that ends, so does this one.
    pub parent: Option<Box<str>>,
    /// The part of the issuer it belongs to, where the issuer has parts.
    pub domain: Option<Box<str>>,
    /// `azp` or `client_id`.
    pub client: Option<Box<str>>,
    /// The address it was used from last.
    pub address: Option<Box<str>>,
    /// The `User-Agent` it was used with last, shortened.
    pub user_agent: Option<Box<str>>,
    /// How it came about.
    pub kind: SessionType,
    /// When it was first seen, or began by its issuer's word.
    pub created_at: Timestamp,
    /// When it was last seen.
    pub updated_at: Timestamp,
    /// The first second in which none of its tokens is good any more; `None` when nobody knows.
    pub expires_at: Option<Timestamp>,
    /// The same for its access tokens.
    pub token_expires_at: Option<Timestamp>,
    /// What ended it before its time.
    pub ended: Option<SessionEnd>,
}

/// What ended a session before its time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionEnd {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub actor: Box<str>,
    /// Why.
    pub reason: Option<Box<str>>,
    /// The revocation that ended it.
    pub revocation: RevocationId,
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionState {
    /// It goes on.
    Active,
    /// It was ended.
    Revoked,
    /// Its time is over.
    Expired,
}

impl Session {
    /// A session of which only this much is known.
    #[must_use]
    pub const fn new(key: SessionKey, now: Timestamp) -> Self {
        Self {
            key,
            user: None,
            username: None,
            parent: None,
            domain: None,
            client: None,
            address: None,
            user_agent: None,
            kind: SessionType::Login,
            created_at: now,
            updated_at: now,
            expires_at: None,
            token_expires_at: None,
            ended: None,
        }
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> SessionState {
        match (&self.ended, self.expires_at) {
            (Some(_), _) => SessionState::Revoked,
            (None, Some(expires_at)) if expires_at <= now => SessionState::Expired,
            (None, _) => SessionState::Active,
        }
    }

    /// Takes over what a later account of the same session knows: who it is about stays as it was first told, where it was
    /// used from is as it was last, and times only widen. An end is not an account's to tell.
    pub fn learn(&mut self, later: Self) {
        let newer = later.updated_at >= self.updated_at;
        for (own, told) in [
            (&mut self.user, later.user),
            (&mut self.username, later.username),
            (&mut self.parent, later.parent),
            (&mut self.domain, later.domain),
            (&mut self.client, later.client),
        ] {
            *own = own.take().or(told);
        }
        for (own, told) in [(&mut self.address, later.address), (&mut self.user_agent, later.user_agent)] {
            *own = if newer { told.or(own.take()) } else { own.take().or(told) };
        }
        if later.kind == SessionType::Sso {
            self.kind = SessionType::Sso;
        }
        self.created_at = self.created_at.min(later.created_at);
        self.updated_at = self.updated_at.max(later.updated_at);
        self.expires_at = self.expires_at.max(later.expires_at);
        self.token_expires_at = self.token_expires_at.max(later.token_expires_at);
    }
}

/// A token as the inventory knows it: its identity, never its text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SeenToken {
    /// Its digest.
    pub digest: TokenDigest,
    /// `jti`.
    pub token_id: Option<Box<str>>,
    /// What it is good for.
    pub kind: TokenKind,
    /// `iat`, or when portcullis saw it issued.
    pub issued_at: Option<Timestamp>,
    /// The first second in which it is dead by itself, leeway included; `None` when nobody knows.
    pub expires_at: Option<Timestamp>,
    /// Of a temporary token, which generation of its user's it is of.
    pub generation: Option<u64>,
}
