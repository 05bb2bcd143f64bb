//! The words of the native API that several calls share: a revocation asked for, a revocation shown.
//!
//! Times are whole seconds since the epoch. What may hold a token has no `Debug` and no `Serialize`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::Fault;
use crate::control::{Receipt, Revoke, Target};
use crate::domain::{
    BearerToken, Cutoff, Disposition, Ending, Position, Reach, Recorded, Revocation, Timestamp, TokenKind,
};

/// A revocation as it is asked for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"selector": {"issuer": "main", "user": "alice"}, "reason": "laptop stolen"}))]
pub(in crate::admin) struct RevokeBody {
    /// Claims that must all match: `issuer`, `token_id`, `token_sha256`, `session`, `user`, `temporary`, `username`, `client`,
    /// `key_id`, `claim:NAME`. Or `token` alone: that very token.
    #[schema(value_type = BTreeMap<String, String>, example = json!({"issuer": "main", "session": "08a5…"}))]
    selector: SelectorBody,
    /// Which kinds of token die. Default: `access` and `refresh`; of a token, its own kind.
    kinds: Option<Vec<Kind>>,
    /// The last second whose tokens die. Default: now, moved on by how far the issuer's clock runs ahead. With `temporary` in
    /// the selector, the last generation that dies, and there is no default.
    #[schema(example = 1_790_000_000_u64)]
    cutoff: Option<u64>,
    /// A ban: no cut-off, until it is lifted or expires.
    #[serde(default)]
    block: bool,
    /// Why, for the audit trail.
    reason: Option<String>,
    /// Until when it is kept. Default: as long as anything it covers may live.
    expires_at: Option<u64>,
}

impl RevokeBody {
    /// The command this asks for.
    pub(super) fn into_command(self) -> Result<Revoke, Fault> {
        Ok(Revoke {
            target: self.selector.into_target()?,
            reach: self.kinds.map(|kinds| kinds.into_iter().map(TokenKind::from).collect()),
            cutoff: self.cutoff.map(Timestamp::from_secs),
            block: self.block,
            reason: self.reason,
            expires_at: self.expires_at.map(Timestamp::from_secs),
        })
    }
}

/// A JSON object of strings whose members' names differ; two of one name would leave open which one counts.
struct SelectorBody(BTreeMap<String, String>);

impl SelectorBody {
    fn into_target(mut self) -> Result<Target, Fault> {
        let Some(token) = self.0.remove("token") else { return Ok(Target::Selector(self.0)) };
        if !self.0.is_empty() {
            return Err(Fault::Invalid("the selector's token stands alone".to_owned()));
        }
        token_of(&token).map(Target::Token)
    }
}

/// The token of this text.
pub(super) fn token_of(text: &str) -> Result<BearerToken, Fault> {
    let rule = "a token has 1 to 16384 visible ASCII characters";
    BearerToken::parse(text).ok_or_else(|| Fault::Invalid(rule.to_owned()))
}

impl<'de> Deserialize<'de> for SelectorBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SelectorVisitor).map(Self)
    }
}

struct SelectorVisitor;

impl<'de> Visitor<'de> for SelectorVisitor {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut selector = BTreeMap::new();
        while let Some((name, value)) = members.next_entry::<String, String>()? {
            if selector.contains_key(&name) {
                return Err(A::Error::custom(format_args!("duplicate field `{name}`")));
            }
            selector.insert(name, value);
        }
        Ok(selector)
    }
}

/// A kind of token.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Opens a resource.
    Access,
    /// Fetches new access tokens.
    Refresh,
    /// A long-lived credential that belongs to no login.
    ApiKey,
}

impl From<Kind> for TokenKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Access => Self::Access,
            Kind::Refresh => Self::Refresh,
            Kind::ApiKey => Self::ApiKey,
        }
    }
}

impl From<TokenKind> for Kind {
    fn from(kind: TokenKind) -> Self {
        match kind {
            TokenKind::Access => Self::Access,
            TokenKind::Refresh => Self::Refresh,
            TokenKind::ApiKey => Self::ApiKey,
        }
    }
}

/// The kinds a revocation reaches.
pub(super) fn kinds(reach: Reach) -> Vec<Kind> {
    reach.kinds().map(Kind::from).collect()
}

/// Whether a revocation still refuses tokens, and if not, why.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// It refuses what it covers.
    Standing,
    /// Someone lifted it.
    Lifted,
    /// A later one says all it said.
    Superseded,
    /// Nothing it covers can be alive.
    Expired,
}

