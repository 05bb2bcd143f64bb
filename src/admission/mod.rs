//! Who may pass: where tokens hide in a request, what a route demands, and the decision, made anew for every request.
//!
//! The three steps of a [`Gate`] are apart so that a request can join those that a revocation cuts *between* verification,
//! which may take a while, and the decision, which may not be older than the join.

use std::sync::Arc;

use hyper::HeaderMap;

use crate::domain::{Claims, Denial, SessionKey, Timestamp};
use crate::index::{Index, Standing};
use crate::sessions::{Bindings, PasswordError, Passwords};
use crate::verify::{Assurance, IssuerFacts, Verified, Verifier, VerifyError};

mod basic;
mod companion;
mod credential;
mod policy;
mod refresh;
#[cfg(test)]
mod tests;

pub use basic::UserPassword;
pub use credential::{Credential, Place, UnknownPlace};
pub use policy::{Auth, Policy};
pub use refresh::Redeemable;

/// What to do while the index is out of step.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WhenStale {
    /// Nobody with a token passes: 503.
    #[default]
    Reject,
    /// Serve on the last good state; what is known to be revoked is refused all the same.
    Allow,
}

/// What the operator decides about admission.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// What to do while the index is out of step, where a route does not say otherwise.
    pub when_stale: WhenStale,
}

/// Leave to pass, for one request. Only [`Gate::admit`] makes one.
#[derive(Clone, Debug)]
pub struct Admitted {
    claims: Option<Arc<Claims>>,
    identified: bool,
    is_known: bool,
    deadline: Option<Timestamp>,
}

impl Admitted {
    /// Leave to pass for tests of what comes after.
    #[cfg(test)]
    pub(crate) fn for_test(claims: Option<Claims>, identified: bool) -> Self {
        Self { claims: claims.map(Arc::new), identified, is_known: false, deadline: None }
    }

    /// The claims, when there was a token.
    #[must_use]
    pub const fn claims(&self) -> Option<&Arc<Claims>> {
        self.claims.as_ref()
    }

    /// The claims when they may be believed: what identity headers are made of.
    #[must_use]
    pub fn identity(&self) -> Option<&Claims> {
        self.claims.as_deref().filter(|_| self.identified)
    }

    /// The claims when they may be written down: somebody vouches for them, or the token was seen when it was handed out.
    /// What anybody may write into a token teaches nothing.
    #[must_use]
    pub fn teaches(&self) -> Option<&Claims> {
        self.claims.as_deref().filter(|_| self.identified || self.is_known)
    }

    /// The first second in which the token is dead by itself: a stream that it opened ends then.
    #[must_use]
    pub const fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// Leave to pass for nobody in particular.
    const fn anonymous() -> Self {
        Self { claims: None, identified: false, is_known: false, deadline: None }
    }
}

/// Why a request may not pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Stop {
    /// It has no good token: 401, or 403 for the scope.
    #[error("denied: {0}")]
    Denied(Denial),
    /// The request speaks with two tongues: several tokens, or one in a query: 400.
    #[error("{0}")]
    Ambiguous(&'static str),
    /// Nobody can tell just now: 503.
    #[error("{0}")]
    Blind(&'static str),
}

impl From<VerifyError> for Stop {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Denied(denial) => Self::Denied(denial),
            VerifyError::Unavailable { .. } => Self::Blind("the issuer cannot be asked"),
        }
    }
}

/// Decides who may pass.
#[derive(Clone, Debug)]
pub struct Gate {
    settings: Settings,
    index: Arc<Index>,
    verifier: Arc<Verifier>,
    learned: Option<Arc<Bindings>>,
    passwords: Option<Arc<Passwords>>,
    /// The issuers whose tokens are learned here, by their `iss`.
    taught: Arc<[Arc<str>]>,
}

impl Gate {
    /// A gate that asks this index and this verifier.
    #[must_use]
    pub fn new(settings: Settings, index: Arc<Index>, verifier: Arc<Verifier>) -> Self {
        Self { settings, index, verifier, learned: None, passwords: None, taught: Arc::default() }
    }

    /// The gate that also knows what was learned of these issuers' tokens, each named by its `iss`.
    #[must_use]
    pub fn learning(self, learned: Arc<Bindings>, taught: Vec<Arc<str>>) -> Self {
        Self { learned: Some(learned), taught: taught.into(), ..self }
    }

