//! Temporary tokens of a user, which are taken back all at once: each has a generation, and a revocation moves on the first
//! that passes. One number per user says it all, and it only grows, so that it is kept for ever. Named tokens are revoked one
//! by one, and may be readmitted; or deleted, which is final for everybody but who lifts by our own API.
//!
//! What users do to their own named tokens is marked as done in their own right. That says less than what stands by itself:
//! an operator's revocation takes its place, and beside an operator's it adds nothing, so that who revoked it without being
//! the owner is never overruled by the owner, in whatever order they came.

use std::collections::BTreeMap;

use crate::control::end::about;
use crate::control::order::require;
use crate::control::revoke::short_answer;
use crate::control::{Caller, Control, ControlError, Receipt, Revoke, Target};
use crate::domain::{Cutoff, InvalidSelector, Name, Recorded, Right, Selector, Timestamp};
use crate::store::{SessionQuery, SortKey};

/// The generation of the first temporary tokens of any user.
const FIRST: u64 = 1;
/// In how many of a user's sessions, those used last, tokens are looked for.
const LATEST_SESSIONS: u32 = 32;
/// The claim that tells a deletion from a revocation: every named token has it.
const PERSISTENCE: (&str, &str) = ("persistence", "named");

impl Control {
    /// Revokes the temporary tokens of a user of every generation before `generation`, which is the first that passes. What
    /// is revoked already stays so.
    ///
    /// # Errors
    ///
    /// As [`Self::revoke`].
    pub async fn revoke_temporary(
        &self,
        caller: &Caller,
        (issuer, user): (&str, &str),
        generation: u64,
        reason: Option<String>,
    ) -> Result<Receipt, ControlError> {
        let parts = [("issuer", issuer), ("temporary", user)].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let command = Revoke {
            target: Target::Selector(BTreeMap::from(parts)),
            reach: None,
            cutoff: Some(Timestamp::from_secs(generation.saturating_sub(1))),
            block: false,
            reason,
            expires_at: None,
        };
        self.revoke(caller, command).await
    }

    /// The first generation of a user's temporary tokens that is not revoked here, by the issuer's `iss`: what stands,
    /// whoever asked for it. A ban of all of them has no such, and leaves it where it was.
    ///
    /// # Errors
    ///
    /// [`ControlError::Forbidden`], [`ControlError::Selector`] for a user that none could name, [`ControlError::Store`].
    pub async fn generation(&self, caller: &Caller, issuer: &str, user: &str) -> Result<u64, ControlError> {
        require(caller, Right::SessionsRead)?;
        let selector = Selector::new([(Name::Issuer, issuer.to_owned()), (Name::Temporary, user.to_owned())])?;
        let standing = self.read(self.log.standing(&selector, self.clock.now())).await?;
        let first = |cutoff: Cutoff| cutoff.readmits_from().map(Timestamp::as_secs);
        Ok(standing.iter().filter_map(|held| first(held.revocation.cutoff)).max().unwrap_or(FIRST).max(FIRST))
    }

    /// The highest generation among the tokens that were seen in a user's sessions, by the issuer's `iss`; of those the ones
    /// used last are looked through. Tokens that belong to no session leave no trace there.
    ///
    /// # Errors
    ///
    /// [`ControlError::Forbidden`] and [`ControlError::Store`].
    pub async fn seen_generation(
        &self,
        caller: &Caller,
        issuer: &str,
        user: &str,
    ) -> Result<Option<u64>, ControlError> {
        require(caller, Right::SessionsRead)?;
        let query = SessionQuery {
            issuer: Some(issuer.to_owned()),
            user: Some(user.to_owned()),
            sort: SortKey::Updated,
            descending: true,
            now: self.clock.now(),
            limit: LATEST_SESSIONS,
            ..SessionQuery::default()
        };
        let mut highest = None;
        for session in self.read(self.sessions.sessions(&query)).await?.items {
            let known = self.read(self.sessions.session(&session.key)).await?;
            let generations = known.iter().flat_map(|known| &known.tokens).filter_map(|token| token.generation);
            highest = highest.max(generations.max());
        }
        Ok(highest)
    }

    /// Revokes the named token of that id, by the issuer's `iss`. `owner` is given where its owner asks, in no right but that.
    ///
    /// # Errors
    ///
    /// As [`Self::revoke`].
    pub async fn revoke_named(
        &self,
        caller: &Caller,
        (issuer, id): (&str, &str),
        owner: Option<&str>,
    ) -> Result<Receipt, ControlError> {
        let mut order = self.ordered(caller, about(&[("issuer", issuer), ("token_id", id)], None)).await?;
        order.revocation.named_for = owner.map(|owner| Self::right_of(issuer, id, owner)).transpose()?;
        self.carry_out(caller, vec![order]).await?.next().unwrap_or_else(|| Err(short_answer()))
    }

    /// Revokes the named token of that id for good, by the issuer's `iss`.
    ///
    /// # Errors
    ///
    /// As [`Self::revoke`].
    pub async fn delete_named(&self, caller: &Caller, (issuer, id): (&str, &str)) -> Result<Receipt, ControlError> {
        let claim = format!("claim:{}", PERSISTENCE.0);
        let parts = [("issuer", issuer), ("token_id", id), (&*claim, PERSISTENCE.1)];
        self.revoke(caller, about(&parts, None)).await
    }

    /// Whether the named token of that id was deleted, by the issuer's `iss`.
    ///
    /// # Errors
    ///
    /// As [`Self::generation`].
    pub async fn is_deleted(&self, caller: &Caller, (issuer, id): (&str, &str)) -> Result<bool, ControlError> {
        require(caller, Right::SessionsRead)?;
        let (claim, value) = PERSISTENCE;
        let selector = Selector::new([
            (Name::Issuer, issuer.to_owned()),
            (Name::TokenId, id.to_owned()),
            (Name::Claim(claim.into()), value.to_owned()),
        ])?;
        Ok(!self.read(self.log.standing(&selector, self.clock.now())).await?.is_empty())
    }

    /// What the revocation of a named token is named for when its owner asked for it.
    ///
    /// # Errors
    ///
    /// For a token or an owner that none could name.
    pub fn right_of(issuer: &str, id: &str, owner: &str) -> Result<Selector, InvalidSelector> {
        let parts = [(Name::Issuer, issuer), (Name::TokenId, id), (Name::User, owner)];
        Selector::new(parts.map(|(name, value)| (name, value.to_owned())))
    }

    /// What stands over the token of that id, by the issuer's `iss`; its deletion aside.
    ///
    /// # Errors
    ///
    /// As [`Self::generation`].
    pub async fn standing_over(&self, caller: &Caller, issuer: &str, id: &str) -> Result<Vec<Recorded>, ControlError> {
        require(caller, Right::SessionsRead)?;
        let selector = Selector::new([(Name::Issuer, issuer.to_owned()), (Name::TokenId, id.to_owned())])?;
        self.read(self.log.standing(&selector, self.clock.now())).await
    }
}
