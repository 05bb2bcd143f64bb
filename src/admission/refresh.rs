//! Refresh tokens on their way to a token endpoint: nobody here can verify them, so what they say of themselves, and what
//! was learned of them, is only ever a reason to refuse.

use std::sync::Arc;

use crate::admission::{Gate, Stop, sight};
use crate::domain::{BearerToken, Claims, Denial, Timestamp, TokenKind};

/// A refresh token that nothing known speaks against. Only [`Gate::redeem`] makes one.
#[derive(Clone, Debug)]
pub struct Redeemable(Arc<Claims>);

impl Redeemable {
    /// What it says, and what was learned of it.
    #[must_use]
    pub const fn claims(&self) -> &Arc<Claims> {
        &self.0
    }
}

impl Gate {
    /// Lets a token, used as `kind`, on to the token endpoint of `issuer`, an `iss`, or does not: a refresh token, or one
    /// that is to be exchanged (RFC 8693).
    ///
    /// # Errors
    ///
    /// [`Stop::Denied`] when it is revoked, by whatever it says or is known for; when it has expired, or is older than a
    /// revocation is kept; when it is no token in the strict sense. [`Stop::Blind`] when nobody can tell.
    pub async fn redeem(
        &self,
        issuer: &str,
        token: &BearerToken,
        kind: TokenKind,
        now: Timestamp,
    ) -> Result<Redeemable, Stop> {
        let claims = self.verifier.peek(issuer, token, kind).map_err(Stop::Denied)?;
        let when_stale = self.settings.when_stale;
        let claims = self.complete(&Arc::new(claims), when_stale).await?;
        let sight = sight(self.index.standing(), when_stale);
        if self.index.covers_shared(&claims, now) {
            return Err(Stop::Denied(Denial::Revoked));
        }
        sight?;
        self.in_time(&claims, now)?;
        Ok(Redeemable(claims))
    }

    /// What a token that was handed out at the token endpoint of `issuer` says of itself; only good for learning.
    ///
    /// # Errors
    ///
    /// [`Denial`], when it has three parts and is no JWT.
    pub fn peek(&self, issuer: &str, token: &BearerToken, kind: TokenKind) -> Result<Claims, Denial> {
        self.verifier.peek(issuer, token, kind)
    }

    /// Whether a revocation has come to cover these claims: asked again when the upstream has answered, so that no answer
    /// goes out to a session that ended meanwhile.
    #[must_use]
    pub fn is_revoked(&self, claims: &Claims, now: Timestamp) -> bool {
        self.index.covers(claims, now)
    }

    /// A token that outlives what revocations are kept for would outlive its own revocation.
    fn in_time(&self, claims: &Claims, now: Timestamp) -> Result<(), Stop> {
        let Some(facts) = self.verifier.issuer(&claims.issuer) else { return Err(Stop::Denied(Denial::UnknownIssuer)) };
        if claims.expires_at.is_some_and(|expires_at| now >= expires_at.after(facts.leeway)) {
            return Err(Stop::Denied(Denial::Expired));
        }
        let longest = facts.max_refresh_token_lifetime.map(|longest| longest.saturating_add(facts.leeway));
        match (claims.issued_at, longest) {
            (Some(issued_at), Some(longest)) if now > issued_at.after(longest) => Err(Stop::Denied(Denial::Lifetime)),
            _ => Ok(()),
        }
    }
}
