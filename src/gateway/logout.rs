//! Calls by which clients end their own session at the upstream. Once the upstream has confirmed one, the session is over
//! here as well: what only the gate knows of it, a session password above all, would outlive it else.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::{Method, Request, StatusCode};

use crate::admission::{Admitted, Stop};
use crate::domain::Dialect;
use crate::gateway::Gateway;
use crate::gateway::refusal::Refusal;
use crate::gateway::route::Route;
use crate::sessions::{End, Ended};

/// Where PrivX's clients log out; whatever its base path is.
const PRIVX_LOGOUT: &str = "/auth/api/v1/logout";

/// A session about to be left.
#[derive(Debug)]
pub(super) struct Leaving(End);

impl Leaving {
    /// Takes note of a logout, by a token that somebody vouches for; of one that nobody does, its client could have made up
    /// whose session it is.
    pub(super) fn note<B>(
        request: &Request<B>,
        route: &Route,
        admitted: &Admitted,
        address: Option<IpAddr>,
    ) -> Option<Self> {
        let is_logout = route.dialect == Dialect::PrivX
            && request.method() == Method::POST
            && request.uri().path().ends_with(PRIVX_LOGOUT);
        let claims = admitted.identity().filter(|_| is_logout)?;
        let what = Ended::Session(claims.session.clone()?);
        let reason = "its user logged out";
        Some(Self(End { issuer: Arc::clone(&claims.issuer), what, reason, address }))
    }
}

impl Gateway {
    /// Ends a session that the upstream says is left. Nobody is told that it is over before it is over here.
    pub(super) async fn confirm(&self, leaving: Option<Leaving>, answered: StatusCode) -> Result<(), Refusal> {
        let Some(Leaving(end)) = leaving.filter(|_| answered.is_success()) else { return Ok(()) };
        Box::pin(self.book.end_for(end)).await.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "a session that its user left goes on here");
            Refusal::Stopped { stop: Stop::Blind("the end of the session cannot be written down"), scope: None }
        })
    }
}
