//! A session's own password: a secret for tools that can only send HTTP Basic, good while the session is.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::privx::Storage;
use crate::admin::privx::words::{Document, Refused};
use crate::admin::{Fault, Identity};

/// What is told once; here a digest of it is kept.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionPassword {
    /// The password, for HTTP Basic beside the user's name; beside the user's id, where nobody knows the name.
    password: String,
}

/// A password for the session of whoever asks
///
/// A new one each time. It is good as long as the session is, and no longer than is configured.
#[utoipa::path(get, path = super::PASSWORD, tag = "sessionstorage",
    responses((status = 200, description = "A new password", body = SessionPassword),
        (status = "4XX", description = "Not done", body = Document),
        (status = 503, description = "Not possible just now", body = Document)))]
pub(super) async fn issue(
    State(storage): State<Storage>,
    identity: Identity,
) -> Result<Json<SessionPassword>, Refused> {
    let claims = identity.claims().ok_or(Fault::Ownerless)?;
    let issued = storage.admin.control.session_password(&identity.caller, claims).await?;
    Ok(Json(SessionPassword { password: issued.expose().to_owned() }))
}
