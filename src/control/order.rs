//! From a command to the revocation it means: who may ask for it, what exactly it selects, how far back it reaches, and
//! for how long it has to be kept.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use crate::control::{Caller, Control, ControlError, Revoke, Target};
use crate::domain::{
    BearerToken, Cutoff, InvalidSelector, Name, Reach, Revocation, RevocationId, Right, Scale, Selector, Timestamp,
    TokenKind,
};
use crate::verify::IssuerFacts;

/// Kept beyond what the clocks demand, since an expiry is exclusive and tokens count whole seconds.
const MARGIN: Duration = Duration::from_secs(1);
/// The longest reason, in bytes.
const MAX_REASON_BYTES: usize = 1_024;
/// The longest name of a caller that is written down, in characters.
const MAX_ACTOR_CHARS: usize = 256;

/// A revocation that may be carried out.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// It.
    pub(super) revocation: Revocation,
    /// Until when its caller wants it kept, where that was said.
    pub(super) until: Option<Timestamp>,
}

impl Control {
    /// The revocation that `command` means, if `caller` may ask for it.
    pub(super) async fn order(&self, caller: &Caller, command: Revoke) -> Result<Order, ControlError> {
        require(caller, if command.block { Right::Admin } else { Right::SessionsRevoke })?;
        let (selector, token_expires_at) = self.settle(command.target).await?;
        if selector.is_sweeping() {
            require(caller, Right::Admin)?;
        }
        let now = self.clock.now();
        let issuers = self.issuers_of(&selector);
        let reach = command.reach.unwrap_or(if selector.is_token() { Reach::ALL } else { Reach::LOGIN });
        if reach.is_empty() {
            return Err(ControlError::Invalid("kinds must name at least one of access, refresh, api_key".to_owned()));
        }
        let cutoff = cutoff(&selector, command.cutoff, command.block, &issuers, now)?;
        let expires_at = match command.expires_at {
            Some(asked) => Some(future(asked, now)?),
            None if command.block => None,
            // The counter must not fall back: a generation that is over never begins again.
            None if selector.scale() == Scale::Generations && !selector.is_absolute() => None,
            None => {
                let kept = retention(cutoff, token_expires_at, lives(&issuers, reach), leeway(&issuers), now);
                self.as_long_as_its_session(&selector, kept).await?
            }
        };
        let reason = command.reason.map(reason).transpose()?;
        let (id, actor) = (new_id()?, actor(caller));
        let revocation =
            Revocation { id, selector, reach, cutoff, created_at: now, expires_at, actor, reason, named_for: None };
        Ok(Order { revocation, until: command.expires_at })
    }

    /// Until when a session of this issuer that ends now has to be kept in mind, when it is known to last until `lasts`.
    pub(super) fn session_retention(
        &self,
        issuer: &str,
        lasts: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let issuers: Vec<IssuerFacts> = self.tokens.issuer(issuer).into_iter().collect();
        let kept = retention(Cutoff::Absolute, None, lives(&issuers, Reach::LOGIN), leeway(&issuers), now)?;
        lengthened(kept, lasts, leeway(&issuers))
    }

    /// `kept`, or more when the selector names a session that is known to last longer.
    async fn as_long_as_its_session(
        &self,
        selector: &Selector,
        kept: Option<Timestamp>,
    ) -> Result<Option<Timestamp>, ControlError> {
        let (Some(until), Some(key)) = (kept, selector.session()) else { return Ok(kept) };
        let known = self.read(self.sessions.session(&key)).await?;
        let lasts = known.and_then(|known| known.session.expires_at);
        Ok(lengthened(until, lasts, leeway(&self.issuers_of(selector))))
    }

    async fn settle(&self, target: Target) -> Result<(Selector, Option<Expiry>), ControlError> {
        match target {
            Target::Selector(parts) => Ok((self.selector(parts)?, None)),
            Target::Token(token) => self.identity(&token).await,
        }
    }