/// A revocation as the log holds it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "id": "5f0c41e8a2b94a0c9d6c33e04c1f7b11", "selector": {"issuer": "https://id.example.com/", "user": "alice"},
    "kinds": ["access", "refresh"], "cutoff": 1_790_000_000, "absolute": false, "block": false,
    "created_at": 1_790_000_000, "expires_at": 1_790_086_430, "actor": "ops", "reason": "laptop stolen", "position": 7,
    "state": "standing"
}))]
pub(super) struct RevocationView {
    /// Its name, for lifting and for the audit trail.
    pub id: String,
    /// The claims that must all match.
    pub selector: BTreeMap<String, String>,
    /// Which kinds of token it kills.
    pub kinds: Vec<Kind>,
    /// The last second whose tokens it kills, or the last generation where the selector asks for `temporary`; null when it
    /// knows none.
    pub cutoff: Option<u64>,
    /// Whether it kills whenever a token was issued.
    pub absolute: bool,
    /// Whether it is a ban: absolute, though its selector would let the next login pass.
    pub block: bool,
    /// When it was asked for.
    pub created_at: u64,
    /// When it is forgotten; null when it is kept until lifted.
    pub expires_at: Option<u64>,
    /// Who asked for it.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
    /// Where its last change stands in the log.
    pub position: u64,
    /// Whether it still refuses tokens.
    pub state: State,
    /// The selector of the wider revocation that named this one, and is lifted together with it; or, with the token's id and
    /// its owner's, that the owner asked for it in no right but that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub named_for: Option<BTreeMap<String, String>>,
    /// The revocation that says all it said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<String>,
    /// When it was lifted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifted_at: Option<u64>,
    /// Who lifted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifted_by: Option<String>,
}

impl RevocationView {
    /// How `recorded` looks at `now`.
    pub(super) fn of(recorded: &Recorded, now: Timestamp) -> Self {
        let mut view = Self::standing(&recorded.revocation, recorded.position);
        view.state = match &recorded.ending {
            Some(Ending::Lifted(lift)) => {
                view.lifted_at = Some(lift.at.as_secs());
                view.lifted_by = Some(lift.actor.to_string());
                State::Lifted
            }
            Some(Ending::Superseded(by)) => {
                view.superseded_by = Some(by.to_string());
                State::Superseded
            }
            None if recorded.stands(now) => State::Standing,
            None => State::Expired,
        };
        view
    }

    /// How a revocation that stands looks.
    pub(super) fn standing(revocation: &Revocation, position: Position) -> Self {
        let absolute = revocation.cutoff == Cutoff::Absolute;
        Self {
            id: revocation.id.to_string(),
            selector: revocation.selector.clone().into(),
            kinds: kinds(revocation.reach),
            cutoff: last_second(revocation.cutoff),
            absolute,
            block: absolute && !revocation.selector.is_absolute(),
            created_at: revocation.created_at.as_secs(),
            expires_at: revocation.expires_at.map(Timestamp::as_secs),
            actor: revocation.actor.to_string(),
            reason: revocation.reason.as_deref().map(str::to_owned),
            position: position.get(),
            state: State::Standing,
            named_for: revocation.named_for.clone().map(Into::into),
            superseded_by: None,
            lifted_at: None,
            lifted_by: None,
        }
    }
}

/// The last second whose tokens die, where there is one.
pub(super) const fn last_second(cutoff: Cutoff) -> Option<u64> {
    match cutoff {
        Cutoff::Until(last) => Some(last.as_secs()),
        Cutoff::Absolute => None,
    }
}

/// What the log made of a command, and whether that was news. `None` when it knows no such revocation.
pub(super) const fn outcome(receipt: &Receipt) -> Option<(&Recorded, bool)> {
    match &receipt.disposition {
        Disposition::Created(recorded) | Disposition::Lifted(recorded) => Some((recorded, true)),
        Disposition::Already(recorded) | Disposition::Ended(recorded) => Some((recorded, false)),
        Disposition::Unknown(_) => None,
    }
}

/// The cursor of a page, as text: opaque to callers.
pub(super) fn cursor_of(text: Option<&str>) -> Result<Option<u64>, Fault> {
    let parsed = text.map(str::parse).transpose();
    parsed.map_err(|_| Fault::Invalid("cursor: not one of ours".to_owned()))
}

/// The length of a page: 1 to 1,000, 100 when none is asked for.
pub(super) fn limit_of(limit: Option<u32>) -> Result<u32, Fault> {
    let limit = limit.unwrap_or(100);
    let fits = (1..=1000).contains(&limit).then_some(limit);
    fits.ok_or_else(|| Fault::Invalid("limit: expected 1 to 1000".to_owned()))
}
