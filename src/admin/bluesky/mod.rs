//! bluesky-httpserver's session revoke: `DELETE /api/auth/session/revoke/{session_uid}`.
//!
//! Who may end a session: its user, with an access token or an API key; who holds the right in the configuration, whatever
//! kind of caller that is; and whoever the server itself makes an administrator, which its own call does not know. Nobody
//! here can verify the server's tokens, so it is asked who shows them (`upstream`). Without one to ask, only tokens that an
//! issuer's keys or introspection vouch for count, and the inventory says whose a session is.
//!
//! A session that the gateway never saw is its owner's to end all the same, and an administrator's, by the server's list of
//! principals. Operators have no credential of the server's, so that here they end known sessions only; `/v1` takes any id.
//!
//! Ids are compared as UUIDs, in every spelling. What does not exist, what is somebody else's and what nobody asks for by
//! name get one answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::ALLOW;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::delete;
use axum::{Json, Router};
use serde::Serialize;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::{OpenApi, ToSchema};

use crate::admin::bluesky::asker::Asker;
use crate::admin::bluesky::credential::Presented;
use crate::admin::bluesky::refused::Refused;
use crate::admin::bluesky::upstream::Upstream;
use crate::admin::dialect::Call;
use crate::admin::door::Access;
use crate::admin::extract::whole;
use crate::admin::{Admin, Fault, Mount};
use crate::control::{Caller, Revoke, Target};
use crate::domain::{Reach, Right, SessionKey, TokenKind, Uuid};
use crate::net::Peer;

mod asker;
mod credential;
mod refused;
mod upstream;

pub use upstream::{UpstreamSettings, patience};

/// What the operator says of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Where it is served, and for whom.
    pub mount: Mount,
    /// What becomes of the access tokens of a session that is revoked.
    pub access_tokens: AccessTokens,
    /// Who tells whose a credential is; `None` when nobody does.
    pub upstream: Option<UpstreamSettings>,
    /// Scopes of the server that let their holder end anybody's session.
    pub admin_scopes: Vec<String>,
}

/// What becomes of the access tokens of a session that is revoked. Its refresh tokens die at once, API keys live on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AccessTokens {
    /// They die too.
    #[default]
    Strict,
    /// They are good until they expire, as at the server itself.
    AsOriginal,
}

impl AccessTokens {
    /// What a revoke reaches; `None` for the usual.
    fn reach(self) -> Option<Reach> {
        match self {
            Self::Strict => None,
            Self::AsOriginal => Some(Reach::from_iter([TokenKind::Refresh])),
        }
    }
}

/// Where the call is.
const PATH: &str = "/api/auth/session/revoke/{session_uid}";
/// The call in the audit trail.
const CALL: &str = "DELETE /api/auth/session/revoke/{session_uid}";

/// What its clients call.
pub(super) const CALLS: &[Call] = &[Call::own(Method::DELETE, PATH)];

/// What its call works with.
#[derive(Debug)]
struct Bluesky {
    admin: Arc<Admin>,
    settings: Arc<Settings>,
    upstream: Option<Upstream>,
}

/// Its calls.
pub(super) fn router(admin: &Arc<Admin>, settings: &Arc<Settings>) -> Router {
    let upstream = settings.upstream.as_ref().and_then(Upstream::new);
    let bluesky = Bluesky { admin: admin.clone(), settings: settings.clone(), upstream };
    Router::new().route(PATH, delete(revoke).fallback(wrong_method)).with_state(Arc::new(bluesky))
}

/// Its calls, described.
pub(super) fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    let components = document.components.get_or_insert_default();
    let key = |value| SecurityScheme::ApiKey(value);
    components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    components.add_security_scheme("key", key(ApiKey::Header(ApiKeyValue::new("Authorization"))));
    components.add_security_scheme("key_in_query", key(ApiKey::Query(ApiKeyValue::new("api_key"))));
    document
}

#[derive(OpenApi)]
#[openapi(
    info(title = "portcullis as bluesky-httpserver", description = "The session revoke of bluesky-httpserver."),
    paths(revoke),
    components(schemas(Done, Detail)),
    security(("token" = []), ("key" = []), ("key_in_query" = [])),
)]
struct Document;

/// That it is done.
#[derive(Debug, Serialize, ToSchema)]
struct Done {
    success: bool,
    msg: &'static str,
}

/// Why it is not.
#[derive(Debug, Serialize, ToSchema)]
struct Detail {
    /// In words.
    detail: String,
}

