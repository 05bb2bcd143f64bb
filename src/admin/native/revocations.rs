//! Revocations one at a time: make, foresee, list, show, lift.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header::LOCATION};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::door::Access;
use crate::admin::extract::{Id, JsonBody, Parameters};
use crate::admin::native::Calls;
use crate::admin::native::spread::{Spread, Wait};
use crate::admin::native::wire::{Kind, RevocationView, RevokeBody, cursor_of, kinds, limit_of, outcome};
use crate::admin::{Admin, Fault, Identity, Problem};
use crate::control::{Asked, Forecast, Receipt, ReplicaStatus, RevocationQuery};
use crate::domain::{Position, RevocationId, Right, Timestamp};

pub(super) fn calls(calls: Calls) -> Calls {
    calls
        .add(__path_create, Access::Needs(Right::SessionsRevoke), create)
        .add(__path_list, Access::Needs(Right::SessionsRead), list)
        .add(__path_show, Access::Needs(Right::SessionsRead), show)
        .add(__path_lift, Access::Needs(Right::SessionsRevoke), lift)
}

/// How a revocation is to be carried out.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CreateParameters {
    /// Whose word the answer waits for: this replica's, or every live one's.
    #[serde(default)]
    #[param(inline)]
    wait: Wait,
    /// How long to wait for other replicas, as `500ms` or `2s`; at most `60s`. Default: `2s`.
    #[param(example = "2s")]
    timeout: Option<String>,
    /// Only say what it would do.
    #[serde(default)]
    dry_run: bool,
}

/// What came of a revocation, or would.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "one at a time, on its way out")]
enum Answer {
    Revoked(Created),
    DryRun(Foreseen),
}

/// What came of a revocation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Created {
    /// The revocation that stands.
    revocation: RevocationView,
    /// Whether it stood before.
    already: bool,
    /// The first second whose tokens pass again; null when none do.
    readmits_from: Option<u64>,
    /// How many open exchanges of this replica it has cut: streams, uploads, tunnels, requests under way.
    cut: usize,
    /// Where the log stood when it was in.
    position: u64,
    /// How many known sessions it ended.
    sessions: usize,
    #[serde(flatten)]
    spread: Spread,
}

/// What a revocation would do.
#[derive(Debug, Serialize, ToSchema)]
struct Foreseen {
    /// Always true.
    dry_run: bool,
    /// The claims that would have to match.
    selector: BTreeMap<String, String>,
    /// Which kinds of token would die.
    kinds: Vec<Kind>,
    /// The first second whose tokens would pass again; null when none would.
    readmits_from: Option<u64>,
    /// Until when it would be kept; null when until lifted.
    expires_at: Option<u64>,
    /// The standing revocations that say as much already.
    already: Vec<String>,
    /// How many tokens verified here of late would die.
    recent_tokens: usize,
    /// How many exchanges that are open here would be cut.
    open_connections: usize,
    /// How many known sessions would end.
    sessions: usize,
}

/// Revoke
///
/// 201 when it is new, 200 when what was asked for was so already. Either promises that it is durable and that this replica
/// lets nothing pass that it covers. `dry_run=true` answers what it would do, and does nothing.
///
/// With `wait=all` the answer is held until every live replica has confirmed that it lets nothing pass either, and names each one
/// with its delay. When some have not in time, the status is the same, `complete` is false, and `missing` names them: the
/// revocation stands, and reaches them by itself. A replica that has shown no sign of life for its `max_staleness` is not
/// live, refuses to serve, and is not waited for.
///
/// A revocation of a user also names each known session of that user which began until the cut-off, and one of a session
/// each that was opened from it, in revocations of their own, which are lifted with it.
#[utoipa::path(post, path = "/v1/revocations", tag = "revocations", params(CreateParameters),
    request_body = RevokeBody,
    responses((status = 201, description = "It is new", body = Created),
              (status = 200, description = "It was so already; for a dry run, what it would do", body = Answer)))]
