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
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::admin::{Admin, Fault, Fingerprint, TokenRule};
use crate::control::{Caller, ControlError};
use crate::domain::{BearerToken, Claims, Denial, Name, Right, Rights, TokenKind};
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
            Proof::Secret(_) | Proof::Certificate(_) | Proof::Elsewhere => None,
        }
    }

    /// A caller whom a dialect's own system vouched for, for one call.
    pub(super) const fn vouched(caller: Caller) -> Self {
        Self { caller, proof: Proof::Elsewhere }
    }

    /// The same caller with these rights besides: what a dialect's own scopes come to.
    pub(super) fn with_rights(mut self, rights: Rights) -> Self {
        self.caller.rights = self.caller.rights.and(rights);
        self
    }
}

#[derive(Clone, Debug)]
enum Proof {
    Secret(Fingerprint),
    Certificate(Fingerprint),
    Token(Verified),
    Elsewhere,
}

/// What a request shows of who asks.
#[derive(Clone, Debug)]
pub(super) enum Shown {
    /// Nothing.
    Nothing,
    /// More than one credential.
    Ambiguous,
    /// Something that is no credential of a kind that is known.
    Unusable,
    /// A secret, or a token.
    Bearer(BearerToken),
    /// A name and its secret, as HTTP Basic and API keys have them.
    Named {
        /// The name of a configured credential.
        name: String,
        /// Its secret.
        secret: BearerToken,
    },
}

/// Whose tokens say who asks.
#[derive(Clone, Debug)]
pub(super) enum Accept {
    /// Those that some rule names.
    Rules,
    /// Those of every issuer: they give no right by that.
    Every,
    /// Those of this issuer, by its configured name, and those that some rule names.
    Issuer(Arc<str>),
}

/// Why nobody is recognised.
enum Wrong {
    /// What was shown is none of ours. It may be a guess, and guesses are few.
    Guess,
    /// It was good once: whoever goes on showing it does not guess, and must not silence others at its address.
    Over,
    /// It cannot be told.
    Otherwise(Fault),
}

impl From<Fault> for Wrong {
    fn from(fault: Fault) -> Self {
        if fault == Fault::Unauthenticated { Self::Guess } else { Self::Otherwise(fault) }
    }
}

impl From<Wrong> for Fault {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Guess | Wrong::Over => Self::Unauthenticated,
            Wrong::Otherwise(fault) => fault,
        }
    }
}

impl Admin {
    /// Finds out who asks. `own` is for calls that users make for themselves: it takes tokens of all issuers.
    ///
    /// # Errors
    ///
    /// As [`Self::recognise`].
    pub(super) async fn identify(
        &self,
        headers: &HeaderMap,
        peer: Option<&Peer>,
        own: bool,
    ) -> Result<Identity, Fault> {
        self.recognise(Shown::bearer(headers), peer, &if own { Accept::Every } else { Accept::Rules }).await
    }

    /// Finds out who shows this.
    ///
    /// # Errors
    ///
    /// [`Fault::Ambiguous`], [`Fault::Anonymous`], [`Fault::Unauthenticated`], [`Fault::RateLimited`], and
    /// [`Fault::Unavailable`] when an issuer or the index cannot tell.
    pub(super) async fn recognise(
        &self,
        shown: Shown,
        peer: Option<&Peer>,
        accept: &Accept,
    ) -> Result<Identity, Fault> {
        let address = peer.map(|peer| peer.address.ip());
        match &shown {
            Shown::Nothing => return self.by_certificate(peer).ok_or(Fault::Anonymous),
            Shown::Ambiguous => return Err(Fault::Ambiguous),
            _ => {}
        }
        // Before the limit: whoever has the secret must be able to revoke, whatever others at its address got wrong.
        if let Some(identity) = self.by_secret(&shown, address) {
            return Ok(identity);
        }
        self.listens_to(address)?;
        let identity = match &shown {
            Shown::Bearer(token) => self.by_token(token, accept, address).await,
            _ => Err(Wrong::Guess),
        };
        if matches!(identity, Err(Wrong::Guess)) {
            self.count_failure(address);
        }
        identity.map_err(Fault::from)
    }

    /// Whether wrong credentials may still come from there: to be asked before anything is found out about one.
    ///
    /// # Errors
    ///
    /// [`Fault::RateLimited`].
    pub(super) fn listens_to(&self, address: Option<IpAddr>) -> Result<(), Fault> {
        let per_minute = self.settings.load().failures_per_minute;
        self.failures
            .blocked(address, per_minute, self.clock.elapsed())
            .map_or(Ok(()), |wait| Err(Fault::RateLimited(wait)))
    }

    /// A wrong credential came from there.
    pub(super) fn count_failure(&self, address: Option<IpAddr>) {
        self.failures.count(address, self.settings.load().failures_per_minute, self.clock.elapsed());
    }

    /// Who shows the secret of a configured credential.
    pub(super) fn by_secret(&self, shown: &Shown, address: Option<IpAddr>) -> Option<Identity> {
        let (name, secret) = match shown {
            Shown::Bearer(secret) => (None, secret),
            Shown::Named { name, secret } => (Some(name), secret),
            Shown::Nothing | Shown::Ambiguous | Shown::Unusable => return None,
        };
        let settings = self.settings.load();
        let shown = Fingerprint::of(secret.expose().as_bytes());
        // Every one is compared, so that the time tells neither whether one fits nor which.
        let known = settings.credentials.iter().fold(None, |found, known| {
            let same = known.sha256 == shown && name.is_none_or(|name| **name == *known.name);
            if same && found.is_none() { Some(known) } else { found }
        });
        let caller = known.map(|known| Caller { name: known.name.clone(), rights: known.rights, address });
        caller.map(|caller| Identity { caller, proof: Proof::Secret(shown) })
    }

