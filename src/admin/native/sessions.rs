//! Sessions, for those who watch over them: search, show, end.
//!
//! An id is whatever its issuer made it, up to 1 KiB; it means something only together with the issuer.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::door::Access;
use crate::admin::extract::{Id, Parameters};
use crate::admin::native::Calls;
use crate::admin::native::paging::cursor_text;
use crate::admin::native::revocations::{Created, created};
use crate::admin::native::search::{Anyone, Opaque, Search, SearchParameters, StateName, Type};
use crate::admin::native::spread::Wait;
use crate::admin::native::wire::Kind;
use crate::admin::{Admin, Fault, Identity, Problem};
use crate::control::{SessionPage, SessionQuery, ShownSession};
use crate::domain::{Right, SeenToken, Session, SessionEnd, SessionState, Timestamp};

pub(super) fn calls(calls: Calls) -> Calls {
    calls
        .add(__path_list, Access::Needs(Right::SessionsRead), list)
        .add(__path_show, Access::Needs(Right::SessionsRead), show)
        .add(__path_end, Access::Needs(Right::SessionsRevoke), end)
}

/// A page of sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionList {
    /// In the order that was asked for.
    items: Vec<SessionView>,
    /// How many there are in all, whatever the page shows.
    total: u64,
    /// The cursor of the next page; null on the last.
    next: Option<String>,
}

/// One login.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionView {
    /// `sid`, or the name given to a session whose issuer names none.
    #[schema(example = "08a5019c-17e1-4977-8f42-65a12843ea02")]
    id: String,
    /// The `iss` of its issuer.
    issuer: String,
    /// `sub`.
    user: Option<String>,
    /// The name people know the user by.
    username: Option<String>,
    /// The session it was opened from.
    parent: Option<String>,
    /// The part of the issuer it belongs to.
    domain: Option<String>,
    /// `azp` or `client_id`.
    client: Option<String>,
    /// The address it was used from last.
    #[schema(example = "192.0.2.7")]
    address: Option<String>,
    /// The `User-Agent` it was used with last.
    user_agent: Option<String>,
    /// How it came about.
    #[serde(rename = "type")]
    kind: Type,
    /// Where it is in its life.
    state: StateName,
    /// When it was first seen.
    created_at: u64,
    /// When it was last seen.
    updated_at: u64,
    /// The first second in which none of its tokens is good; null when nobody knows.
    expires_at: Option<u64>,
    /// The same for its access tokens.
    token_expires_at: Option<u64>,
    /// What ended it; null while nothing has.
    revoked: Option<EndView>,
    /// Whether the caller's own token belongs to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<bool>,
}

/// What ended a session.
#[derive(Debug, Serialize, ToSchema)]
struct EndView {
    /// When.
    at: u64,
    /// By whom.
    by: String,
    /// Why.
    reason: Option<String>,
    /// The revocation's id.
    revocation: String,
}

/// A session with its tokens.
#[derive(Debug, Serialize, ToSchema)]
struct SessionDetail {
    #[serde(flatten)]
    session: SessionView,
    /// The tokens seen in it, the newest 100 first.
    tokens: Vec<TokenView>,
}

/// A token that was seen.
#[derive(Debug, Serialize, ToSchema)]
struct TokenView {
    /// `jti`; without one, the SHA-256 that revocations know it by.
    identity: String,
    /// What it is good for.
    kind: Kind,
    /// When it was issued.
    issued_at: Option<u64>,
    /// The first second in which it is dead by itself.
    expires_at: Option<u64>,
    /// Whether it is.
    state: StateName,
}

impl SessionView {
    pub(super) fn of(session: Session, now: Timestamp) -> Self {
        let text = |value: Option<Box<str>>| value.map(String::from);
        Self {
            state: session.state(now).into(),
            id: session.key.id.into(),
            issuer: session.key.issuer.to_string(),
            user: text(session.user),
            username: text(session.username),
            parent: text(session.parent),
            domain: text(session.domain),
            client: text(session.client),
            address: text(session.address),
            user_agent: text(session.user_agent),
            kind: session.kind.into(),
            created_at: session.created_at.as_secs(),
            updated_at: session.updated_at.as_secs(),
            expires_at: session.expires_at.map(Timestamp::as_secs),
            token_expires_at: session.token_expires_at.map(Timestamp::as_secs),
            revoked: session.ended.map(EndView::from),
            current: None,
        }
    }

    /// The same, shown to the user whose it is.
    pub(super) fn own(self, current: &[Box<str>]) -> Self {
        Self { current: Some(current.iter().any(|id| **id == *self.id)), ..self }
    }
}

