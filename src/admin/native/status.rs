//! How this replica is, for people and dashboards: what it runs, where in the log it stands, what it holds; and its figures
//! for Prometheus.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::Admin;
use crate::admin::door::Access;
use crate::admin::extract::{NoParameters, Parameters};
use crate::admin::native::Calls;
use crate::control::Standing;
use crate::verify::IssuerFacts;

pub(super) fn calls(calls: Calls) -> Calls {
    calls.add(__path_status, Access::Any, status).add(__path_metrics, Access::Any, metrics)
}

/// How this replica is.
#[derive(Debug, Serialize, ToSchema)]
struct Status {
    /// The product's version.
    #[schema(example = "0.1.0")]
    version: String,
    /// This replica's name.
    replica: String,
    /// How long it has been up.
    uptime_secs: u64,
    /// Whether what its index does not know is not revoked: `loading`, `in_step` or `stale`.
    #[schema(example = "in_step")]
    standing: String,
    /// The position in the log that its index has applied.
    position: u64,
    /// The kind of store.
    #[schema(example = "sqlite")]
    store: String,
    /// What the index holds.
    index: IndexStatus,
    /// The configured issuers.
    issuers: Vec<IssuerStatus>,
    /// All replicas that share the log.
    replicas: Vec<ReplicaStatus>,
}

/// What the index holds.
#[derive(Debug, Serialize, ToSchema)]
struct IndexStatus {
    /// Selectors with a revocation in force.
    entries: usize,
    /// The same, by shape.
    shapes: Vec<ShapeStatus>,
}

/// How many revocations have one shape.
#[derive(Debug, Serialize, ToSchema)]
struct ShapeStatus {
    /// The names its selectors ask for.
    #[schema(example = "issuer+session")]
    shape: String,
    /// How many.
    entries: usize,
}

/// A configured issuer.
#[derive(Debug, Serialize, ToSchema)]
struct IssuerStatus {
    /// Its configured name.
    name: String,
    /// Its `iss`.
    issuer: String,
    /// No token of it lives longer; null when that is not known.
    max_token_lifetime_secs: Option<u64>,
    /// Tolerance for clocks.
    leeway_secs: u64,
    /// How far its `iat` has run ahead of our clock.
    lead_secs: u64,
}

/// A replica that shares the log.
#[derive(Debug, Serialize, ToSchema)]
struct ReplicaStatus {
    /// Its name.
    name: String,
    /// The position it has applied.
    position: u64,
    /// How many positions it is behind the furthest.
    lag: u64,
    /// Whether it was heard of lately.
    live: bool,
}

/// The name of a standing, in status and readiness.
pub(super) const fn standing_name(standing: Standing) -> &'static str {
    match standing {
        Standing::Loading => "loading",
        Standing::InStep => "in_step",
        Standing::Stale => "stale",
    }
}

/// Status of this replica
#[utoipa::path(get, path = "/v1/status", tag = "status",
    responses((status = 200, description = "How this replica is", body = Status)))]
async fn status(State(admin): State<Arc<Admin>>, _: Parameters<NoParameters>) -> Json<Status> {
    let settings = admin.settings.load();
    let status = admin.control.status();
    let position = status.position.get();
    let own = ReplicaStatus { name: settings.replica.to_string(), position, lag: 0, live: true };
    let shapes: Vec<_> = status.shapes.into_iter().map(|(shape, entries)| ShapeStatus { shape, entries }).collect();
    Json(Status {
        version: settings.version.to_string(),
        replica: settings.replica.to_string(),
        uptime_secs: admin.clock.elapsed().saturating_sub(admin.started).as_secs(),
        standing: standing_name(status.standing).to_owned(),
        position,
        store: settings.store.to_string(),
        index: IndexStatus { entries: shapes.iter().map(|shape| shape.entries).sum(), shapes },
        issuers: status.issuers.into_iter().map(IssuerStatus::from).collect(),
        replicas: vec![own],
    })
}

impl From<IssuerFacts> for IssuerStatus {
    fn from(facts: IssuerFacts) -> Self {
        Self {
            name: facts.name.to_string(),
            issuer: facts.issuer.to_string(),
            max_token_lifetime_secs: facts.max_token_lifetime.map(|lifetime| lifetime.as_secs()),
            leeway_secs: facts.leeway.as_secs(),
            lead_secs: facts.lead.as_secs(),
        }
    }
}

/// Figures for Prometheus
///
/// In the OpenMetrics text format. Needs a credential like every other call: Prometheus sends one by `authorization`.
#[utoipa::path(get, path = "/metrics", tag = "status",
    responses((status = 200, description = "All figures", content_type = "application/openmetrics-text", body = String)))]
async fn metrics(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], admin.metrics.text())
}