async fn create(
    State(admin): State<Arc<Admin>>,
    identity: Identity,
    Parameters(parameters): Parameters<CreateParameters>,
    JsonBody(body): JsonBody<RevokeBody>,
) -> Result<Response, Fault> {
    let asked = parameters.wait.ask(parameters.timeout.as_deref(), &admin)?;
    let command = body.into_command()?;
    if parameters.dry_run {
        let forecast = admin.control.forecast(&identity.caller, command).await?;
        return Ok(Json(Answer::DryRun(forecast.into())).into_response());
    }
    let receipt = admin.control.revoke(&identity.caller, command).await?;
    created(&admin, &receipt, &asked).await
}

/// The answer to a revocation that was asked for so, or was so already; once it has spread as was asked.
pub(super) async fn created(admin: &Admin, receipt: &Receipt, asked: &Asked) -> Result<Response, Fault> {
    let (recorded, new) = outcome(receipt).ok_or(Fault::Internal)?;
    let id = recorded.revocation.id;
    let body = Created {
        revocation: RevocationView::of(recorded, admin.clock.now()),
        already: !new,
        readmits_from: receipt.readmits_from.map(Timestamp::as_secs),
        cut: receipt.cut,
        position: receipt.position.get(),
        sessions: receipt.sessions,
        spread: Spread::of(admin, asked, receipt.position).await,
    };
    if !new {
        return Ok(Json(Answer::Revoked(body)).into_response());
    }
    let mut response = (StatusCode::CREATED, Json(body)).into_response();
    if let Ok(place) = HeaderValue::try_from(format!("/v1/revocations/{id}")) {
        response.headers_mut().insert(LOCATION, place);
    }
    Ok(response)
}

impl From<Forecast> for Foreseen {
    fn from(forecast: Forecast) -> Self {
        Self {
            dry_run: true,
            selector: forecast.selector.into(),
            kinds: kinds(forecast.reach),
            readmits_from: forecast.readmits_from.map(Timestamp::as_secs),
            expires_at: forecast.expires_at.map(Timestamp::as_secs),
            already: forecast.already.iter().map(RevocationId::to_string).collect(),
            recent_tokens: forecast.recent_tokens,
            open_connections: forecast.open,
            sessions: forecast.sessions,
        }
    }
}

/// Which revocations to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListParameters {
    /// Only by this actor.
    actor: Option<String>,
    /// Only what still refuses tokens.
    #[serde(default)]
    standing: bool,
    /// `next` of the page before.
    cursor: Option<String>,
    /// How many: 1 to 1000.
    #[param(example = 100)]
    limit: Option<u32>,
    /// `issuer`, `token_id`, `token_sha256`, `session`, `user`, `temporary`, `username`, `client`, `key_id`,
    /// `claim:NAME`: only revocations whose selector asks for this value.
    #[serde(flatten)]
    #[param(style = Form, explode, value_type = BTreeMap<String, String>)]
    selector: BTreeMap<String, String>,
}

/// A page of revocations.
#[derive(Debug, Serialize, ToSchema)]
struct RevocationPage {
    /// The newest first.
    items: Vec<RevocationView>,
    /// The cursor of the next page; null on the last.
    next: Option<String>,
}

impl ListParameters {
    fn into_query(self, now: Timestamp) -> Result<RevocationQuery, Fault> {
        const NAMES: [&str; 9] =
            ["issuer", "token_id", "token_sha256", "session", "user", "temporary", "username", "client", "key_id"];
        let known =
            |name: &str| NAMES.contains(&name) || name.strip_prefix("claim:").is_some_and(|rest| !rest.is_empty());
        if let Some(unknown) = self.selector.keys().find(|name| !known(name)) {
            return Err(Fault::Invalid(format!(
                "unknown parameter {:?}",
                unknown.chars().take(48).collect::<String>()
            )));
        }
        Ok(RevocationQuery {
            having: self.selector.into_iter().collect(),
            actor: self.actor,
            standing_only: self.standing,
            now,
            before: cursor_of(self.cursor.as_deref())?.map(Position::new),
            limit: limit_of(self.limit)?,
        })
    }
}

/// List revocations
///
/// The newest first. Filters narrow it; several must all fit.
#[utoipa::path(get, path = "/v1/revocations", tag = "revocations", params(ListParameters),
    responses((status = 200, description = "A page", body = RevocationPage)))]
