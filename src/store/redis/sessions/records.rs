//! What is kept of sessions, tokens and redemptions, as JSON: short names, and nothing written for what is not known. A
//! member that this version does not know is passed over, so that a later version may add some.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::{
    Position, RevocationId, SeenToken, Session, SessionEnd, SessionKey, SessionType, Timestamp, TokenDigest, TokenKind,
};
use crate::store::redemption::Redemption;
use crate::store::{BoxError, StoreError, UNSEEN_RETENTION};

/// What cannot be read back; the inventory has no positions.
pub(super) fn corrupt(error: impl Into<BoxError>) -> StoreError {
    StoreError::Corrupt(Position::START, error.into())
}

/// A record as it is written.
pub(super) fn write(record: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(record).map_err(corrupt)
}

/// A record as it was written.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(corrupt)
}

/// A session.
#[derive(Deserialize, Serialize)]
pub(super) struct SessionRow {
    #[serde(rename = "iss")]
    issuer: Arc<str>,
    id: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Box<str>>,
    #[serde(rename = "name", skip_serializing_if = "Option::is_none")]
    username: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<Box<str>>,
    #[serde(rename = "dom", skip_serializing_if = "Option::is_none")]
    domain: Option<Box<str>>,
    #[serde(rename = "app", skip_serializing_if = "Option::is_none")]
    client: Option<Box<str>>,
    #[serde(rename = "ip", skip_serializing_if = "Option::is_none")]
    address: Option<Box<str>>,
    #[serde(rename = "ua", skip_serializing_if = "Option::is_none")]
    user_agent: Option<Box<str>>,
    #[serde(rename = "type", default, skip_serializing_if = "is_login")]
    kind: SessionType,
    #[serde(rename = "made")]
    created_at: Timestamp,
    #[serde(rename = "seen")]
    updated_at: Timestamp,
    #[serde(rename = "exp", skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(rename = "texp", skip_serializing_if = "Option::is_none")]
    token_expires_at: Option<Timestamp>,
    #[serde(rename = "end", skip_serializing_if = "Option::is_none")]
    ended: Option<EndRow>,
}

#[derive(Deserialize, Serialize)]
struct EndRow {
    at: Timestamp,
    by: Box<str>,
    #[serde(rename = "why", skip_serializing_if = "Option::is_none")]
    reason: Option<Box<str>>,
    #[serde(rename = "id")]
    revocation: RevocationId,
}

fn is_login(kind: &SessionType) -> bool {
    *kind == SessionType::Login
}

impl From<&Session> for SessionRow {
    fn from(session: &Session) -> Self {
        let Session { key, user, username, parent, domain, client, address, user_agent, ended, .. } = session.clone();
        let end =
            |end: SessionEnd| EndRow { at: end.at, by: end.actor, reason: end.reason, revocation: end.revocation };
        Self {
            issuer: key.issuer,
            id: key.id,
            user,
            username,
            parent,
            domain,
            client,
            address,
            user_agent,
            kind: session.kind,
            created_at: session.created_at,
            updated_at: session.updated_at,
            expires_at: session.expires_at,
            token_expires_at: session.token_expires_at,
            ended: ended.map(end),
        }
    }
}

impl From<SessionRow> for Session {
    fn from(row: SessionRow) -> Self {
        let end =
            |end: EndRow| SessionEnd { at: end.at, actor: end.by, reason: end.reason, revocation: end.revocation };
        Self {
            key: SessionKey { issuer: row.issuer, id: row.id },
            user: row.user,
            username: row.username,
            parent: row.parent,
            domain: row.domain,
            client: row.client,
            address: row.address,
            user_agent: row.user_agent,
            kind: row.kind,
            created_at: row.created_at,
            updated_at: row.updated_at,
            expires_at: row.expires_at,
            token_expires_at: row.token_expires_at,
            ended: row.ended.map(end),
        }
    }
}

/// A session as it is kept.
pub(super) fn session(bytes: &[u8]) -> Result<Session, StoreError> {
    read::<SessionRow>(bytes).map(Session::from)
}