    /// The gate that also takes session passwords, where a route does.
    #[must_use]
    pub fn taking(self, passwords: Arc<Passwords>) -> Self {
        Self { passwords: Some(passwords), ..self }
    }

    /// An issuer by its configured name or its `iss`.
    #[must_use]
    pub fn issuer(&self, name_or_iss: &str) -> Option<IssuerFacts> {
        self.verifier.issuer(name_or_iss)
    }

    /// Finds the one token a request carries in the places the policy names.
    ///
    /// # Errors
    ///
    /// [`Stop::Ambiguous`] for more than one, and for one in the query that the policy does not ask for; [`Stop::Denied`]
    /// when it is malformed, or one is demanded and there is none.
    pub fn extract(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        policy: &Policy,
    ) -> Result<Option<Credential>, Stop> {
        credential::extract(headers, query, policy)
    }

    /// Takes from a request the credentials that its first one makes nobody look at, where the policy has an order of places:
    /// what is not checked is not handed on.
    pub fn drop_ignored(&self, headers: &mut HeaderMap, policy: &Policy) {
        if policy.first_only && policy.auth != Auth::None {
            credential::drop_ignored(headers, policy);
        }
    }

    /// Verifies the token, if there is one. One that is read though it is no good is refused by [`Self::admit`], which says
    /// first that it was revoked, if it was.
    ///
    /// # Errors
    ///
    /// [`Stop::Denied`] when it is no good, [`Stop::Blind`] when its issuer, or the store, must be asked and cannot be.
    pub async fn verify(&self, shown: Option<Credential>, policy: &Policy) -> Result<Option<Verified>, Stop> {
        match shown {
            Some(Credential::Token { token, kind }) => {
                let verified = self.verifier.examine(&token, kind, &policy.accepted).await?;
                let claims = self.complete(verified.claims(), self.when_stale(policy)).await?;
                Ok(Some(verified.knowing(claims)))
            }
            Some(Credential::Password(shown)) => Box::pin(self.by_password(&shown, policy)).await.map(Some),
            None => Ok(None),
        }
    }

    /// Whose session a password stands for. Its claims were vouched for, and completed, when it was given.
    async fn by_password(&self, shown: &UserPassword, policy: &Policy) -> Result<Verified, Stop> {
        let unknown = Stop::Denied(Denial::UnknownIssuer);
        let passwords = self.passwords.as_ref().ok_or(unknown)?;
        let claims = match passwords.verify(&shown.username, shown.password.expose()).await {
            Ok(claims) => claims,
            Err(error) if matches!(*error, PasswordError::Refused) => return Err(Stop::Denied(Denial::Inactive)),
            Err(_) => return Err(Stop::Blind("the password cannot be checked")),
        };
        let issuer = self.verifier.issuer(&claims.issuer).ok_or(unknown)?;
        if policy.accepted.as_ref().is_some_and(|accepted| !accepted.contains(&issuer.name)) {
            return Err(unknown);
        }
        Ok(Verified::vouched_before(claims))
    }

    /// The claims with what was learned of their token.
    async fn complete(&self, claims: &Arc<Claims>, when_stale: WhenStale) -> Result<Arc<Claims>, Stop> {
        let Some(learned) = self.learned.as_ref().filter(|_| self.taught.contains(&claims.issuer)) else {
            return Ok(claims.clone());
        };
        match (Box::pin(learned.complete(claims)).await, when_stale) {
            (Ok(claims), _) => Ok(claims),
            (Err(_), WhenStale::Allow) => Ok(claims.clone()),
            (Err(_), WhenStale::Reject) => Err(Stop::Blind("what is known of the token cannot be read")),
        }
    }

    /// What the route, or else the operator, wants done while the index is out of step.
    fn when_stale(&self, policy: &Policy) -> WhenStale {
        policy.when_stale.unwrap_or(self.settings.when_stale)
    }

    /// Lets a verified token pass, or does not; asks the index every time.
    ///
    /// # Errors
    ///
    /// [`Stop::Denied`] when the token is revoked, has expired meanwhile, or lacks a scope, or when one is demanded and
    /// there is none; [`Stop::Blind`] when the index is not known to be in step.
    pub fn admit(&self, verified: Option<Verified>, policy: &Policy, now: Timestamp) -> Result<Admitted, Stop> {
        let Some(verified) = verified.filter(|_| policy.auth != Auth::None) else { return admit_nobody(policy) };
        // In this order: what the index shows after it was in step is all there is, what it showed before may not be.
        let sight = sight(self.index.standing(), self.when_stale(policy));
        let revoked = self.index.covers_shared(verified.claims(), now);
        decide(verified, revoked, sight, policy, now)
    }