    async fn by_token(&self, token: &BearerToken, accept: &Accept, address: Option<IpAddr>) -> Result<Identity, Wrong> {
        let settings = self.settings.load_full();
        let accepted = match accept {
            Accept::Every => None,
            Accept::Rules => Some(issuers_of_rules(&settings.tokens, token)?),
            Accept::Issuer(name) => {
                let ruled = issuers_of_rules(&settings.tokens, token).unwrap_or_default();
                Some(ruled.iter().chain([name]).cloned().collect())
            }
        };
        let verifier = self.verifier.load_full();
        let verified = verifier.verify(token, TokenKind::Access, &accepted).await;
        let verified = verified.map_err(|error| match error {
            VerifyError::Denied(Denial::Expired) => Wrong::Over,
            VerifyError::Denied(_) => Wrong::Guess,
            VerifyError::Unavailable { .. } => Fault::Unavailable("the token's issuer cannot be asked").into(),
        })?;
        if verified.assurance() != Assurance::Vouched {
            return Err(Wrong::Guess);
        }
        let claims = self.control.complete(verified.claims().clone()).await.map_err(Fault::from)?;
        let verified = verified.knowing(claims);
        self.control.admits(verified.claims()).map_err(|error| match error {
            ControlError::Token(_) => Wrong::Over,
            error => Fault::from(error).into(),
        })?;
        let caller = self.bearer_of(verified.claims(), address);
        Ok(Identity { caller, proof: Proof::Token(verified) })
    }

    /// Whoever a token speaks for that somebody vouches for, with what the rules give it.
    pub(super) fn bearer_of(&self, claims: &Claims, address: Option<IpAddr>) -> Caller {
        let known = self.verifier.load().issuer(&claims.issuer);
        let issuer = known.map_or_else(|| claims.issuer.clone(), |facts| facts.name);
        let who = claims.user.as_deref().or(claims.client.as_deref()).unwrap_or("?");
        let rights = rights_of(&self.settings.load().tokens, &issuer, claims);
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
            Proof::Elsewhere => false,
            Proof::Secret(shown) => {
                settings.credentials.iter().any(|known| known.sha256 == *shown && known.rights.allow(right))
            }
            Proof::Certificate(shown) => {
                settings.certificates.iter().any(|known| known.sha256 == *shown && known.rights.allow(right))
            }
            Proof::Token(verified) => {
                let now = self.clock.now();
                let in_time = verified.deadline().is_none_or(|deadline| now < deadline);
                let rights = self.bearer_of(verified.claims(), None).rights;
                in_time && rights.allow(right) && self.control.admits(verified.claims()).is_ok()
            }
        }
    }
}

impl Shown {
    /// What `Authorization: Bearer` shows.
    pub(super) fn bearer(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Self::Nothing };
        if values.next().is_some() {
            return Self::Ambiguous;
        }
        match bearer_text(value) {
            // A list joined by commas: another party might read another member. Neither a token nor a secret holds a comma.
            Some(text) if text.contains(',') => Self::Ambiguous,
            text => text.and_then(BearerToken::parse).map_or(Self::Unusable, Self::Bearer),
        }
    }

    /// A name and its secret, parted by the first colon, in base64: what HTTP Basic (RFC 7617) and API keys have behind
    /// their scheme.
    pub(super) fn named(base64: &str) -> Self {
        let decoded = STANDARD.decode(base64.trim_matches(' ')).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
        let named = pair.and_then(|(name, secret)| Some((name.to_owned(), BearerToken::parse(secret)?)));
        named.map_or(Self::Unusable, |(name, secret)| Self::Named { name, secret })
    }
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
    use crate::domain::{Memo, TokenDigest};

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
            generation: None,
            memo: Memo::default(),
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
        let shown = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            values.iter().for_each(|value| _ = headers.append(AUTHORIZATION, HeaderValue::from_static(value)));
            match Shown::bearer(&headers) {
                Shown::Bearer(token) => token.expose().to_owned(),
                other => format!("{other:?}"),
            }
        };
        assert_eq!(shown(&[]), "Nothing");
        assert_eq!(shown(&["bEARER  abc"]), "abc");
        assert_eq!(shown(&["Basic abc"]), "Unusable");
        assert_eq!(shown(&["Bearer abc, Bearer def"]), "Ambiguous");
        assert_eq!(shown(&["Bearer abc", "Bearer abc"]), "Ambiguous");
    }

    #[test]
    fn a_name_and_a_secret_are_parted_by_the_first_colon() {
        let Shown::Named { name, secret } = Shown::named("b3BzOmE6Yg==") else { panic!() };
        assert_eq!((&*name, secret.expose()), ("ops", "a:b"));
        for wrong in ["b3Bz", "b3BzOg==", "b3BzOmE6Yg", "b3BzOmE6Yg= =", "", "///"] {
            assert!(matches!(Shown::named(wrong), Shown::Unusable), "{wrong}");
        }
    }
}