    /// Claims with the issuer's own name in them: the configured name becomes its `iss`, and where there is one issuer only
    /// it may be left out. An unknown issuer is refused: a revocation that a slip of the pen points at nobody would look done.
    fn selector(&self, parts: BTreeMap<String, String>) -> Result<Selector, ControlError> {
        if let Some(issuer) = parts.get("issuer") {
            let Some(known) = self.tokens.issuer(issuer) else { return Err(self.unknown(issuer)) };
            return Ok(Selector::try_from(told_by(&known, parts))?);
        }
        match (Selector::try_from(parts.clone()), &*self.tokens.issuers()) {
            (Err(InvalidSelector::NeedsIssuer(_)), [only]) => Ok(Selector::try_from(told_by(only, parts))?),
            (selector, _) => Ok(selector?),
        }
    }

    pub(super) fn unknown(&self, issuer: &str) -> ControlError {
        let known: Vec<String> = self.tokens.issuers().iter().map(|facts| facts.name.to_string()).collect();
        let issuer: String = issuer.chars().take(100).collect();
        ControlError::Invalid(format!("no issuer has the name or the iss {issuer:?}; known: {}", known.join(", ")))
    }

    /// A token's own identity, and when it expires by its own word.
    async fn identity(&self, token: &BearerToken) -> Result<(Selector, Option<Expiry>), ControlError> {
        let claims = self.tokens.read(token).await.map_err(ControlError::Token)?;
        let parts = match &claims.token_id {
            Some(id) => vec![(Name::Issuer, claims.issuer.to_string()), (Name::TokenId, id.to_string())],
            // Alone: which issuer answers for an opaque token may not be known yet, and a digest needs none to be told apart.
            None => vec![(Name::TokenSha256, claims.digest.to_string())],
        };
        let expiry = if claims.token_id.is_some() { Expiry::Claimed } else { Expiry::Bound };
        Ok((Selector::new(parts)?, claims.expires_at.map(expiry)))
    }

    /// The issuers whose tokens a selector may cover; none when it names one that is not configured.
    fn issuers_of(&self, selector: &Selector) -> Vec<IssuerFacts> {
        match selector.value(&Name::Issuer) {
            Some(issuer) => self.tokens.issuer(issuer).into_iter().collect(),
            None => self.tokens.issuers(),
        }
    }
}

/// Claims as tokens of that issuer spell them.
fn told_by(issuer: &IssuerFacts, mut parts: BTreeMap<String, String>) -> BTreeMap<String, String> {
    parts.insert("issuer".to_owned(), issuer.issuer.to_string());
    if let Some(session) = parts.get_mut("session") {
        *session = issuer.session_id(session).into_owned();
    }
    parts
}

/// When a token expires, and what that is worth for what is revoked by it.
#[derive(Clone, Copy, Debug)]
enum Expiry {
    /// By the very bytes the revocation names: no other token has another expiry under that digest.
    Bound(Timestamp),
    /// By a text that nobody verified: a forgery with the same `jti` may claim to expire sooner than the real one does.
    Claimed(Timestamp),
}

/// Refuses a caller without `right`.
pub(super) const fn require(caller: &Caller, right: Right) -> Result<(), ControlError> {
    if caller.rights.allow(right) { Ok(()) } else { Err(ControlError::Forbidden(right)) }
}

/// How a caller is written down.
pub(super) fn actor(caller: &Caller) -> Box<str> {
    caller.name.chars().take(MAX_ACTOR_CHARS).collect::<String>().into()
}

/// A reason of bearable length.
pub(super) fn reason(reason: String) -> Result<Box<str>, ControlError> {
    if reason.len() > MAX_REASON_BYTES {
        return Err(ControlError::Invalid(format!("reason must have at most {MAX_REASON_BYTES} bytes")));
    }
    Ok(reason.into())
}

