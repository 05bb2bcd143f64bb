//! One token taken back by its text, for callers who are told what became of it: whether it was live, dead already, or
//! none that anybody knows. An access token and the refresh token that came with it are two things here.
//!
//! Known is a token that was seen when it was handed out, or that its issuer vouches for. What is not known is counted as
//! nothing, and refused from then on all the same: it may be older than the gate in front of its issuer.

use crate::control::end::about;
use crate::control::order::require;
use crate::control::{Caller, Control, ControlError, Revoke};
use crate::domain::{BearerToken, Claims, Disposition, Reach, Right, TokenKind};
use crate::sessions::completed;
use crate::store::StoreError;
use crate::verify::{IssuerFacts, VerifyError};

/// What became of the tokens that a request was about.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Live until now.
    pub invalidated: u64,
    /// Dead before, whoever revoked them.
    pub previously: u64,
    /// Those that could not be taken back.
    pub failed: u64,
    /// Why, in a sentence each; not more than are worth reading.
    pub errors: Vec<String>,
}

impl Counts {
    /// Whether the request was about nothing that is known.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.invalidated == 0 && self.previously == 0 && self.failed == 0
    }

    /// Counts a token by whether it was dead before.
    pub(super) const fn count(&mut self, was_dead: bool) {
        if was_dead { self.previously += 1 } else { self.invalidated += 1 }
    }
}

impl Control {
    /// Takes back the token of that text if it is of that kind and of that issuer, by its configured name or its `iss`. A
    /// token of another kind is one that nobody knows.
    ///
    /// # Errors
    ///
    /// As [`Self::revoke`]; [`ControlError::Store`] also when it is known to nobody but its issuer, who cannot be asked.
    pub async fn invalidate_token(
        &self,
        caller: &Caller,
        issuer: &str,
        token: &BearerToken,
        kind: TokenKind,
    ) -> Result<Counts, ControlError> {
        if let Err(refusal) = require(caller, Right::SessionsRevoke) {
            return Err(self.refused(caller, "revoke", "token", refusal).await);
        }
        let facts = self.tokens.issuer(issuer).ok_or_else(|| self.unknown(issuer))?;
        let Ok(own) = self.tokens.peek(&facts.issuer, token, kind) else { return Ok(Counts::default()) };
        let known = self.read(self.sessions.known(own.digest)).await?;
        let known = known.filter(|known| known.logins.iter().any(|login| login.session.issuer == facts.issuer));
        let claims = match known {
            Some(known) if known.kind != kind => return Ok(Counts::default()),
            Some(known) => Some(completed(&own, &known)),
            None => self.vouched(&facts, token, kind).await?,
        };
        let mut counts = Counts::default();
        match claims {
            Some(claims) => counts.count(self.invalidate(caller, &claims).await?),
            None if is_opaque(token) => self.invalidate_unknown(caller, &own).await?,
            // Whoever wrote it: not its issuer.
            None => {}
        }
        Ok(counts)
    }

    async fn vouched(
        &self,
        facts: &IssuerFacts,
        token: &BearerToken,
        kind: TokenKind,
    ) -> Result<Option<Claims>, ControlError> {
        match self.tokens.vouched(&facts.name, token, kind).await {
            Ok(claims) => Ok(claims.map(|claims| Claims::clone(&claims))),
            Err(error @ VerifyError::Unavailable { .. }) => Err(StoreError::Unavailable(error.into()))?,
            Err(VerifyError::Denied(_)) => Ok(None),
        }
    }

    /// Takes back a known token by its own name, also when something wider covers it: that may be lifted. Whether it was
    /// dead before.
    async fn invalidate(&self, caller: &Caller, claims: &Claims) -> Result<bool, ControlError> {
        let was_dead = self.index.covers(claims, self.clock.now());
        let receipt = self.revoke(caller, naming(claims)).await?;
        Ok(was_dead || matches!(receipt.disposition, Disposition::Already(_)))
    }

    /// Refuses a text from now on that may be a token all the same: as what it was called, and as nothing else.
    async fn invalidate_unknown(&self, caller: &Caller, own: &Claims) -> Result<(), ControlError> {
        let command = Revoke { reach: Some(Reach::from_iter([own.kind])), ..naming(own) };
        self.revoke(caller, command).await.map(|_| ())
    }
}

/// The command to take back the very token with these claims.
fn naming(claims: &Claims) -> Revoke {
    match &claims.token_id {
        Some(id) => about(&[("issuer", &claims.issuer), ("token_id", id)], None),
        None => about(&[("issuer", &claims.issuer), ("token_sha256", &claims.digest.to_string())], None),
    }
}

fn is_opaque(token: &BearerToken) -> bool {
    !token.expose().contains('.')
}