impl From<SessionEnd> for EndView {
    fn from(end: SessionEnd) -> Self {
        Self {
            at: end.at.as_secs(),
            by: end.actor.into(),
            reason: end.reason.map(String::from),
            revocation: end.revocation.to_string(),
        }
    }
}

impl TokenView {
    fn of((token, state): (SeenToken, SessionState)) -> Self {
        Self {
            identity: token.token_id.map_or_else(|| token.digest.to_string(), String::from),
            kind: token.kind.into(),
            issued_at: token.issued_at.map(Timestamp::as_secs),
            expires_at: token.expires_at.map(Timestamp::as_secs),
            state: state.into(),
        }
    }
}

impl SessionList {
    /// A page in that order.
    pub(super) fn of(page: SessionPage, sort: &str, view: impl Fn(Session) -> SessionView) -> Self {
        let next = page.next.map(|next| cursor_text(sort, next));
        Self { items: page.items.into_iter().map(view).collect(), total: page.total, next }
    }
}

/// List sessions
///
/// What is known of sessions from traffic. Filters narrow it; several must all fit, but of keywords one is enough.
#[utoipa::path(get, path = "/v1/sessions", tag = "sessions", params(Anyone, SearchParameters),
    responses((status = 200, description = "A page", body = SessionList)))]
async fn list(
    State(admin): State<Arc<Admin>>,
    identity: Identity,
    search: Search<Anyone>,
) -> Result<Json<SessionList>, Fault> {
    let now = admin.clock.now();
    let (whose, page) = search.into_query(now)?;
    let Anyone { issuer, user, username } = whose;
    let found = admin.control.sessions(&identity.caller, SessionQuery { issuer, user, username, ..page.query }).await?;
    Ok(Json(SessionList::of(found, &page.sort, |session| SessionView::of(session, now))))
}

/// Where a session is from.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ShowParameters {
    /// The issuer: its configured name or its `iss`. It may be left out where one issuer alone knows the session.
    issuer: Option<String>,
}

/// Show a session
#[utoipa::path(get, path = "/v1/sessions/{id}", tag = "sessions",
    params(("id" = String, Path, description = "The session's id, percent-encoded"), ShowParameters),
    responses((status = 200, description = "The session and its tokens", body = SessionDetail),
              (status = 404, description = "No such session", body = Problem,
               content_type = "application/problem+json")))]
async fn show(
    State(admin): State<Arc<Admin>>,
    identity: Identity,
    Id(Opaque(id)): Id<Opaque>,
    Parameters(parameters): Parameters<ShowParameters>,
) -> Result<Json<SessionDetail>, Fault> {
    let shown = admin.control.session(&identity.caller, parameters.issuer.as_deref(), &id).await?;
    let ShownSession { session, tokens } = shown;
    let tokens = tokens.into_iter().map(TokenView::of).collect();
    Ok(Json(SessionDetail { session: SessionView::of(session, admin.clock.now()), tokens }))
}

/// Which session to end, and why.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EndParameters {
    /// The issuer: its configured name or its `iss`. It may be left out where one issuer alone is known to be meant.
    pub(super) issuer: Option<String>,
    /// Why, for the audit trail.
    pub(super) reason: Option<String>,
    /// Whose word the answer waits for: this replica's, or every live one's.
    #[serde(default)]
    #[param(inline)]
    pub(super) wait: Wait,
    /// How long to wait for other replicas, as `500ms` or `2s`; at most `60s`. Default: `2s`.
    #[param(example = "2s")]
    pub(super) timeout: Option<String>,
}

/// End a session
///
/// All tokens of it die, of whatever second, and so does what was opened from it. It is done whether or not the session is
/// known. 201 when it is new, 200 when it was so already, as `POST /v1/revocations` answers.
#[utoipa::path(delete, path = "/v1/sessions/{id}", tag = "sessions",
    params(("id" = String, Path, description = "The session's id, percent-encoded"), EndParameters),
    responses((status = 201, description = "It has ended", body = Created),
              (status = 200, description = "It had ended already", body = Created)))]
async fn end(
    State(admin): State<Arc<Admin>>,
    identity: Identity,
    Id(Opaque(id)): Id<Opaque>,
    Parameters(parameters): Parameters<EndParameters>,
) -> Result<Response, Fault> {
    let EndParameters { issuer, reason, wait, timeout } = parameters;
    let asked = wait.ask(timeout.as_deref(), &admin)?;
    let receipt = admin.control.end_session(&identity.caller, issuer.as_deref(), &id, reason).await?;
    created(&admin, &receipt, &asked).await
}
