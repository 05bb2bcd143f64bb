//! PrivX's session storage (`/auth/api/v1/sessionstorage`): whose sessions there are, and their end.
//!
//! Its client holds an access token of PrivX itself, so a vouched, living token of the mount's issuer is enough to be let
//! in, and what it may do there follows from PrivX's own scopes. Configured credentials and the tokens of rules are let in
//! as everywhere. Sessions are those of the mount's issuer; `source_id` is that issuer's configured name. What was
//! terminated leaves every list at once, and its tokens are dead before the answer goes out.
//!
//! | file | what |
//! |---|---|
//! | `scopes` | what PrivX's scopes come to here |
//! | `paging` | `offset`, `limit`, `sortkey`, `sortdir` |
//! | `list` | lists and the search |
//! | `end` | the terminate calls |
//! | `password` | a session's own password, for tools that can only send HTTP Basic |
//! | `words` | what goes wrong, as its clients read it |

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

use crate::admin::caller::{Accept, Shown};
use crate::admin::dialect::Call;
use crate::admin::door::{Access, call_name};
use crate::admin::{Admin, Fault, Mount};
use crate::domain::Right;
use crate::net::Peer;

mod end;
mod list;
mod paging;
mod password;
mod scopes;
mod words;

use words::Refused;

/// What the operator says of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Where it is served, and for whom.
    pub mount: Mount,
    /// How long a session password is good, whoever it is given by.
    pub session_password_ttl: Duration,
}

const USER_SESSIONS: &str = "/auth/api/v1/sessionstorage/users/{user_id}/sessions";
const OWN_SESSIONS: &str = "/auth/api/v1/sessionstorage/users/current/sessions";
const SOURCE_SESSIONS: &str = "/auth/api/v1/sessionstorage/sources/{source_id}/sessions";
const SEARCH: &str = "/auth/api/v1/sessionstorage/sessions/search";
const TERMINATE: &str = "/auth/api/v1/sessionstorage/sessions/{session_id}/terminate";
const TERMINATE_USER: &str = "/auth/api/v1/sessionstorage/users/{user_id}/sessions/terminate";
const TERMINATE_OWN: &str = "/auth/api/v1/sessionstorage/users/current/sessions/{session_id}/terminate";
const PASSWORD: &str = "/auth/api/v1/sessionstorage/users/current/sessionpassword";

/// What its clients call.
pub(super) const CALLS: &[Call] = &[
    Call::own(Method::GET, USER_SESSIONS),
    Call::own(Method::GET, OWN_SESSIONS),
    Call::own(Method::GET, SOURCE_SESSIONS),
    Call::own(Method::POST, SEARCH),
    Call::own(Method::POST, TERMINATE),
    Call::own(Method::POST, TERMINATE_USER),
    Call::own(Method::POST, TERMINATE_OWN),
    Call::own(Method::GET, PASSWORD),
];

/// What every call has at hand.
#[derive(Clone)]
struct Storage {
    admin: Arc<Admin>,
    settings: Arc<Settings>,
}

/// Its calls. The paths with `current` go before those with a user's id, as literal segments do.
pub(super) fn router(admin: &Arc<Admin>, settings: &Arc<Settings>) -> Router {
    let storage = Storage { admin: admin.clone(), settings: settings.clone() };
    let view = |call| storage.behind(Access::Needs(Right::SessionsRead), call);
    let manage = |call| storage.behind(Access::Needs(Right::SessionsRevoke), call);
    let own = |call| storage.behind(Access::Own, call);
    Router::new()
        .route(USER_SESSIONS, view(get(list::of_user)))
        .route(SOURCE_SESSIONS, view(get(list::of_source)))
        .route(SEARCH, view(post(list::search)))
        .route(TERMINATE, manage(post(end::session)))
        .route(TERMINATE_USER, manage(post(end::user)))
        .route(OWN_SESSIONS, own(get(list::own)))
        .route(TERMINATE_OWN, own(post(end::own)))
        .route(PASSWORD, own(get(password::issue)))
        .with_state(storage)
}

impl Storage {
    /// Puts the door before a call, and before what is said of other methods.
    fn behind(&self, access: Access, call: MethodRouter<Self>) -> MethodRouter<Self> {
        let door = from_fn_with_state((self.clone(), access), door);
        call.fallback(wrong_method).layer(door)
    }

    /// The configured name of the issuer whose sessions these are.
    fn source(&self) -> &str {
        &self.settings.mount.issuer_name
    }
}

/// Lets on who says who it is and may do what the call does; in PrivX's words when not, and audited.
async fn door(State((storage, access)): State<(Storage, Access)>, mut request: Request, next: Next) -> Response {
    let Storage { admin, settings } = &storage;
    let peer = request.extensions().get::<Arc<Peer>>().cloned();
    let call = call_name(&request);
    let accept = Accept::Issuer(settings.mount.issuer_name.clone());
    let recognised = admin.recognise(Shown::bearer(request.headers()), peer.as_deref(), &accept).await;
    let identity = match recognised {
        Ok(identity) => scopes::applied(identity, &settings.mount.issuer),
        Err(fault) => {
            admin.turn_away(&fault, peer.map(|peer| peer.address.ip()), call).await;
            return Refused::from(fault).into_response();
        }
    };
    if let Err(fault) = admin.demand(&identity, access, call).await {
        return Refused::from(fault).into_response();
    }
    request.extensions_mut().insert(identity);
    next.run(request).await
}

/// Refuses `current` for a user's id: it is whoever asks, in every spelling, and never somebody's name.
fn not_current(user: &str) -> Result<(), Fault> {
    if user == "current" { Err(Fault::NotFound("no such call of one's own".to_owned())) } else { Ok(()) }
}

async fn wrong_method() -> Refused {
    Fault::Method.into()
}

#[derive(OpenApi)]
#[openapi(
    info(title = "PrivX session storage", description = "The sessions of one issuer, as PrivX's own clients list and \
        terminate them. Times are RFC 3339; one that nobody knows is the year 1, as PrivX's own language writes an unset one."),
    paths(list::of_user, list::own, list::of_source, list::search, end::session, end::user, end::own, password::issue),
    components(schemas(words::Document)),
    security(("credential" = [])),
    tags((name = "sessionstorage", description = "Sessions")),
)]
struct Document;

/// Its calls, described.
pub(super) fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("credential", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    document
}
