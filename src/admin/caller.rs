//! Who asks, and with what rights.
//!
//! Three ways: a secret, a client certificate, a token of an issuer that some rule names. A secret is compared by its SHA-256
//! in constant time with every one we know. A token is verified *and* asked of the index, each time: a revoked one opens
//! nothing here either. A source that shows too many wrong credentials is not listened to for a while, right or wrong.
//!
//! Where users mind their own sessions, a token of any issuer says who they are; it gives them no right by that.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};

use crate::admin::{Admin, Fault, Fingerprint, Settings, TokenRule};
use crate::control::{Caller, ControlError};
use crate::domain::{BearerToken, Claims, Name, Right, Rights, TokenKind};
use crate::net::Peer;
use crate::verify::{Assurance, Verified, VerifyError};

/// A caller, and how it proved who it is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Who asks.
    pub caller: Caller,
    proof: Proof,
}

impl Identity {
    /// What the caller's token says, for a caller who came with one.
    pub(super) fn claims(&self) -> Option<&Claims> {
        match &self.proof {
            Proof::Token(verified) => Some(verified.claims()),
            Proof::Secret(_) | Proof::Certificate(_) => None,
        }
    }
}

#[derive(Clone, Debug)]
enum Proof {
    Secret(Fingerprint),
    Certificate(Fingerprint),
    Token(Verified),
}

impl Admin {
    /// Finds out who asks. `own` is for calls that users make for themselves: it takes tokens of all issuers.
    ///
    /// # Errors
    ///
    /// [`Fault::Ambiguous`], [`Fault::Anonymous`], [`Fault::Unauthenticated`], [`Fault::RateLimited`], and
    /// [`Fault::Unavailable`] when an issuer or the index cannot tell.
    pub(super) async fn identify(
        &self,
        headers: &HeaderMap,
        peer: Option<&Peer>,
        own: bool,
    ) -> Result<Identity, Fault> {
        let address = peer.map(|peer| peer.address.ip());
        let Some(text) = bearer(headers)? else {
            return self.by_certificate(peer).ok_or(Fault::Anonymous);
        };
        let token = text.and_then(BearerToken::parse);
        // Before the limit: whoever has the secret must be able to revoke, whatever others at its address got wrong.
        if let Some(identity) = token.as_ref().and_then(|token| self.by_secret(token, address)) {
            return Ok(identity);
        }
        let per_minute = self.settings.load().failures_per_minute;
        if let Some(wait) = self.failures.blocked(address, per_minute, self.clock.elapsed()) {
            return Err(Fault::RateLimited(wait));
        }
        let identity = match token {
            Some(token) => self.by_token(&token, own, address).await,
            None => Err(Fault::Unauthenticated),
        };
        if matches!(identity, Err(Fault::Unauthenticated)) {
            self.failures.count(address, per_minute, self.clock.elapsed());
        }
        identity
    }

    fn by_secret(&self, token: &BearerToken, address: Option<IpAddr>) -> Option<Identity> {
        let settings = self.settings.load();
        let shown = Fingerprint::of(token.expose().as_bytes());
        // Every one is compared, so that the time tells neither whether one fits nor which.
        let known = settings.credentials.iter().fold(None, |found, known| {
            let same = known.sha256 == shown;
            if same && found.is_none() { Some(known) } else { found }
        });
        let caller = known.map(|known| Caller { name: known.name.clone(), rights: known.rights, address });
        caller.map(|caller| Identity { caller, proof: Proof::Secret(shown) })
    }

    async fn by_token(&self, token: &BearerToken, own: bool, address: Option<IpAddr>) -> Result<Identity, Fault> {
        let settings = self.settings.load_full();
        let accepted = if own { None } else { Some(issuers_of_rules(&settings.tokens, token)?) };
        let verifier = self.verifier.load_full();
        let verified = verifier.verify(token, TokenKind::Access, &accepted).await;
        let verified = verified.map_err(|error| match error {
            VerifyError::Denied(_) => Fault::Unauthenticated,
            VerifyError::Unavailable { .. } => Fault::Unavailable("the token's issuer cannot be asked"),
        })?;
        if verified.assurance() != Assurance::Vouched {
            return Err(Fault::Unauthenticated);
        }
        let claims = self.control.complete(verified.claims().clone()).await?;
        let verified = verified.knowing(claims);
        self.control.admits(verified.claims()).map_err(|error| match error {
            ControlError::Token(_) => Fault::Unauthenticated,
            error => error.into(),
        })?;
        let caller = self.bearer_of(verified.claims(), &settings, address);
        Ok(Identity { caller, proof: Proof::Token(verified) })
    }

    fn bearer_of(&self, claims: &Claims, settings: &Settings, address: Option<IpAddr>) -> Caller {
        let known = self.verifier.load().issuer(&claims.issuer);
        let issuer = known.map_or_else(|| claims.issuer.clone(), |facts| facts.name);
        let who = claims.user.as_deref().or(claims.client.as_deref()).unwrap_or("?");
        let rights = rights_of(&settings.tokens, &issuer, claims);
        Caller { name: format!("{who}@{issuer}").into(), rights, address }
    }

    fn by_certificate(&self, peer: Option<&Peer>) -> Option<Identity> {
        let shown: Fingerprint = peer?.tls.as_ref()?.client_certificate_sha256.as_deref()?.parse().ok()?;
        let settings = self.settings.load();
        let known = settings.certificates.iter().find(|known| known.sha256 == shown)?;
        let address = peer.map(|peer| peer.address.ip());
        let caller = Caller { name: known.name.clone(), rights: known.rights, address };
        Some(Identity { caller, proof: Proof::Certificate(shown) })
    }