async fn list(
    State(admin): State<Arc<Admin>>,
    identity: Identity,
    Parameters(parameters): Parameters<ListParameters>,
) -> Result<Json<RevocationPage>, Fault> {
    let now = admin.clock.now();
    let page = admin.control.search(&identity.caller, parameters.into_query(now)?).await?;
    let items = page.items.iter().map(|recorded| RevocationView::of(recorded, now)).collect();
    Ok(Json(RevocationPage { items, next: page.next.map(|next| next.to_string()) }))
}

/// One revocation, and who has applied it.
#[derive(Debug, Serialize, ToSchema)]
struct RevocationDetail {
    #[serde(flatten)]
    revocation: RevocationView,
    /// How far each replica is.
    replicas: Vec<Applied>,
}

/// How far a replica is with one revocation.
#[derive(Debug, Serialize, ToSchema)]
struct Applied {
    /// Its name.
    name: String,
    /// What tells it from another of that name, and from its own past.
    id: String,
    /// Where in the log it is.
    position: u64,
    /// Whether it has applied this revocation's last change.
    applied: bool,
    /// Whether it may be serving: it has shown a sign of life lately.
    live: bool,
}

/// Show a revocation
#[utoipa::path(get, path = "/v1/revocations/{id}", tag = "revocations",
    params(("id" = String, Path, description = "The revocation's id")),
    responses((status = 200, description = "The revocation", body = RevocationDetail),
              (status = 404, description = "No such revocation", body = Problem,
               content_type = "application/problem+json")))]
async fn show(
    State(admin): State<Arc<Admin>>,
    identity: Identity,
    Id(id): Id<RevocationId>,
) -> Result<Json<RevocationDetail>, Fault> {
    let recorded = admin.control.find(&identity.caller, id).await?;
    let fleet = admin.control.fleet().await;
    let applied = |replica: ReplicaStatus| Applied {
        name: replica.replica.name.to_string(),
        id: replica.replica.id.to_string(),
        position: replica.position.get(),
        applied: replica.position >= recorded.position,
        live: replica.live,
    };
    let replicas = fleet.replicas.into_iter().map(applied).collect();
    Ok(Json(RevocationDetail { revocation: RevocationView::of(&recorded, admin.clock.now()), replicas }))
}

/// How to lift.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LiftParameters {
    /// Why, for the audit trail.
    reason: Option<String>,
    /// Whose word the answer waits for: this replica's, or every live one's.
    #[serde(default)]
    #[param(inline)]
    wait: Wait,
    /// How long to wait for other replicas, as `500ms` or `2s`; at most `60s`. Default: `2s`.
    #[param(example = "2s")]
    timeout: Option<String>,
}

/// What came of a lift.
#[derive(Debug, Serialize, ToSchema)]
struct Lifted {
    /// The revocation, which no longer stands.
    revocation: RevocationView,
    /// Whether it had ended before.
    already: bool,
    /// Where the log stood when the lift was in.
    position: u64,
    #[serde(flatten)]
    spread: Spread,
}

/// Lift a revocation
///
/// What it covered passes again, unless another revocation covers it too: sessions that a revocation of their user named stay
/// ended, each until its own revocation is lifted. Lifting what has ended is success.
#[utoipa::path(delete, path = "/v1/revocations/{id}", tag = "revocations",
    params(("id" = String, Path, description = "The revocation's id"), LiftParameters),
    responses((status = 200, description = "It no longer stands", body = Lifted),
              (status = 404, description = "No such revocation", body = Problem,
               content_type = "application/problem+json")))]
async fn lift(
    State(admin): State<Arc<Admin>>,
    identity: Identity,
    Id(id): Id<RevocationId>,
    Parameters(parameters): Parameters<LiftParameters>,
) -> Result<Json<Lifted>, Fault> {
    let asked = parameters.wait.ask(parameters.timeout.as_deref(), &admin)?;
    let receipt = admin.control.lift(&identity.caller, id, parameters.reason).await?;
    let missing = || Fault::NotFound(format!("no revocation {id}"));
    let (recorded, new) = outcome(&receipt).ok_or_else(missing)?;
    let revocation = RevocationView::of(recorded, admin.clock.now());
    let spread = Spread::of(&admin, &asked, receipt.position).await;
    Ok(Json(Lifted { revocation, already: !new, position: receipt.position.get(), spread }))
}
