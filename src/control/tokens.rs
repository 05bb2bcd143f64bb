//! What control asks of verification: a port, so that the rules of revoking are tested without keys.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::{BearerToken, Claims, Denial, Revocation, TokenKind};
use crate::verify::{Assurance, IssuerFacts, Verifier, VerifyError};

/// Tokens and their issuers, as control sees them.
#[async_trait]
pub trait Tokens: Debug + Send + Sync + 'static {
    /// What a token's text says of itself, whether or not it is good: see [`Verifier::read`].
    async fn read(&self, token: &BearerToken) -> Result<Claims, Denial>;

    /// The claims of a token that is good, revocations aside.
    async fn verify(&self, token: &BearerToken, kind: TokenKind) -> Result<Arc<Claims>, VerifyError>;

    /// What a token of `issuer`, an `iss`, says of itself when it is used as `kind`: see [`Verifier::peek`].
    fn peek(&self, issuer: &str, token: &BearerToken, kind: TokenKind) -> Result<Claims, Denial>;

    /// The claims of a token that is good, revocations aside, when the issuer of that configured name vouches for them.
    async fn vouched(
        &self,
        issuer: &str,
        token: &BearerToken,
        kind: TokenKind,
    ) -> Result<Option<Arc<Claims>>, VerifyError>;

    /// The issuer of that configured name or that `iss`.
    fn issuer(&self, name_or_iss: &str) -> Option<IssuerFacts>;

    /// All issuers.
    fn issuers(&self) -> Vec<IssuerFacts>;

    /// How many tokens verified of late this revocation would kill.
    fn would_kill(&self, revocation: &Revocation) -> usize;
}

#[async_trait]
impl Tokens for Verifier {
    async fn read(&self, token: &BearerToken) -> Result<Claims, Denial> {
        Self::read(self, token).await
    }

    async fn verify(&self, token: &BearerToken, kind: TokenKind) -> Result<Arc<Claims>, VerifyError> {
        Self::verify(self, token, kind, &None).await.map(|verified| verified.claims().clone())
    }

    fn peek(&self, issuer: &str, token: &BearerToken, kind: TokenKind) -> Result<Claims, Denial> {
        Self::peek(self, issuer, token, kind)
    }

    async fn vouched(
        &self,
        issuer: &str,
        token: &BearerToken,
        kind: TokenKind,
    ) -> Result<Option<Arc<Claims>>, VerifyError> {
        match Self::verify(self, token, kind, &Some([Arc::from(issuer)].into())).await {
            Ok(verified) => {
                let vouched = verified.assurance() == Assurance::Vouched;
                Ok(vouched.then(|| verified.claims().clone()))
            }
            Err(VerifyError::Denied(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn issuer(&self, name_or_iss: &str) -> Option<IssuerFacts> {
        Self::issuer(self, name_or_iss)
    }

    fn issuers(&self) -> Vec<IssuerFacts> {
        Self::issuers(self)
    }

    fn would_kill(&self, revocation: &Revocation) -> usize {
        Self::would_kill(self, revocation)
    }
}