/// How far back it reaches. The default, now, is by our clock while `iat` is by the issuer's, so it is moved on by how far
/// that one has been seen to run ahead. A cut-off that was given is by the issuer's clock already and stands as it is; it
/// may lie ahead of us no further than a good token's `iat` may.
fn cutoff(
    selector: &Selector,
    asked: Option<Timestamp>,
    block: bool,
    issuers: &[IssuerFacts],
    now: Timestamp,
) -> Result<Cutoff, ControlError> {
    let absolute = block || selector.is_absolute();
    let latest = now.after(leeway(issuers));
    let generations = selector.scale() == Scale::Generations;
    match asked {
        None if absolute => Ok(Cutoff::Absolute),
        Some(_) if block => Err(ControlError::Invalid("a block has no cutoff: leave one of them out".to_owned())),
        Some(_) if absolute => {
            Err(ControlError::Invalid("a token or a session is revoked altogether: leave the cutoff out".to_owned()))
        }
        Some(asked) if generations && asked < Timestamp::MAX => Ok(Cutoff::Until(asked)),
        _ if generations => Err(ControlError::Invalid(
            "temporary tokens die by generation: set cutoff to the last that does".to_owned(),
        )),
        Some(asked) if asked > latest => Err(ControlError::Invalid(
            "the cutoff lies in the future; to keep tokens out from now on, block".to_owned(),
        )),
        Some(asked) => Ok(Cutoff::Until(asked)),
        None => Ok(Cutoff::Until(now.after(issuers.iter().map(|issuer| issuer.lead).max().unwrap_or_default()))),
    }
}

/// How long it is kept: until everything it may cover has expired, leeway and margin included; for ever when nobody knows
/// how long that is, `life` being `None`. Never less than a leeway from now, however old the token or the cut-off.
fn retention(
    cutoff: Cutoff,
    token_expires_at: Option<Expiry>,
    life: Option<Duration>,
    leeway: Duration,
    now: Timestamp,
) -> Option<Timestamp> {
    let last = match (cutoff, token_expires_at) {
        (Cutoff::Until(last), _) => last.after(life?),
        (Cutoff::Absolute, Some(Expiry::Bound(expires_at))) => expires_at,
        (Cutoff::Absolute, Some(Expiry::Claimed(expires_at))) => expires_at.max(now.after(life?)),
        (Cutoff::Absolute, None) => now.after(life?),
    };
    told_apart_from_never(last.max(now).after(leeway + MARGIN))
}

/// `kept`, or until the session's last token has expired.
fn lengthened(kept: Timestamp, lasts: Option<Timestamp>, leeway: Duration) -> Option<Timestamp> {
    told_apart_from_never(kept.max(lasts.map_or(kept, |lasts| lasts.after(leeway + MARGIN))))
}

fn told_apart_from_never(moment: Timestamp) -> Option<Timestamp> {
    Some(moment).filter(|moment| *moment <= Timestamp::MAX)
}

/// The longest life of any token of these issuers within `reach`, if there is one that is known of all.
fn lives(issuers: &[IssuerFacts], reach: Reach) -> Option<Duration> {
    let refresh = reach.contains(TokenKind::Refresh);
    let life = |issuer: &IssuerFacts| if refresh { issuer.longest_life } else { issuer.max_token_lifetime };
    let lives: Option<Vec<Duration>> = issuers.iter().map(life).collect();
    lives?.into_iter().max()
}

fn leeway(issuers: &[IssuerFacts]) -> Duration {
    issuers.iter().map(|issuer| issuer.leeway).max().unwrap_or_default()
}

fn future(asked: Timestamp, now: Timestamp) -> Result<Timestamp, ControlError> {
    if asked > now && asked <= Timestamp::MAX {
        return Ok(asked);
    }
    Err(ControlError::Invalid(format!("expires_at must lie in the future and before {}", Timestamp::MAX)))
}

pub(super) fn new_id() -> Result<RevocationId, ControlError> {
    let mut bits = [0_u8; 16];
    SystemRandom::new()
        .fill(&mut bits)
        .map_err(|_| ControlError::Invalid("the system has no randomness".to_owned()))?;
    Ok(RevocationId::from_random(u128::from_le_bytes(bits)))
}