    /// Whether a caller who was let in a while ago would be let in now, with `right`. For calls that last.
    pub(super) fn still(&self, identity: &Identity, right: Right) -> bool {
        let settings = self.settings.load();
        match &identity.proof {
            Proof::Secret(shown) => {
                settings.credentials.iter().any(|known| known.sha256 == *shown && known.rights.allow(right))
            }
            Proof::Certificate(shown) => {
                settings.certificates.iter().any(|known| known.sha256 == *shown && known.rights.allow(right))
            }
            Proof::Token(verified) => {
                let now = self.clock.now();
                let in_time = verified.deadline().is_none_or(|deadline| now < deadline);
                let rights = self.bearer_of(verified.claims(), &settings, None).rights;
                in_time && rights.allow(right) && self.control.admits(verified.claims()).is_ok()
            }
        }
    }
}

/// The text of the one bearer credential: `None` when there is none, `Some(None)` when it is of another scheme or no text.
fn bearer(headers: &HeaderMap) -> Result<Option<Option<&str>>, Fault> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Fault::Ambiguous);
    }
    let Some(text) = bearer_text(value) else { return Ok(Some(None)) };
    // A list joined by commas: another party might read another member. Neither a token nor a secret holds a comma.
    if text.contains(',') {
        return Err(Fault::Ambiguous);
    }
    Ok(Some(Some(text)))
}

/// What follows the scheme, which is compared without case (RFC 9110 §11.1).
fn bearer_text(value: &HeaderValue) -> Option<&str> {
    let (scheme, text) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(text.trim_matches(' '))
}

/// The issuers whose tokens may hold a right. What is no JWT may be a secret with a slip in it, and is shown to none of them.
fn issuers_of_rules(rules: &[TokenRule], token: &BearerToken) -> Result<Arc<[Arc<str>]>, Fault> {
    let is_jwt = token.expose().matches('.').count() == 2;
    let mut issuers: Vec<_> = rules.iter().map(|rule| rule.issuer.clone()).filter(|_| is_jwt).collect();
    issuers.sort_unstable();
    issuers.dedup();
    if issuers.is_empty() { Err(Fault::Unauthenticated) } else { Ok(issuers.into()) }
}

/// All that the rules give a token of this issuer.
fn rights_of(rules: &[TokenRule], issuer: &str, claims: &Claims) -> Rights {
    const RIGHTS: [Right; 4] = [Right::Admin, Right::SessionsRead, Right::SessionsRevoke, Right::AuditRead];
    let fitting: Vec<_> = rules.iter().filter(|rule| *rule.issuer == *issuer && fits(rule, claims)).collect();
    RIGHTS.into_iter().filter(|right| fitting.iter().any(|rule| rule.rights.allow(*right))).collect()
}

fn fits(rule: &TokenRule, claims: &Claims) -> bool {
    let name = match &*rule.claim {
        "scope" => return claims.scopes.iter().any(|scope| **scope == *rule.value),
        "user" | "sub" => Name::User,
        "username" => Name::Username,
        "client" | "azp" | "client_id" => Name::Client,
        "session" | "sid" => Name::Session,
        other => Name::Claim(other.into()),
    };
    claims.values(&name).contains(&rule.value)
}

impl<S: Sync> FromRequestParts<S> for Identity {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        // The door put it there; a call that was routed around the door serves nobody.
        parts.extensions.get().cloned().ok_or(Fault::Anonymous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TokenDigest;

    fn claims() -> Claims {
        Claims {
            issuer: "https://id.example.com/".into(),
            kind: TokenKind::Access,
            digest: TokenDigest::new([0; 32]),
            token_id: None,
            session: None,
            user: Some("alice".into()),
            username: None,
            client: None,
            key_id: None,
            issued_at: None,
            expires_at: None,
            scopes: ["openid".into(), "portcullis".into()].into(),
            other: [("groups".into(), ["dev".into(), "ops".into()].into())].into(),
            family: None,
            twins: Box::default(),
        }
    }

    fn rule(claim: &str, value: &str, right: Right) -> TokenRule {
        let rights = [right].into_iter().collect();
        TokenRule { issuer: "main".into(), claim: claim.into(), value: value.into(), rights }
    }

    #[test]
    fn rules_give_rights_by_scope_by_group_and_by_user_together() {
        let rules = [
            rule("scope", "portcullis", Right::SessionsRead),
            rule("groups", "ops", Right::SessionsRevoke),
            rule("sub", "alice", Right::AuditRead),
            rule("groups", "root", Right::Admin),
            rule("scope", "open", Right::Admin),
        ];
        let rights = rights_of(&rules, "main", &claims());
        for right in [Right::SessionsRead, Right::SessionsRevoke, Right::AuditRead] {
            assert!(rights.allow(right), "{right}");
        }
        assert!(!rights.allow(Right::Admin));
        assert!(rights_of(&rules, "other", &claims()).is_empty(), "a rule is about one issuer");
    }

    #[test]
    fn two_credentials_are_refused_and_the_scheme_has_no_case() {
        let mut headers = HeaderMap::new();
        assert_eq!(bearer(&headers), Ok(None));
        headers.insert(AUTHORIZATION, HeaderValue::from_static("bEARER  abc"));
        assert_eq!(bearer(&headers), Ok(Some(Some("abc"))));
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Basic abc"));
        assert_eq!(bearer(&headers), Ok(Some(None)));
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer abc, Bearer def"));
        assert_eq!(bearer(&headers), Err(Fault::Ambiguous));
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer abc"));
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer abc"));
        assert_eq!(bearer(&headers), Err(Fault::Ambiguous));
    }
}