/// A token as one session tells of it. Those of one token are kept together, the first learned first.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct TokenRow {
    /// The session's number.
    #[serde(rename = "of")]
    pub(super) session: u64,
    #[serde(rename = "fam", skip_serializing_if = "Option::is_none")]
    pub(super) family: Option<Box<str>>,
    pub(super) kind: TokenKind,
    #[serde(rename = "jti", skip_serializing_if = "Option::is_none")]
    pub(super) token_id: Option<Box<str>>,
    #[serde(rename = "iat", skip_serializing_if = "Option::is_none")]
    pub(super) issued_at: Option<Timestamp>,
    #[serde(rename = "exp", skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<Timestamp>,
    #[serde(rename = "seen")]
    pub(super) seen_at: Timestamp,
    #[serde(rename = "gen", skip_serializing_if = "Option::is_none")]
    pub(super) generation: Option<u64>,
}

impl TokenRow {
    /// The account of `token` that session `session` gives.
    pub(super) fn new(session: u64, token: SeenToken, family: Option<Box<str>>, seen_at: Timestamp) -> Self {
        let SeenToken { token_id, kind, issued_at, expires_at, generation, .. } = token;
        Self { session, family, kind, token_id, issued_at, expires_at, seen_at, generation }
    }

    /// Takes over what a later account of the same token in the same session tells.
    pub(super) fn learn(&mut self, later: Self) {
        self.family = self.family.take().or(later.family);
        self.token_id = self.token_id.take().or(later.token_id);
        self.issued_at = self.issued_at.or(later.issued_at);
        self.expires_at = self.expires_at.max(later.expires_at);
        // When it was last seen matters only while nobody knows when it expires: else a write a request would be for nothing.
        if self.expires_at.is_none() {
            self.seen_at = self.seen_at.max(later.seen_at);
        }
    }

    /// When it may be forgotten.
    pub(super) fn over(&self) -> Timestamp {
        self.expires_at.unwrap_or_else(|| self.seen_at.after(UNSEEN_RETENTION))
    }

    /// The token again.
    pub(super) fn token(&self, digest: TokenDigest) -> SeenToken {
        let Self { token_id, kind, issued_at, expires_at, generation, .. } = self.clone();
        SeenToken { digest, token_id, kind, issued_at, expires_at, generation }
    }
}

/// How a refresh token was redeemed.
#[derive(Deserialize, Serialize)]
struct RedemptionRow {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<Digest>,
    #[serde(rename = "who", default, skip_serializing_if = "Option::is_none")]
    client: Option<Digest>,
    #[serde(rename = "at")]
    claimed_at: Timestamp,
    #[serde(rename = "done")]
    answered: bool,
    #[serde(rename = "until", skip_serializing_if = "Option::is_none")]
    grace_until: Option<Timestamp>,
    #[serde(rename = "again")]
    replays: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<Base64>,
    #[serde(rename = "exp", skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
}

/// A redemption as it is written.
pub(super) fn write_redemption(redemption: &Redemption) -> Result<Vec<u8>, StoreError> {
    write(&RedemptionRow {
        text: redemption.text.map(Digest),
        client: redemption.client.map(Digest),
        claimed_at: redemption.claimed_at,
        answered: redemption.answered,
        grace_until: redemption.grace_until,
        replays: redemption.replays,
        sealed: redemption.sealed.clone().map(Base64),
        expires_at: redemption.expires_at,
    })
}

/// A redemption as it was written.
pub(super) fn redemption(bytes: &[u8]) -> Result<Redemption, StoreError> {
    let row: RedemptionRow = read(bytes)?;
    Ok(Redemption {
        text: row.text.map(|digest| digest.0),
        client: row.client.map(|digest| digest.0),
        claimed_at: row.claimed_at,
        answered: row.answered,
        grace_until: row.grace_until,
        replays: row.replays,
        sealed: row.sealed.map(|sealed| sealed.0),
        expires_at: row.expires_at,
    })
}

/// Bytes in a JSON text.
pub(super) struct Base64(pub(super) Box<[u8]>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(&*text).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes.into()))
    }
}

/// A digest in a JSON text.
#[derive(Clone, Copy)]
pub(super) struct Digest(pub(super) TokenDigest);

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(self.0.as_bytes()))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Base64::deserialize(deserializer)?.0;
        let bytes: [u8; 32] = bytes[..].try_into().map_err(serde::de::Error::custom)?;
        Ok(Self(TokenDigest::new(bytes)))
    }
}
