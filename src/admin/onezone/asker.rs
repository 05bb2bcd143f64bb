//! Who asks. Onezone looks for a token in `X-Auth-Token`, then behind `Authorization: Bearer `, then in `Macaroon`, and for a
//! name and a password behind `Authorization: Basic ` when there is none; the first that is there counts, good or bad.
//!
//! A macaroon that the configured secret verifies says who somebody is. Where there is no secret, or a caveat that cannot be
//! judged here, Onezone is asked with that very token; where it cannot be asked either, the macaroon opens nothing.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::admin::caller::{Accept, Shown};
use crate::admin::door::call_name;
use crate::admin::onezone::reply::{Refusal, forbidden, worded};
use crate::admin::onezone::upstream::Trouble;
use crate::admin::onezone::{Onezone, upstream::Upstream};
use crate::admin::{Fault, Identity};
use crate::control::{Caller, ControlError};
use crate::domain::wording::{Wording, onezone};
use crate::domain::{BearerToken, Claims, Denial, Right, Rights, TokenKind};
use crate::net::Peer;
use crate::verify::Assurance;

/// The privilege by which an administrator of Onezone minds everybody's tokens.
const MANAGE: &str = "oz_tokens_manage";
/// How much is written down of why somebody was refused, in characters.
const MAX_WHY_CHARS: usize = 200;

/// What a request says of who asks.
#[derive(Debug)]
pub(super) struct Asking {
    peer: Option<Arc<Peer>>,
    shown: Shown,
    call: String,
}

impl Asking {
    pub(super) fn of(request: &Request) -> Self {
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        Self { peer, shown: shown(request.headers()), call: call_name(request) }
    }
}

/// Who asks.
#[derive(Debug)]
pub(super) struct Asker {
    identity: Identity,
    /// What the caller's token of Onezone's says, where the caller came with one.
    claims: Option<Claims>,
    /// That token, by which Onezone knows the caller too.
    pub(super) token: Option<BearerToken>,
    call: String,
}

impl Asker {
    /// The caller's id as a user of Onezone.
    pub(super) fn user(&self) -> Option<&str> {
        self.claims.as_ref().and_then(|claims| claims.user.as_deref())
    }

    /// Of which generation the caller's own token is, if it is a temporary one.
    pub(super) fn generation(&self) -> Option<u64> {
        self.claims.as_ref().and_then(|claims| claims.generation)
    }

    /// Whether the caller's own token is the one of that id.
    pub(super) fn holds(&self, token_id: &str) -> bool {
        self.claims.as_ref().is_some_and(|claims| claims.token_id.as_deref() == Some(token_id))
    }

    /// Whether the caller may mind everybody's by the word of our own configuration.
    pub(super) const fn may_revoke(&self) -> bool {
        self.identity.caller.rights.allow(Right::SessionsRevoke)
    }

    /// In whose right the caller takes back a token of its own.
    pub(super) fn name(&self) -> &str {
        self.user().unwrap_or(&self.identity.caller.name)
    }

    /// The caller, with the rights of whoever minds tokens.
    pub(super) fn entitled(&self) -> Caller {
        let rights: Rights = [Right::SessionsRead, Right::SessionsRevoke].into_iter().collect();
        self.identity.clone().with_rights(rights).caller
    }
}

impl Onezone {
    /// Finds out who asks, and writes down who is turned away.
    pub(super) async fn asker(&self, asking: Asking) -> Result<Asker, Refusal> {
        let Asking { peer, shown, call } = asking;
        let claims = self.own(&shown);
        match self.recognise(&shown, claims.as_ref(), peer.as_deref()).await {
            Ok(identity) => {
                let token = match shown {
                    Shown::Bearer(token) => Some(token).filter(|_| claims.is_some()),
                    _ => None,
                };
                Ok(Asker { identity, claims, token, call })
            }
            Err(fault) => {
                let address = peer.map(|peer| peer.address.ip());
                self.admin.turn_away(&fault, address, call).await;
                Err(worded(&fault, Some(self.what_is_wrong(&shown, claims.as_ref()))))
            }
        }
    }

