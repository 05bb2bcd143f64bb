//! What control asks of verification: a port, so that the rules of revoking are tested without keys.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::{BearerToken, Claims, Denial, Revocation, TokenKind};
use crate::verify::{IssuerFacts, Verifier, VerifyError};

/// Tokens and their issuers, as control sees them.
#[async_trait]
pub trait Tokens: Debug + Send + Sync + 'static {
    /// What a token's text says of itself, whether or not it is good: see [`Verifier::read`].
    async fn read(&self, token: &BearerToken) -> Result<Claims, Denial>;

    /// The claims of a token that is good, revocations aside.
    async fn verify(&self, token: &BearerToken, kind: TokenKind) -> Result<Arc<Claims>, VerifyError>;

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
