//! The sessions of one user.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;

use crate::admin::door::Access;
use crate::admin::extract::{Id, Parameters};
use crate::admin::native::Calls;
use crate::admin::native::revocations::{Created, created};
use crate::admin::native::search::{Opaque, Search, SearchParameters, Someone};
use crate::admin::native::sessions::{EndParameters, SessionList, SessionView};
use crate::admin::{Admin, Fault, Identity};
use crate::domain::Right;

pub(super) fn calls(calls: Calls) -> Calls {
    calls.add(__path_list, Access::Needs(Right::SessionsRead), list).add(
        __path_end,
        Access::Needs(Right::SessionsRevoke),
        end,
    )
}

/// List a user's sessions
#[utoipa::path(get, path = "/v1/users/{user}/sessions", tag = "sessions",
    params(("user" = String, Path, description = "The user, `sub`, percent-encoded"), Someone, SearchParameters),
    responses((status = 200, description = "A page", body = SessionList)))]
async fn list(
    State(admin): State<Arc<Admin>>,
    identity: Identity,
    Id(Opaque(user)): Id<Opaque>,
    search: Search<Someone>,
) -> Result<Json<SessionList>, Fault> {
    let now = admin.clock.now();
    let (whose, page) = search.into_query(now)?;
    let found = admin.control.user_sessions(&identity.caller, whose.issuer.as_deref(), user, page.query).await?;
    Ok(Json(SessionList::of(found, &page.sort, |session| SessionView::of(session, now))))
}

/// End a user's sessions
///
/// Revokes the user: what was issued up to now dies, the next login passes. The sessions known of the user are named one by
/// one besides. 201 when it is new, 200 when it was so already, as `POST /v1/revocations` answers.
#[utoipa::path(delete, path = "/v1/users/{user}/sessions", tag = "sessions",
    params(("user" = String, Path, description = "The user, `sub`, percent-encoded"), EndParameters),
    responses((status = 201, description = "They have ended", body = Created),
              (status = 200, description = "They had ended already", body = Created)))]
async fn end(
    State(admin): State<Arc<Admin>>,
    identity: Identity,
    Id(Opaque(user)): Id<Opaque>,
    Parameters(parameters): Parameters<EndParameters>,
) -> Result<Response, Fault> {
    let EndParameters { issuer, reason, wait, timeout } = parameters;
    let asked = wait.ask(timeout.as_deref(), &admin)?;
    let receipt = admin.control.end_user(&identity.caller, issuer.as_deref(), &user, reason).await?;
    created(&admin, &receipt, &asked).await
}
