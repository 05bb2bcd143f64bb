//! Self-service: a user's own access token lists and ends that user's own sessions, and does nothing else.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::door::Access;
use crate::admin::extract::{Id, NoParameters, Parameters};
use crate::admin::native::Calls;
use crate::admin::native::revocations::{Created, created};
use crate::admin::native::search::{Opaque, Search, SearchParameters};
use crate::admin::native::sessions::{SessionList, SessionView};
use crate::admin::{Admin, Fault, Identity, Problem};
use crate::control::Wait;
use crate::domain::Timestamp;

pub(super) fn calls(calls: Calls) -> Calls {
    calls.add(__path_list, Access::Own, list).add(__path_end, Access::Own, end).add(
        __path_end_all,
        Access::Own,
        end_all,
    )
}

/// List one's own sessions
#[utoipa::path(get, path = "/v1/me/sessions", tag = "sessions", params(SearchParameters),
    responses((status = 200, description = "A page", body = SessionList)))]
async fn list(
    State(admin): State<Arc<Admin>>,
    identity: Identity,
    search: Search<NoParameters>,
) -> Result<Json<SessionList>, Fault> {
    let now = admin.clock.now();
    let (NoParameters {}, page) = search.into_query(now)?;
    let claims = identity.claims().ok_or(Fault::Ownerless)?;
    let own = admin.control.own_sessions(claims, page.query).await?;
    let view = |session| SessionView::of(session, now).own(&own.current);
    Ok(Json(SessionList::of(own.page, &page.sort, view)))
}

/// Why a session is ended.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OwnEndParameters {
    /// Why, for the audit trail.
    reason: Option<String>,
}

/// End one of one's own sessions
///
/// The session of the token itself may be ended too; that is logging out. 201 when it is new, 200 when it was so already.
#[utoipa::path(delete, path = "/v1/me/sessions/{id}", tag = "sessions",
    params(("id" = String, Path, description = "The session's id, percent-encoded"), OwnEndParameters),
    responses((status = 201, description = "It has ended", body = Created),
              (status = 200, description = "It had ended already", body = Created),
              (status = 404, description = "None of one's own sessions has that id", body = Problem,
               content_type = "application/problem+json")))]
async fn end(
    State(admin): State<Arc<Admin>>,
    identity: Identity,
    Id(Opaque(id)): Id<Opaque>,
    Parameters(parameters): Parameters<OwnEndParameters>,
) -> Result<Response, Fault> {
    // Nobody but operators may have answers held back.
    let asked = admin.control.ask(Wait::Local)?;
    let claims = identity.claims().ok_or(Fault::Ownerless)?;
    let receipt = admin.control.end_own(&identity.caller, claims, &id, parameters.reason).await?;
    created(&admin, &receipt, &asked).await
}

/// Which of one's own sessions are ended.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EndAllParameters {
    /// All but the one that the token belongs to, and those it was opened from.
    #[serde(default)]
    others: bool,
    /// Why, for the audit trail.
    reason: Option<String>,
}

/// How many sessions were ended.
#[derive(Debug, Serialize, ToSchema)]
struct EndedSessions {
    /// Known sessions that have ended by this.
    sessions: usize,
    /// The first second whose logins pass again; null when only the other sessions were ended, which takes no login back.
    readmits_from: Option<u64>,
}

/// End one's own sessions
///
/// All of them, the token's own too, and every token issued up to now; the next login passes. With `others=true` the known
/// sessions but the token's own, and nothing else.
#[utoipa::path(delete, path = "/v1/me/sessions", tag = "sessions", params(EndAllParameters),
    responses((status = 200, description = "They have ended", body = EndedSessions)))]
async fn end_all(
    State(admin): State<Arc<Admin>>,
    identity: Identity,
    Parameters(parameters): Parameters<EndAllParameters>,
) -> Result<Json<EndedSessions>, Fault> {
    let claims = identity.claims().ok_or(Fault::Ownerless)?;
    let EndAllParameters { others, reason } = parameters;
    if others {
        let sessions = admin.control.end_other_own(&identity.caller, claims, reason).await?;
        return Ok(Json(EndedSessions { sessions, readmits_from: None }));
    }
    let receipt = admin.control.end_all_own(&identity.caller, claims, reason).await?;
    let readmits_from = receipt.readmits_from.map(Timestamp::as_secs);
    Ok(Json(EndedSessions { sessions: receipt.sessions, readmits_from }))
}