    /// The caller, if it may do what needs `right`: about `user`, who may be the caller.
    pub(super) async fn allowed(&self, asker: &Asker, user: Option<&str>, right: Right) -> Result<Caller, Refusal> {
        let is_own = user.is_some() && user == asker.user();
        if is_own || asker.identity.caller.rights.allow(right) || self.manages(asker).await? {
            return Ok(asker.entitled());
        }
        Err(Box::new(forbidden(Some(&Fault::Forbidden(Some(right)).detail()))))
    }

    /// Hands on what came of a call, and writes down that its caller was refused, whoever said no: Onezone as well.
    pub(super) async fn noted<T>(&self, asker: &Asker, outcome: Result<T, Refusal>) -> Result<T, Refusal> {
        if let Err(refusal) = &outcome
            && matches!(refusal.status, 401 | 403)
        {
            self.admin.refuse_to(&asker.identity.caller, &asker.call, &why(refusal)).await;
        }
        outcome
    }

    /// Whether Onezone lets the caller mind everybody's tokens.
    async fn manages(&self, asker: &Asker) -> Result<bool, Refusal> {
        let (Some(upstream), Some(token)) = (&self.upstream, &asker.token) else { return Ok(false) };
        match upstream.privileges(token).await {
            Ok(privileges) => Ok(privileges.iter().any(|privilege| privilege == MANAGE)),
            Err(Trouble::Refused(_)) => Ok(false),
            Err(Trouble::Silent) => Err(worded(&NOBODY_KNOWS, None)),
        }
    }

    /// What the caller's token says of itself, when it is one of the issuer's that the dialect is about.
    fn own(&self, shown: &Shown) -> Option<Claims> {
        let Shown::Bearer(token) = shown else { return None };
        let issuer = &self.settings.mount.issuer;
        let claims = self.admin.verifier.load().peek(issuer, token, TokenKind::Access).ok()?;
        (claims.issuer == *issuer && claims.token_id.is_some()).then_some(claims)
    }

    async fn recognise(&self, shown: &Shown, own: Option<&Claims>, peer: Option<&Peer>) -> Result<Identity, Fault> {
        if let (Shown::Bearer(token), Some(claims), Some(upstream)) = (shown, own, &self.upstream)
            && self.lacks_a_voucher(token).await
        {
            return self.by_upstream(upstream, (token, claims), peer.map(|peer| peer.address.ip())).await;
        }
        let accept = Accept::Issuer(self.settings.mount.issuer_name.clone());
        self.admin.recognise(shown.clone(), peer, &accept).await
    }

    /// Whether the token may be good, and nobody here can tell.
    async fn lacks_a_voucher(&self, token: &BearerToken) -> bool {
        let accepted = Some([self.settings.mount.issuer_name.clone()].into());
        let examined = self.admin.verifier.load_full().examine(token, TokenKind::Access, &accepted).await;
        examined.is_ok_and(|token| token.assurance() == Assurance::Unchecked && token.flaw().is_none())
    }

    /// Asks Onezone whose token it is. What was revoked here is not asked about, and wrong ones count as elsewhere.
    async fn by_upstream(
        &self,
        upstream: &Upstream,
        (token, claims): (&BearerToken, &Claims),
        address: Option<IpAddr>,
    ) -> Result<Identity, Fault> {
        let admin = &self.admin;
        let settings = admin.settings.load_full();
        if let Some(wait) = admin.failures.blocked(address, settings.failures_per_minute, admin.clock.elapsed()) {
            return Err(Fault::RateLimited(wait));
        }
        let known = match admin.control.admits(claims) {
            Ok(()) => upstream.user(token).await,
            Err(ControlError::Token(_)) => Ok(None),
            Err(error) => return Err(error.into()),
        };
        match known {
            Err(Trouble::Silent) => Err(NOBODY_KNOWS),
            Ok(Some(user)) if claims.user.as_deref() == Some(&*user) => {
                Ok(Identity::vouched(admin.bearer_of(claims, address)))
            }
            _ => {
                admin.failures.count(address, settings.failures_per_minute, admin.clock.elapsed());
                Err(Fault::Unauthenticated)
            }
        }
    }

