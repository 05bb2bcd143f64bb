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
use crate::control::ReplicaStatus;
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
    /// What tells it from another of that name, and from its own past.
    replica_id: String,
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
    /// Whether the store answers just now. While it does not, `replicas` is what it said last.
    store_answers: bool,
    /// What the index holds.
    index: IndexStatus,
    /// The configured issuers.
    issuers: Vec<IssuerStatus>,
    /// All replicas that share the log.
    replicas: Vec<ReplicaView>,
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
struct ReplicaView {
    /// Its name.
    name: String,
    /// What tells it from another of that name, and from its own past.
    id: String,
    /// The product's version that it runs.
    version: String,
    /// Whether it believes its index, by its last sign of life: `loading`, `in_step` or `stale`.
    #[schema(example = "in_step")]
    standing: String,
    /// The position it has applied.
    position: u64,
    /// How many positions it is behind the furthest.
    lag: u64,
    /// Whether it may be serving: it has shown a sign of life within its `max_staleness`.
    live: bool,
    /// How long ago its last sign of life was, by the store's clock.
    silent_ms: u64,
    /// When it was started.
    started_at: u64,
}

impl From<ReplicaStatus> for ReplicaView {
    fn from(status: ReplicaStatus) -> Self {
        Self {
            name: status.replica.name.to_string(),
            id: status.replica.id.to_string(),
            version: status.version,
            standing: status.standing,
            position: status.position.get(),
            lag: status.lag,
            live: status.live,
            silent_ms: u64::try_from(status.silent.as_millis()).unwrap_or(u64::MAX),
            started_at: status.started_at.as_secs(),
        }
    }
}

/// Status of this replica, and of all that share its store
///
/// It answers also while the store does not, with what this replica knows.
#[utoipa::path(get, path = "/v1/status", tag = "status",
    responses((status = 200, description = "How this replica is", body = Status)))]
async fn status(State(admin): State<Arc<Admin>>, _: Parameters<NoParameters>) -> Json<Status> {
    let settings = admin.settings.load();
    let status = admin.control.status();
    let fleet = admin.control.fleet().await;
    let shapes: Vec<_> = status.shapes.into_iter().map(|(shape, entries)| ShapeStatus { shape, entries }).collect();
    Json(Status {
        version: settings.version.to_string(),
        replica: settings.replica.to_string(),
        replica_id: admin.control.replica().id.to_string(),
        uptime_secs: admin.clock.elapsed().saturating_sub(admin.started).as_secs(),
        standing: status.standing.name().to_owned(),
        position: status.position.get(),
        store: settings.store.to_string(),
        store_answers: fleet.answered,
        index: IndexStatus { entries: shapes.iter().map(|shape| shape.entries).sum(), shapes },
        issuers: status.issuers.into_iter().map(IssuerStatus::from).collect(),
        replicas: fleet.replicas.into_iter().map(ReplicaView::from).collect(),
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
