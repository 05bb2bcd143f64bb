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
use crate::control::AuditRecord;
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
        Err(fault) => return turn_away(&admin, fault, address, call).await,
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
    let Err(fault) = access.check(&identity) else { return next.run(request).await };
    let Identity { caller, .. } = identity;
    let call = call_name(&request);
    admin.control.note(refusal(&admin, "authorize", &caller.name, caller.address, call, Some(fault.detail()))).await;
    fault.into_response()
}

async fn turn_away(admin: &Admin, fault: Fault, address: Option<IpAddr>, call: String) -> Response {
    let noted = match fault {
        // Counted by the rate limit already.
        Fault::Unauthenticated => true,
        Fault::Anonymous | Fault::Ambiguous => {
            let per_minute = admin.settings.load().failures_per_minute;
            admin.anonymous.admit(address, per_minute, admin.clock.elapsed())
        }
        _ => false,
    };
    if noted {
        admin.control.note(refusal(admin, "authenticate", "-", address, call, Some(fault.detail()))).await;
    }
    fault.into_response()
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
