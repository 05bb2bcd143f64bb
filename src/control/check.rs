//! What is true: of a token, of a revocation, of what a command would do. Nothing here changes anything.

use std::sync::Arc;

use crate::control::order::require;
use crate::control::{Caller, Control, ControlError, Finding, Forecast, Revoke};
use crate::domain::{BearerToken, Claims, Denial, Recorded, Revocation, RevocationId, Right};
use crate::store::{Page, RevocationQuery, StoreError};
use crate::verify::VerifyError;

impl Control {
    /// What `revoke` would do.
    ///
    /// # Errors
    ///
    /// As `revoke`, and nothing is left unknown.
    pub async fn forecast(&self, caller: &Caller, command: Revoke) -> Result<Forecast, ControlError> {
        let revocation = self.order(caller, command).await?.revocation;
        let held = self.log.standing(&revocation.selector, revocation.created_at).await?;
        let says_as_much = |held: &Revocation| held.includes(&revocation) && held.outlives(&revocation);
        let already = held.iter().map(|held| &held.revocation).filter(|held| says_as_much(held)).map(|held| held.id);
        Ok(Forecast {
            already: already.collect(),
            sessions: self.would_end(&revocation).await?,
            recent_tokens: self.tokens.would_kill(&revocation),
            open: self.live.concerned(&revocation),
            readmits_from: revocation.cutoff.readmits_from(),
            expires_at: revocation.expires_at,
            reach: revocation.reach,
            selector: revocation.selector,
        })
    }

    /// One revocation.
    ///
    /// # Errors
    ///
    /// [`ControlError::Forbidden`], [`ControlError::NotFound`], [`ControlError::Store`].
    pub async fn find(&self, caller: &Caller, id: RevocationId) -> Result<Recorded, ControlError> {
        self.may_read(caller, "revocations").await?;
        self.log.find(id).await?.ok_or(ControlError::NotFound(id))
    }

    /// Some revocations.
    ///
    /// # Errors
    ///
    /// [`ControlError::Forbidden`] and [`ControlError::Store`].
    pub async fn search(&self, caller: &Caller, query: RevocationQuery) -> Result<Page<Recorded>, ControlError> {
        self.may_read(caller, "revocations").await?;
        Ok(self.log.search(&query).await?)
    }

    /// What is true of a token: what it says, why it may not pass, and which revocations cover it. What a route demands
    /// beyond that is for the caller to add.
    ///
    /// # Errors
    ///
    /// [`ControlError::Forbidden`], [`ControlError::Store`] also when nothing covers the token and its issuer cannot be asked.
    pub async fn check(&self, caller: &Caller, token: &BearerToken) -> Result<Finding, ControlError> {
        self.may_read(caller, "token").await?;
        let read = match self.tokens.read(token).await {
            Ok(claims) => claims,
            Err(denial) => return Ok(Finding { claims: None, denial: Some(denial), revocations: Vec::new() }),
        };
        let verified = self.tokens.verify(token, read.kind).await;
        let claims = verified.as_ref().map_or_else(|_| Arc::new(read), Arc::clone);
        let claims = Claims::clone(&*self.complete(claims).await?);
        let revocations = self.covering(&claims).await?;
        let revoked = !revocations.is_empty() || self.index.covers(&claims, self.clock.now());
        let denial = match verified {
            Ok(_) => revoked.then_some(Denial::Revoked),
            Err(VerifyError::Denied(denial)) => Some(denial),
            Err(VerifyError::Unavailable { .. }) if revoked => Some(Denial::Revoked),
            Err(error @ VerifyError::Unavailable { .. }) => Err(StoreError::Unavailable(error.into()))?,
        };
        Ok(Finding { claims: Some(claims), denial, revocations })
    }

    async fn covering(&self, claims: &Claims) -> Result<Vec<Recorded>, ControlError> {
        let now = self.clock.now();
        let mut covering = Vec::new();
        for selector in self.index.covering(claims, now) {
            let standing = self.log.standing(&selector, now).await?;
            covering.extend(standing.into_iter().filter(|held| held.revocation.covers(claims)));
        }
        Ok(covering)
    }

    pub(super) async fn may_read(&self, caller: &Caller, subject: &str) -> Result<(), ControlError> {
        match require(caller, Right::SessionsRead) {
            Ok(()) => Ok(()),
            Err(refusal) => Err(self.refused(caller, "read", subject, refusal).await),
        }
    }
}
