//! A user's own session password: what tools that can only send HTTP Basic show instead of the token.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::door::Access;
use crate::admin::native::Calls;
use crate::admin::{Admin, Fault, Identity, Problem};

pub(super) fn calls(calls: Calls) -> Calls {
    calls.add(__path_create, Access::Own, create)
}

/// A password that stands for a session. It is told this once.
#[derive(Serialize, ToSchema)]
struct SessionPassword {
    /// The username to send with it.
    #[schema(example = "alice")]
    username: Box<str>,
    /// The password.
    password: String,
    /// The first second in which it is no good any more; its session's end ends it before.
    expires_at: u64,
}

/// Get a password for one's own session
///
/// It stands for the session that the token belongs to, on routes that take `session-password`: git, WebDAV and others send it
/// with the username by HTTP Basic. It has the token's scopes, and dies with whatever the token dies with, the end of its session
/// first of all; only the token's own expiry does not end it. A session keeps the five passwords that were made last.
#[utoipa::path(post, path = "/v1/me/session-password", tag = "sessions",
    responses((status = 201, description = "The password, not to be had again", body = SessionPassword),
              (status = 404, description = "The session has ended", body = Problem,
               content_type = "application/problem+json")))]
async fn create(
    State(admin): State<Arc<Admin>>,
    identity: Identity,
) -> Result<(StatusCode, Json<SessionPassword>), Fault> {
    let claims = identity.claims().ok_or(Fault::Ownerless)?;
    let issued = admin.control.session_password(&identity.caller, claims).await?;
    let password = issued.expose().to_owned();
    let expires_at = issued.expires_at.as_secs();
    Ok((StatusCode::CREATED, Json(SessionPassword { username: issued.username, password, expires_at })))
}
