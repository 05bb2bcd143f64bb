//! Would this token pass, and if not, what stops it. For people who ask why; the token itself is never shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::door::Access;
use crate::admin::extract::JsonBody;
use crate::admin::native::Calls;
use crate::admin::native::wire::{Kind, RevocationView, token_of};
use crate::admin::{Admin, Fault, Identity, Place, RouteVerdict};
use crate::control::Finding;
use crate::domain::{Claims, Denial, Right, Timestamp};

pub(super) fn calls(calls: Calls) -> Calls {
    calls.add(__path_check, Access::Needs(Right::SessionsRead), check)
}

/// A token, and where it would be shown.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"token": "eyJhbGciOi…", "path": "/orders/7", "method": "POST"}))]
struct CheckBody {
    /// The token's text.
    token: String,
    /// The name of a route.
    route: Option<String>,
    /// The host of a request.
    host: Option<String>,
    /// The path of a request.
    path: Option<String>,
    /// The method of a request; `GET` when there is a path and no method.
    method: Option<String>,
}

/// Whether it would pass.
#[derive(Debug, Serialize, ToSchema)]
struct Checked {
    /// Whether it would pass.
    admitted: bool,
    /// What stops it: a denial's name, as in the metrics, or `no_route`; null when nothing does.
    #[schema(example = "revoked")]
    reason: Option<String>,
    /// The route that was asked for.
    route: Option<String>,
    /// What the token says of itself; null when it could not be read.
    claims: Option<ClaimsView>,
    /// The revocations that cover it.
    revocations: Vec<RevocationView>,
}

/// What a token says of itself.
#[derive(Debug, Serialize, ToSchema)]
struct ClaimsView {
    /// `iss`.
    issuer: String,
    /// What it is good for.
    kind: Kind,
    /// SHA-256 of the signed bytes; of an opaque token, of its text.
    token_sha256: String,
    /// `jti`.
    token_id: Option<String>,
    /// `sid`.
    session: Option<String>,
    /// `sub`.
    user: Option<String>,
    /// The name people know the user by.
    username: Option<String>,
    /// `azp` or `client_id`.
    client: Option<String>,
    /// `kid` of the header.
    key_id: Option<String>,
    /// Of a temporary token, its generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    /// `iat`.
    issued_at: Option<u64>,
    /// `exp`.
    expires_at: Option<u64>,
    /// `scope`.
    scopes: Vec<String>,
    /// Every other claim that a selector may ask for as `claim:NAME`.
    claims: BTreeMap<String, Vec<String>>,
}

/// Check a token
///
/// Says whether the token would pass: in general, or on a route given by its name or by a request's host, path and method.
#[utoipa::path(post, path = "/v1/check", tag = "revocations", request_body = CheckBody,
    responses((status = 200, description = "Whether it would pass, and what stops it", body = Checked)))]
async fn check(
    State(admin): State<Arc<Admin>>,
    identity: Identity,
    JsonBody(body): JsonBody<CheckBody>,
) -> Result<Json<Checked>, Fault> {
    let token = token_of(&body.token)?;
    let place = Place { route: body.route, host: body.host, path: body.path, method: body.method };
    let finding = admin.control.check(&identity.caller, &token).await?;
    let verdict = admin.judge(&place, &finding)?;
    Ok(Json(Checked::of(&finding, verdict, admin.clock.now())))
}

/// What is known of the route that was asked about.
enum Verdict {
    /// None was.
    Unasked,
    /// There is none.
    NoRoute,
    /// What it says.
    Route(RouteVerdict),
}

impl Admin {
    fn judge(&self, place: &Place, finding: &Finding) -> Result<Verdict, Fault> {
        if *place == Place::default() {
            return Ok(Verdict::Unasked);
        }
        let unknown = || Fault::Invalid("this replica knows no routes to check against".to_owned());
        let routes = self.routes.as_ref().ok_or_else(unknown)?;
        let Some(claims) = &finding.claims else { return Ok(Verdict::Unasked) };
        Ok(routes.judge(place, claims).map_or(Verdict::NoRoute, Verdict::Route))
    }
}

impl Checked {
    fn of(finding: &Finding, verdict: Verdict, now: Timestamp) -> Self {
        let (route, stop) = match verdict {
            Verdict::Unasked => (None, None),
            Verdict::NoRoute => (None, Some("no_route")),
            Verdict::Route(verdict) => (Some(verdict.route), verdict.denial.map(Denial::name)),
        };
        let reason = finding.denial.map(Denial::name).or(stop);
        Self {
            admitted: reason.is_none(),
            reason: reason.map(str::to_owned),
            route,
            claims: finding.claims.as_ref().map(ClaimsView::from),
            revocations: finding.revocations.iter().map(|recorded| RevocationView::of(recorded, now)).collect(),
        }
    }
}

impl From<&Claims> for ClaimsView {
    fn from(claims: &Claims) -> Self {
        let text = |value: &Option<Box<str>>| value.as_deref().map(str::to_owned);
        let texts = |values: &[Box<str>]| values.iter().map(|value| value.to_string()).collect::<Vec<_>>();
        Self {
            issuer: claims.issuer.to_string(),
            kind: claims.kind.into(),
            token_sha256: claims.digest.to_string(),
            token_id: text(&claims.token_id),
            session: text(&claims.session),
            user: text(&claims.user),
            username: text(&claims.username),
            client: text(&claims.client),
            key_id: text(&claims.key_id),
            generation: claims.generation,
            issued_at: claims.issued_at.map(Timestamp::as_secs),
            expires_at: claims.expires_at.map(Timestamp::as_secs),
            scopes: texts(&claims.scopes),
            claims: claims.other.iter().map(|(name, values)| (name.to_string(), texts(values))).collect(),
        }
    }
}
