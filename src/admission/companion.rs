//! Tokens that are shown beside the caller's own, or instead of it: in headers that speak for a third party, or in the body
//! of a call that is about a token. They open nothing here, so nobody verifies them; what was revoked is refused.

use std::sync::Arc;

use hyper::HeaderMap;

use crate::admission::{Auth, Gate, Policy, Stop, WhenStale, sight};
use crate::domain::{BearerToken, Denial, Timestamp};

impl Gate {
    /// Refuses a request that speaks for a third party with a token that was revoked, or that is none.
    ///
    /// # Errors
    ///
    /// As [`Self::refuse_revoked`].
    pub async fn refuse_revoked_companions(
        &self,
        headers: &HeaderMap,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<(), Stop> {
        let fields = policy.companions.iter().flat_map(|name| headers.get_all(name));
        for field in fields.filter(|_| policy.auth != Auth::None) {
            let token = field.to_str().ok().and_then(BearerToken::parse).ok_or(Stop::Denied(Denial::Malformed))?;
            // In a box: few routes look at any, and the others need not carry the room for it.
            Box::pin(self.refuse_when_revoked(&token, self.when_stale(policy), now)).await?;
        }
        Ok(())
    }

    /// Refuses a token of whatever kind that was revoked. Of one that no issuer answers for, nothing is known; what else may
    /// be wrong with it is not looked at.
    ///
    /// # Errors
    ///
    /// [`Stop::Denied`] when it was revoked, or is no token; [`Stop::Blind`] when nobody can tell.
    pub async fn refuse_revoked(&self, token: &BearerToken, now: Timestamp) -> Result<(), Stop> {
        self.refuse_when_revoked(token, self.settings.when_stale, now).await
    }

    async fn refuse_when_revoked(
        &self,
        token: &BearerToken,
        when_stale: WhenStale,
        now: Timestamp,
    ) -> Result<(), Stop> {
        let readings = match self.verifier.readings(token).await {
            Ok(readings) => readings,
            Err(Denial::UnknownIssuer) => return Ok(()),
            Err(denial) => return Err(Stop::Denied(denial)),
        };
        let mut sighted = Ok(());
        for claims in readings {
            let claims = self.complete(&Arc::new(claims), when_stale).await?;
            sighted = sighted.and(sight(self.index.standing(), when_stale));
            if self.index.covers_shared(&claims, now) {
                return Err(Stop::Denied(Denial::Revoked));
            }
        }
        sighted
    }
}