/// Revoke a session
///
/// One's own; with the right, anybody's. Its refresh tokens die at once, its access tokens as configured, API keys never.
#[utoipa::path(delete, path = "/api/auth/session/revoke/{session_uid}", tag = "auth",
    params(("session_uid" = String, Path, description = "The session, a UUID in any spelling")),
    responses((status = 200, description = "It is revoked, now or before", body = Done),
        (status = 400, description = "The credential cannot be read, or there is more than one", body = Detail),
        (status = 401, description = "The credential is not good", body = Detail),
        (status = 403, description = "The caller lacks the right, or the proof that a cookie needs", body = Detail),
        (status = 404, description = "No such session, or not the caller's", body = Detail),
        (status = 405, description = "Only DELETE is known", body = Detail),
        (status = 408, description = "The body did not arrive in time", body = Detail),
        (status = 413, description = "The body is too long", body = Detail),
        (status = 429, description = "Too many wrong credentials from this address", body = Detail),
        (status = 503, description = "Nobody can tell just now, or it cannot be written; retry", body = Detail)))]
async fn revoke(
    State(bluesky): State<Arc<Bluesky>>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let peer = request.extensions().get::<Arc<Peer>>().cloned();
    let id = id.map_or_else(|_| String::new(), |Path(id)| id);
    let Err(refused) = bluesky.end(&id, request, peer.as_deref()).await else {
        return Json(Done { success: true, msg: "" }).into_response();
    };
    let address = peer.map(|peer| peer.address.ip());
    bluesky.admin.turn_away(&refused.fault, address, CALL.to_owned()).await;
    refused.into_response()
}

async fn wrong_method() -> Response {
    let refused = Refused::saying(Fault::Method, StatusCode::METHOD_NOT_ALLOWED.as_u16(), "Method Not Allowed");
    ([(ALLOW, "DELETE")], refused).into_response()
}

impl Bluesky {
    /// Ends the session that `id` names, for whoever sent the request.
    async fn end(&self, id: &str, request: Request, peer: Option<&Peer>) -> Result<(), Refused> {
        let (parts, body) = request.into_parts();
        // Its client sends `{}`, which means nothing.
        whole(body).await?;
        let session: Uuid = id.parse().map_err(|_| Refused::no_session(id))?;
        let key = SessionKey { issuer: self.settings.mount.issuer.clone(), id: session.undashed().into() };
        match self.asker(&parts, session, peer).await? {
            Asker::Owner(caller) => self.revoke(&in_own_right(caller), key).await,
            Asker::Operator(identity) => {
                self.admin.demand(&identity, Access::Needs(Right::SessionsRevoke), CALL.to_owned()).await?;
                let is_known = self.admin.control.knows_session(&key).await?;
                self.revoke_known(is_known, &identity.caller, key).await
            }
            Asker::Administrator(caller, presented) => {
                let is_known = self.admin.control.knows_session(&key).await?;
                let is_known = is_known || self.lists(session, &presented).await?;
                self.revoke_known(is_known, &in_own_right(caller), key).await
            }
            Asker::Stranger(caller) => {
                self.admin.refuse_to(&caller, CALL, "not a session of the caller's own").await;
                Err(Refused::foreign(Fault::NotFound("no such session".to_owned())))
            }
        }
    }

    /// Ends a session that somebody else began: one that is known, or ended already.
    async fn revoke_known(&self, is_known: bool, caller: &Caller, key: SessionKey) -> Result<(), Refused> {
        if is_known { self.revoke(caller, key).await } else { Err(Refused::no_session(&key.id)) }
    }

    /// Whether the server, if there is one to ask, knows of a session that nobody here has seen.
    async fn lists(&self, session: Uuid, presented: &Presented) -> Result<bool, Refused> {
        match &self.upstream {
            Some(upstream) => upstream.lists(session, presented).await,
            None => Ok(false),
        }
    }

    async fn revoke(&self, caller: &Caller, key: SessionKey) -> Result<(), Refused> {
        let parts = [("issuer".to_owned(), key.issuer.to_string()), ("session".to_owned(), key.id.into())];
        let command = Revoke {
            target: Target::Selector(BTreeMap::from(parts)),
            reach: self.settings.access_tokens.reach(),
            cutoff: None,
            block: false,
            reason: None,
            expires_at: None,
        };
        self.admin.control.revoke(caller, command).await?;
        Ok(())
    }
}

/// The caller, with the right to end what was found to be theirs to end.
fn in_own_right(caller: Caller) -> Caller {
    let rights = [Right::SessionsRevoke].into_iter().collect();
    Caller { rights, ..caller }
}