    /// Whether the session that these claims name has ended, for telling of it. What ends a session that is known names it;
    /// one that nobody here saw begin counts as older than any cut-off, as its refresh tokens do.
    ///
    /// # Errors
    ///
    /// [`Stop::Blind`] when nothing is known against it and the index is not known to be in step, or the store cannot tell
    /// whether it is known.
    pub async fn has_ended(&self, session: &Claims, now: Timestamp) -> Result<bool, Stop> {
        let young = Claims { issued_at: Some(Timestamp::MAX), ..session.clone() };
        // In this order: what the index shows after it was in step is all there is.
        let sight = sight(self.index.standing(), self.settings.when_stale);
        if self.index.covers(&young, now) {
            return Ok(true);
        }
        sight?;
        let old = Claims { issued_at: None, ..young };
        Ok(self.index.covers(&old, now) && self.never_saw(&old).await?)
    }

    /// Whether the session is unknown at an issuer whose sessions are known from their first token on.
    async fn never_saw(&self, claims: &Claims) -> Result<bool, Stop> {
        let learned = self.learned.as_ref().filter(|_| self.taught.contains(&claims.issuer));
        let (Some(learned), Some(id)) = (learned, claims.session.clone()) else { return Ok(false) };
        match (learned.knows(&SessionKey { issuer: claims.issuer.clone(), id }).await, self.settings.when_stale) {
            (Ok(known), _) => Ok(!known),
            (Err(_), WhenStale::Allow) => Ok(false),
            (Err(_), WhenStale::Reject) => Err(Stop::Blind("what is known of the session cannot be read")),
        }
    }

    /// Whether what was admitted may still go on: asked again when a request had to wait for a connection, so that none is
    /// forwarded after the answer of the revocation that covers it.
    ///
    /// # Errors
    ///
    /// [`Stop::Denied`] when the token was revoked meanwhile.
    pub fn still_admits(&self, admitted: &Admitted, now: Timestamp) -> Result<(), Stop> {
        let revoked = admitted.claims().is_some_and(|claims| self.index.covers_shared(claims, now));
        if revoked { Err(Stop::Denied(Denial::Revoked)) } else { Ok(()) }
    }
}

/// Whether the index may be believed when it knows nothing of a token.
const fn sight(standing: Standing, when_stale: WhenStale) -> Result<(), Stop> {
    match (standing, when_stale) {
        (Standing::InStep, _) | (Standing::Stale, WhenStale::Allow) => Ok(()),
        (Standing::Stale, WhenStale::Reject) => Err(Stop::Blind("revocations are out of step")),
        (Standing::Loading, _) => Err(Stop::Blind("revocations are not loaded yet")),
    }
}

fn admit_nobody(policy: &Policy) -> Result<Admitted, Stop> {
    match policy.auth {
        Auth::Required => Err(Stop::Denied(Denial::Missing)),
        Auth::Optional | Auth::None => Ok(Admitted::anonymous()),
    }
}

/// The decision about a token. What is known to be revoked is refused first, however much else is unknown.
fn decide(
    verified: Verified,
    revoked: bool,
    sight: Result<(), Stop>,
    policy: &Policy,
    now: Timestamp,
) -> Result<Admitted, Stop> {
    if revoked {
        return Err(Stop::Denied(Denial::Revoked));
    }
    sight?;
    if let Some(flaw) = verified.flaw() {
        return Err(Stop::Denied(flaw));
    }
    if verified.deadline().is_some_and(|deadline| now >= deadline) {
        return Err(Stop::Denied(Denial::Expired));
    }
    if !grants(&verified, &policy.scopes) {
        return Err(Stop::Denied(Denial::Scope));
    }
    Ok(Admitted {
        identified: verified.assurance() == Assurance::Vouched,
        is_known: verified.is_known(),
        deadline: verified.deadline(),
        claims: Some(verified.claims().clone()),
    })
}

/// Whether the token has all these scopes. Claims that nobody vouches for grant none.
fn grants(verified: &Verified, demanded: &[Box<str>]) -> bool {
    let vouched = verified.assurance() == Assurance::Vouched;
    demanded.is_empty() || (vouched && demanded.iter().all(|scope| verified.claims().scopes.contains(scope)))
}
