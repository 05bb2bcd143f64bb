//! Health, the only thing served without a credential: alive, and ready or why not. The reasons name no address and no
//! caller; they are for whoever runs the replica.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use utoipa::{Path, ToSchema};

use crate::admin::Admin;
use crate::control::Standing;

/// The calls outside the door.
pub(super) fn router() -> Router<Arc<Admin>> {
    Router::new().route(&__path_alive::path(), get(alive)).route(&__path_ready::path(), get(ready))
}

/// How it is.
#[derive(Debug, Serialize, ToSchema)]
struct Health {
    /// `alive`, `ready` or `not_ready`.
    #[schema(value_type = String, example = "ready")]
    status: &'static str,
    /// Why it is not ready.
    reasons: Vec<String>,
}

/// Alive
///
/// 200 as long as the process answers at all.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()),
    responses((status = 200, description = "It answers", body = Health)))]
async fn alive() -> Json<Health> {
    Json(Health { status: "alive", reasons: Vec::new() })
}

/// Ready
///
/// 200 when the index is in step with the log and all listeners are up; 503 with the reasons when not.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, description = "It may be sent traffic", body = Health),
              (status = 503, description = "It may not, and why", body = Health)))]
async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    let mut reasons = admin.readiness.obstacles();
    match admin.control.status().standing {
        Standing::InStep => {}
        Standing::Loading => reasons.push("the revocations are not loaded yet".to_owned()),
        Standing::Stale => reasons.push("out of step with the log for too long".to_owned()),
    }
    if reasons.is_empty() {
        return Json(Health { status: "ready", reasons }).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(Health { status: "not_ready", reasons })).into_response()
}
