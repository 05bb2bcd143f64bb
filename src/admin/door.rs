//! The door every call but health goes through: who asks, and may they. It also writes to the audit trail who was turned
//! away: each wrong credential up to the rate at which it listens at all, each missing right, and nameless callers up to
//! the same rate, so that nobody can fill the trail from outside.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::admin::{Admin, Fault, Identity};
use crate::control::{AuditRecord, Caller};
use crate::domain::Right;
use crate::net::Peer;

/// What a call demands of its caller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Access {
    /// This right.
    Needs(Right),
    /// Some right, whichever.
    Any,
    /// No right, but to be a user: the token is the user's own, and the call reaches that user's own alone.
    Own,
}

/// Where calls begin that users make for themselves. There, and nowhere else, tokens of every issuer are taken.
pub(super) const OWN_PATHS: &str = "/v1/me/";

impl Access {
    /// Whether this caller may go on.
    fn check(self, identity: &Identity) -> Result<(), Fault> {
        let rights = identity.caller.rights;
        match self {
            Self::Needs(right) if !rights.allow(right) => Err(Fault::Forbidden(Some(right))),
            Self::Any if rights.is_empty() => Err(Fault::Forbidden(None)),
            Self::Own if identity.claims().and_then(|claims| claims.user.as_ref()).is_none() => Err(Fault::Ownerless),
            _ => Ok(()),
        }
    }
}

/// Lets nobody on who has not said who they are, and tells the call who that is.
pub(super) async fn identify(State(admin): State<Arc<Admin>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Arc<Peer>>().cloned();
    let address = peer.as_ref().map(|peer| peer.address.ip());
    let call = call_name(&request);
    let own = request.extensions().get::<MatchedPath>().is_some_and(|path| path.as_str().starts_with(OWN_PATHS));
    let identity = match admin.identify(request.headers(), peer.as_deref(), own).await {
        Ok(identity) => identity,
        Err(fault) => {
            admin.turn_away(&fault, address, call).await;
            return fault.into_response();
        }
    };
    request.extensions_mut().insert(identity);
    next.run(request).await
}

/// Lets nobody on who lacks what the call demands; before the body is looked at. What a command demands beyond that,
/// control checks and audits itself.
pub(super) async fn demand(
    State((admin, access)): State<(Arc<Admin>, Access)>,
    identity: Identity,
    request: Request,
    next: Next,
) -> Response {
    match admin.demand(&identity, access, call_name(&request)).await {
        Ok(()) => next.run(request).await,
        Err(fault) => fault.into_response(),
    }
}

impl Admin {
    /// Refuses a caller who lacks what a call demands, and writes that to the audit trail.
    pub(super) async fn demand(&self, identity: &Identity, access: Access, call: String) -> Result<(), Fault> {
        let Err(fault) = access.check(identity) else { return Ok(()) };
        let Identity { caller, .. } = identity;
        self.control.note(refusal(self, "authorize", &caller.name, caller.address, call, Some(fault.detail()))).await;
        Err(fault)
    }

    /// Writes to the audit trail that a call was not for this caller, for a reason that is no right.
    pub(super) async fn refuse_to(&self, caller: &Caller, call: &str, why: &str) {
        let (call, why) = (call.to_owned(), Some(why.to_owned()));
        self.control.note(refusal(self, "authorize", &caller.name, caller.address, call, why)).await;
    }

    /// Writes to the audit trail that somebody was turned away who did not say who it is, or not so that it counts.
    pub(super) async fn turn_away(&self, fault: &Fault, address: Option<IpAddr>, call: String) {
        let per_minute = self.settings.load().failures_per_minute;
        // Apart, so that nobody can ask nameless until nothing wrong is written down any more.
        let noted = match fault {
            Fault::Unauthenticated => self.unknown.admit(address, per_minute, self.clock.elapsed()),
            Fault::Anonymous | Fault::Ambiguous => self.anonymous.admit(address, per_minute, self.clock.elapsed()),
            _ => false,
        };
        if noted {
            self.control.note(refusal(self, "authenticate", "-", address, call, Some(fault.detail()))).await;
        }
    }
}

fn refusal(
    admin: &Admin,
    action: &str,
    actor: &str,
    address: Option<IpAddr>,
    subject: String,
    reason: Option<String>,
) -> AuditRecord {
    AuditRecord {
        sequence: 0,
        at: admin.clock.now(),
        actor: actor.to_owned(),
        address: address.map_or_else(|| "-".to_owned(), |address| address.to_string()),
        action: action.to_owned(),
        subject,
        reason,
        result: "refused".to_owned(),
        revocation: None,
    }
}

/// The call by method and route: from closed lists, never the path itself, which may hold anything.
pub(super) fn call_name(request: &Request) -> String {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    let method = known.iter().find(|known| *known == request.method()).map_or("OTHER", Method::as_str);
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
    format!("{method} {route}")
}
