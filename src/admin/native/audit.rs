//! The audit trail, read only: who did what, from where, why, and what came of it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::door::Access;
use crate::admin::extract::Parameters;
use crate::admin::native::Calls;
use crate::admin::native::wire::{cursor_of, limit_of};
use crate::admin::{Admin, Fault, Identity};
use crate::control::{AuditQuery, AuditRecord};
use crate::domain::{RevocationId, Right, Timestamp};

pub(super) fn calls(calls: Calls) -> Calls {
    calls.add(__path_trail, Access::Needs(Right::AuditRead), trail)
}

/// Which records to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TrailParameters {
    /// Only by this actor.
    actor: Option<String>,
    /// Only this action, such as `revoke`.
    action: Option<String>,
    /// Only about this revocation.
    #[param(value_type = Option<String>)]
    revocation: Option<RevocationId>,
    /// Only from this second on.
    since: Option<u64>,
    /// Only before this second.
    until: Option<u64>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// How many: 1 to 1000.
    #[param(example = 100)]
    limit: Option<u32>,
}

/// A page of the trail.
#[derive(Debug, Serialize, ToSchema)]
struct TrailPage {
    /// The newest first.
    items: Vec<TrailEntry>,
    /// The cursor of the next page; null on the last.
    next: Option<String>,
}

/// One thing that was done, or refused.
#[derive(Debug, Serialize, ToSchema)]
struct TrailEntry {
    /// Its number in the trail.
    sequence: u64,
    /// When.
    at: u64,
    /// Who.
    #[schema(example = "ops")]
    actor: String,
    /// From where.
    #[schema(example = "192.0.2.7")]
    address: String,
    /// What was asked for.
    #[schema(example = "revoke")]
    action: String,
    /// About what.
    subject: String,
    /// Why, in the caller's words.
    reason: Option<String>,
    /// What came of it.
    #[schema(example = "created")]
    result: String,
    /// The revocation it is about.
    revocation: Option<String>,
}

/// The audit trail
///
/// The newest first.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(TrailParameters),
    responses((status = 200, description = "A page", body = TrailPage)))]
async fn trail(
    State(admin): State<Arc<Admin>>,
    identity: Identity,
    Parameters(parameters): Parameters<TrailParameters>,
) -> Result<Json<TrailPage>, Fault> {
    let page = admin.control.trail(&identity.caller, parameters.into_query()?).await?;
    let items = page.items.into_iter().map(TrailEntry::from).collect();
    Ok(Json(TrailPage { items, next: page.next.map(|next| next.to_string()) }))
}

impl TrailParameters {
    fn into_query(self) -> Result<AuditQuery, Fault> {
        Ok(AuditQuery {
            actor: self.actor,
            action: self.action,
            revocation: self.revocation,
            since: self.since.map(Timestamp::from_secs),
            until: self.until.map(Timestamp::from_secs),
            before: cursor_of(self.cursor.as_deref())?,
            limit: limit_of(self.limit)?,
        })
    }
}

impl From<AuditRecord> for TrailEntry {
    fn from(record: AuditRecord) -> Self {
        Self {
            sequence: record.sequence,
            at: record.at.as_secs(),
            actor: record.actor,
            address: record.address,
            action: record.action,
            subject: record.subject,
            reason: record.reason,
            result: record.result,
            revocation: record.revocation.map(|id| id.to_string()),
        }
    }
}
