//! The terminate calls: exactly 200 with nothing in it, whatever there was to do. What was opened from a session ends with
//! it. A session that nobody knows is 404, and so is somebody else's where only one's own may be ended.

use axum::extract::State;
use axum::http::StatusCode;

use crate::admin::privx::words::{Document, Named, Refused};
use crate::admin::privx::{Storage, not_current};
use crate::admin::{Fault, Identity};

/// Terminate a session
#[utoipa::path(post, path = super::TERMINATE, tag = "sessionstorage",
    params(("session_id" = String, Path, description = "The session's id")),
    responses((status = 200, description = "It has ended, now or before"),
        (status = "4XX", description = "Not done", body = Document),
        (status = 503, description = "Not possible just now", body = Document)))]
pub(super) async fn session(
    State(storage): State<Storage>,
    identity: Identity,
    Named(id): Named,
) -> Result<StatusCode, Refused> {
    storage.admin.control.end_known_session(&identity.caller, storage.source(), &id, None).await?;
    Ok(StatusCode::OK)
}

/// Terminate all sessions of a user
///
/// Also of one who has none, or whom nobody knows: the tokens issued up to now die.
#[utoipa::path(post, path = super::TERMINATE_USER, tag = "sessionstorage",
    params(("user_id" = String, Path, description = "The user's id")),
    responses((status = 200, description = "They have ended, now or before"),
        (status = "4XX", description = "Not done", body = Document),
        (status = 503, description = "Not possible just now", body = Document)))]
pub(super) async fn user(
    State(storage): State<Storage>,
    identity: Identity,
    Named(user): Named,
) -> Result<StatusCode, Refused> {
    not_current(&user)?;
    storage.admin.control.end_user(&identity.caller, Some(storage.source()), &user, None).await?;
    Ok(StatusCode::OK)
}

/// Terminate one of one's own sessions
#[utoipa::path(post, path = super::TERMINATE_OWN, tag = "sessionstorage",
    params(("session_id" = String, Path, description = "The session's id")),
    responses((status = 200, description = "It has ended, now or before"),
        (status = "4XX", description = "Not done", body = Document),
        (status = 503, description = "Not possible just now", body = Document)))]
pub(super) async fn own(
    State(storage): State<Storage>,
    identity: Identity,
    Named(id): Named,
) -> Result<StatusCode, Refused> {
    let claims = identity.claims().ok_or(Fault::Ownerless)?;
    storage.admin.control.end_own(&identity.caller, claims, &id, None).await?;
    Ok(StatusCode::OK)
}
