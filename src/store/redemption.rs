//! The rule by which a refresh token is redeemed once. Pure, so that every adapter decides alike, inside its own
//! transaction.

use crate::domain::{Timestamp, TokenDigest};
use crate::store::{Claim, Claimed};

/// What is kept of a refresh token that is, or was, redeemed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Redemption {
    /// The digest of its whole text; `None` if it was learned without a claim.
    pub(super) text: Option<TokenDigest>,
    /// Who claimed it, likewise.
    pub(super) client: Option<TokenDigest>,
    pub(super) claimed_at: Timestamp,
    /// Whether its answer is known, so that it is used up.
    pub(super) answered: bool,
    pub(super) grace_until: Option<Timestamp>,
    pub(super) replays: u32,
    pub(super) sealed: Option<Box<[u8]>>,
    pub(super) expires_at: Option<Timestamp>,
}

/// What a claim does to what is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Effect {
    /// The row is written anew, by [`Redemption::claimed`].
    Take,
    /// One more repetition is counted.
    Count,
    /// Nothing.
    Leave,
}

impl Redemption {
    /// A token that was just claimed.
    pub(super) const fn claimed(claim: &Claim) -> Self {
        Self {
            text: Some(claim.text),
            client: Some(claim.client),
            claimed_at: claim.now,
            answered: false,
            grace_until: None,
            replays: 0,
            sealed: None,
            expires_at: claim.expires_at,
        }
    }

    /// A token that was redeemed without a claim: nobody gets its answer again.
    pub(super) const fn unclaimed(now: Timestamp, expires_at: Option<Timestamp>) -> Self {
        Self {
            text: None,
            client: None,
            claimed_at: now,
            answered: true,
            grace_until: None,
            replays: 0,
            sealed: None,
            expires_at,
        }
    }

    /// What becomes of `claim` beside what is kept. Of a token that was answered, another text is told first: its bearer
    /// holds no token. Of one that is not, nobody knows yet which text is the token's; and nobody is kept waiting for a
    /// redemption that was given up.
    pub(super) fn judge(held: Option<&Self>, claim: &Claim) -> (Claimed, Effect) {
        let Some(held) = held else { return (Claimed::Granted, Effect::Take) };
        let same_client = held.client == Some(claim.client);
        let same_text = held.text.is_none_or(|text| text == claim.text);
        if !held.answered {
            let given_up = held.claimed_at <= claim.given_up_at;
            return match (same_text, same_client) {
                _ if given_up => (Claimed::Granted, Effect::Take),
                (true, true) => (Claimed::Granted, Effect::Take),
                (true, false) => (Claimed::Reused, Effect::Leave),
                (false, _) => (Claimed::Contended, Effect::Leave),
            };
        }
        match &held.sealed {
            _ if !same_text => (Claimed::Forged, Effect::Leave),
            Some(sealed) if same_client && held.may_repeat(claim) => (Claimed::Repeated(sealed.clone()), Effect::Count),
            _ => (Claimed::Reused, Effect::Leave),
        }
    }

    fn may_repeat(&self, claim: &Claim) -> bool {
        self.answered && self.grace_until.is_some_and(|until| claim.now < until) && self.replays < claim.max_replays
    }
}