    /// What is wrong with credentials that were not accepted.
    fn what_is_wrong(&self, shown: &Shown, claims: Option<&Claims>) -> Value {
        match (shown, claims) {
            (Shown::Named { .. }, _) => onezone::token_error("badBasicCredentials", "Invalid basic credentials."),
            (_, Some(claims)) => match self.admin.control.admits(claims) {
                Err(ControlError::Token(Denial::Revoked)) => onezone::revoked(),
                _ => onezone::invalid_token(),
            },
            _ => onezone::bad_token(),
        }
    }
}

const NOBODY_KNOWS: Fault = Fault::Unavailable("Onezone cannot be asked who the caller is");

/// What a refusal says, in few words.
fn why(refusal: &Wording) -> String {
    let texts = ["/error/details/hint", "/error/id"].map(|at| refusal.body.pointer(at).and_then(Value::as_str));
    texts.into_iter().flatten().next().unwrap_or("refused").chars().take(MAX_WHY_CHARS).collect()
}

/// What the first of the places shows that has anything.
fn shown(headers: &HeaderMap) -> Shown {
    let (own, deprecated) = (HeaderName::from_static("x-auth-token"), HeaderName::from_static("macaroon"));
    for (name, scheme) in [(&own, ""), (&AUTHORIZATION, "Bearer "), (&deprecated, ""), (&AUTHORIZATION, "Basic ")] {
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return Shown::Ambiguous;
        }
        match text_behind(value, scheme) {
            Some(credentials) if scheme == "Basic " => return Shown::named(credentials),
            Some(token) if token.contains(',') => return Shown::Ambiguous,
            Some(token) => return BearerToken::parse(token).map_or(Shown::Unusable, Shown::Bearer),
            None if scheme.is_empty() => return Shown::Unusable,
            None => {}
        }
    }
    Shown::Nothing
}

/// What stands behind the scheme, which Onezone compares exactly.
fn text_behind<'v>(value: &'v HeaderValue, scheme: &str) -> Option<&'v str> {
    value.to_str().ok()?.strip_prefix(scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(fields: &[(&'static str, &'static str)]) -> String {
        let mut headers = HeaderMap::new();
        fields.iter().for_each(|(name, value)| _ = headers.append(*name, HeaderValue::from_static(value)));
        match shown(&headers) {
            Shown::Bearer(token) => token.expose().to_owned(),
            Shown::Named { name, .. } => format!("user {name}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_first_place_that_has_anything_counts_good_or_bad() {
        let all = [("x-auth-token", "a"), ("authorization", "Bearer b"), ("macaroon", "c")];
        assert_eq!((first(&all), first(&all[1..]), first(&all[2..])), ("a".into(), "b".into(), "c".into()));
        assert_eq!(first(&[("x-auth-token", "a b"), ("macaroon", "c")]), "Unusable");
        assert_eq!(first(&[("authorization", "bearer b"), ("macaroon", "c")]), "c", "the scheme has that very case");
        assert_eq!(first(&[("authorization", "Basic b3BzOmE="), ("macaroon", "c")]), "c");
        assert_eq!(first(&[("authorization", "Basic b3BzOmE=")]), "user ops");
        assert_eq!(first(&[("macaroon", "c"), ("macaroon", "c")]), "Ambiguous");
        assert_eq!((first(&[("authorization", "Digest x")]), first(&[])), ("Nothing".into(), "Nothing".into()));
    }
}
