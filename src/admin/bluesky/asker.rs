//! Who asks to end a session, and by what they may.
//!
//! A secret of the configuration first: it is known without asking anybody. Then a token of another issuer that a rule
//! names. What is left is the server's own, and is held against the revocations *before* the server is asked, which knows
//! nothing of them. Wrong credentials are rate-limited as everywhere on the admin side.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::request::Parts;

use crate::admin::bluesky::Bluesky;
use crate::admin::bluesky::credential::Presented;
use crate::admin::bluesky::refused::Refused;
use crate::admin::bluesky::upstream::{Principal, Upstream};
use crate::admin::caller::{Accept, Shown};
use crate::admin::{Fault, Identity};
use crate::control::{Caller, ControlError};
use crate::domain::wording::bluesky::Sentence;
use crate::domain::{BearerToken, Claims, Denial, Right, Rights, TokenKind, Uuid};
use crate::net::Peer;
use crate::verify::VerifyError;

/// Somebody who asks to end a session.
#[derive(Debug)]
pub(super) enum Asker {
    /// Whose session it is.
    Owner(Caller),
    /// Somebody the configuration knows, with whatever rights.
    Operator(Identity),
    /// Somebody the server lets administrate, and the credential by which it can be asked for others' sessions.
    Administrator(Caller, Presented),
    /// Somebody else.
    Stranger(Caller),
}

impl Bluesky {
    /// Finds out who asks.
    pub(super) async fn asker(&self, parts: &Parts, session: Uuid, peer: Option<&Peer>) -> Result<Asker, Refused> {
        let address = peer.map(|peer| peer.address.ip());
        let presented = &Presented::read(parts).map_err(|refused| self.counted(refused, address))?;
        let Some(secret) = presented.secret() else {
            return Ok(Asker::Operator(self.admin.recognise(Shown::Nothing, peer, &Accept::Rules).await?));
        };
        let shown = Shown::Bearer(secret.clone());
        if let Some(identity) = self.admin.by_secret(&shown, address) {
            return Ok(Asker::Operator(identity));
        }
        if matches!(presented, Presented::Token(_)) && self.is_of_another_issuer(secret).await {
            return Ok(Asker::Operator(self.admin.recognise(shown, peer, &Accept::Rules).await?));
        }
        let Some(upstream) = &self.upstream else { return self.vouched(presented, session, peer).await };
        self.admin.listens_to(address)?;
        let asked = self.by_the_server(upstream, presented, session, peer).await;
        asked.map_err(|refused| self.counted(refused, address))
    }

    /// Counts a wrong credential; from where there were too many, it is not even said that it is wrong.
    fn counted(&self, refused: Refused, address: Option<IpAddr>) -> Refused {
        if !refused.is_wrong_credential() {
            return refused;
        }
        if let Err(fault) = self.admin.listens_to(address) {
            return fault.into();
        }
        self.admin.count_failure(address);
        refused
    }

    /// Whether a token names an issuer that is configured, and another one than the server's.
    async fn is_of_another_issuer(&self, token: &BearerToken) -> bool {
        // Another text says nothing of its issuer, and nobody is asked about it.
        if token.expose().matches('.').count() != 2 {
            return false;
        }
        let read = self.admin.verifier.load_full().read(token).await;
        read.is_ok_and(|claims| claims.issuer != self.settings.mount.issuer)
    }

    async fn by_the_server(
        &self,
        upstream: &Upstream,
        presented: &Presented,
        session: Uuid,
        peer: Option<&Peer>,
    ) -> Result<Asker, Refused> {
        let claims = self.alive(presented).await?;
        let principal = upstream.whoami(presented).await?;
        let caller = self.caller(&claims, &principal, peer);
        if principal.has(session) {
            return Ok(Asker::Owner(caller));
        }
        let rules = caller.rights.allow(Right::SessionsRevoke);
        if rules || upstream.grants(&self.settings.admin_scopes, presented).await? {
            return Ok(Asker::Administrator(caller, presented.clone()));
        }
        Ok(Asker::Stranger(caller))
    }

    /// Without a server to ask: a token that somebody vouches for, and what was learned of sessions.
    async fn vouched(&self, presented: &Presented, session: Uuid, peer: Option<&Peer>) -> Result<Asker, Refused> {
        let shown = match presented {
            Presented::Token(token) => Shown::Bearer(token.clone()),
            // Nobody here can tell whose it is.
            Presented::Key(_) | Presented::Nothing => Shown::Unusable,
        };
        // Its holder may know that it has expired or was taken back; whether it counts is for whoever vouches for it.
        let dead = match self.alive(presented).await {
            Err(refused) if !refused.is_wrong_credential() => return Err(refused),
            alive => alive.err(),
        };
        let accept = Accept::Issuer(self.settings.mount.issuer_name.clone());
        let identity = self.admin.recognise(shown, peer, &accept).await.map_err(|fault| match (fault, dead) {
            (Fault::Unauthenticated, Some(refused)) => refused,
            (fault, _) => fault.into(),
        })?;
        if identity.caller.rights.allow(Right::SessionsRevoke) {
            return Ok(Asker::Operator(identity));
        }
        let owns = match identity.claims() {
            Some(claims) => self.admin.control.is_own(claims, &session.undashed()).await?,
            None => false,
        };
        Ok(if owns { Asker::Owner(identity.caller) } else { Asker::Stranger(identity.caller) })
    }

    /// What a credential of the server's says, unless it is dead.
    async fn alive(&self, presented: &Presented) -> Result<Claims, Refused> {
        let claims = match presented {
            Presented::Nothing => return Err(Fault::Anonymous.into()),
            Presented::Key(key) => self.known_by_digest(key)?,
            Presented::Token(token) => self.verified(token).await?,
        };
        let claims = self.admin.control.complete(claims).await?;
        match self.admin.control.admits(&claims) {
            Ok(()) => Ok(Claims::clone(&claims)),
            Err(ControlError::Token(_)) => Err(Refused::sentence(Fault::Unauthenticated, Sentence::Over)),
            Err(error) => Err(error.into()),
        }
    }

    /// An API key says nothing of itself, and whether there is one the server alone knows; but it may be revoked.
    fn known_by_digest(&self, key: &BearerToken) -> Result<Arc<Claims>, Refused> {
        let verifier = self.admin.verifier.load_full();
        let claims = verifier.peek(&self.settings.mount.issuer, key, TokenKind::ApiKey);
        claims.map(Arc::new).map_err(|_| Refused::key())
    }

    async fn verified(&self, token: &BearerToken) -> Result<Arc<Claims>, Refused> {
        let accepted = Some([self.settings.mount.issuer_name.clone()].into());
        let verified = self.admin.verifier.load_full().verify(token, TokenKind::Access, &accepted).await;
        verified.map(|verified| verified.claims().clone()).map_err(|error| match error {
            VerifyError::Denied(Denial::Expired) => Refused::expired(),
            VerifyError::Denied(_) => Refused::token(),
            VerifyError::Unavailable { .. } => Fault::Unavailable("the token's issuer cannot be asked").into(),
        })
    }

    /// The caller as the server knows them. It has just accepted the very token, so what that says may be believed.
    fn caller(&self, claims: &Claims, principal: &Principal, peer: Option<&Peer>) -> Caller {
        let address = peer.map(|peer| peer.address.ip());
        match claims.kind {
            TokenKind::Access => self.admin.bearer_of(claims, address),
            _ => {
                let name = format!("{}@{}", principal.id.undashed(), self.settings.mount.issuer_name);
                Caller { name: name.into(), rights: Rights::NONE, address }
            }
        }
    }
}
