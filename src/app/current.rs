//! What parts that outlive a reload hold on to: the verifier, the gateway and the dialects of the configuration in force.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};

use crate::admin::{self, Place, RouteCheck, RouteVerdict};
use crate::admission::{Auth, Policy};
use crate::control::Tokens;
use crate::domain::{BearerToken, Claims, Denial, Revocation, TokenKind};
use crate::gateway::Gateway;
use crate::net::{Local, Nowhere, Taken};
use crate::verify::{IssuerFacts, Verifier, VerifyError};

/// The verifier of the configuration in force, for parts that outlive a reload.
#[derive(Debug)]
pub(super) struct CurrentVerifier(pub(super) ArcSwap<Verifier>);

#[async_trait]
impl Tokens for CurrentVerifier {
    async fn read(&self, token: &BearerToken) -> Result<Claims, Denial> {
        self.0.load_full().read(token).await
    }

    async fn verify(&self, token: &BearerToken, kind: TokenKind) -> Result<Arc<Claims>, VerifyError> {
        let verified = self.0.load_full().verify(token, kind, &None).await?;
        Ok(verified.claims().clone())
    }

    fn peek(&self, issuer: &str, token: &BearerToken, kind: TokenKind) -> Result<Claims, Denial> {
        self.0.load().peek(issuer, token, kind)
    }

    async fn vouched(
        &self,
        issuer: &str,
        token: &BearerToken,
        kind: TokenKind,
    ) -> Result<Option<Arc<Claims>>, VerifyError> {
        Tokens::vouched(&*self.0.load_full(), issuer, token, kind).await
    }

    fn issuer(&self, name_or_iss: &str) -> Option<IssuerFacts> {
        self.0.load().issuer(name_or_iss)
    }

    fn issuers(&self) -> Vec<IssuerFacts> {
        self.0.load().issuers()
    }

    fn would_kill(&self, revocation: &Revocation) -> usize {
        self.0.load().would_kill(revocation)
    }
}

/// The gateway of the configuration in force.
#[derive(Debug)]
pub(super) struct CurrentGateway {
    pub(super) gateway: ArcSwap<Gateway>,
    pub(super) verifier: Arc<CurrentVerifier>,
}

impl RouteCheck for CurrentGateway {
    fn judge(&self, place: &Place, claims: &Claims) -> Option<RouteVerdict> {
        let gateway = self.gateway.load();
        let (name, policy) = match &place.route {
            Some(route) => gateway.demands_of(route)?,
            None => {
                let method = place.method.as_deref().unwrap_or("GET");
                let method = Method::from_bytes(method.as_bytes()).ok()?;
                gateway.demands_at(place.host.as_deref(), place.path.as_deref().unwrap_or("/"), &method)?
            }
        };
        Some(RouteVerdict { route: name.to_string(), denial: self.lacking(claims, &policy) })
    }
}

impl CurrentGateway {
    /// What a route demands and a good token lacks.
    fn lacking(&self, claims: &Claims, policy: &Policy) -> Option<Denial> {
        let issuer = self.verifier.issuer(&claims.issuer).map_or_else(|| claims.issuer.clone(), |facts| facts.name);
        if policy.auth == Auth::None {
            return None;
        }
        if policy.accepted.as_ref().is_some_and(|accepted| !accepted.contains(&issuer)) {
            return Some(Denial::UnknownIssuer);
        }
        let scoped = policy.scopes.iter().all(|scope| claims.scopes.contains(scope));
        (!scoped).then_some(Denial::Scope)
    }
}

/// The dialects on the proxy's listener. The gateway is made before what answers them, which asks the gateway about routes.
#[derive(Debug, Default)]
pub(super) struct Dialects(OnceLock<Arc<admin::Services>>);

impl Dialects {
    /// Has them answered from now on.
    pub(super) fn speak(&self, services: Arc<admin::Services>) {
        self.0.get_or_init(|| services);
    }
}

#[async_trait]
impl Local for Dialects {
    fn takes(&self, method: &Method, path: &str) -> Taken {
        self.0.get().map_or(Taken::No, |services| services.takes(method, path))
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Bytes> {
        match self.0.get() {
            Some(services) => services.answer(request).await,
            None => Nowhere.answer(request).await,
        }
    }
}
