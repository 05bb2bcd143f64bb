//! Onezone's calls to take tokens back (REST version 3): all temporary tokens of a user at once, and named ones one by one.
//!
//! | file | what |
//! |---|---|
//! | `asker` | who asks: by our own means, or because Onezone knows them |
//! | `temporary`, `named` | the calls |
//! | `upstream` | telling Onezone, which numbers the generations of the tokens it hands out |
//! | `reply` | its words |
//!
//! Users mind their own; whoever may end sessions here, or has `oz_tokens_manage` there, minds everybody's. A macaroon that
//! nobody vouches for opens nothing: either the configured secret verifies it, or Onezone is asked with it.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::http::Method;
use axum::routing::{MethodRouter, delete, get};
use tokio::sync::Semaphore;
use utoipa::OpenApi as _;

use crate::admin::dialect::Call;
use crate::admin::onezone::upstream::Upstream;
use crate::admin::{Admin, Mount};

mod asker;
mod named;
mod reply;
mod temporary;
mod upstream;

pub use upstream::UpstreamSettings;

/// What the operator says of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Where it is served, and for whom.
    pub mount: Mount,
    /// The Onezone that is told what is taken back here; without it the generations are counted here alone, and whoever hands
    /// out temporary tokens must read them here.
    pub upstream: Option<UpstreamSettings>,
}

/// What its clients call, each with a slash at the end and without.
pub(super) const CALLS: &[Call] = &[
    Call::own(Method::GET, "/api/v3/onezone/user/tokens/temporary"),
    Call::own(Method::GET, "/api/v3/onezone/user/tokens/temporary/"),
    Call::own(Method::DELETE, "/api/v3/onezone/user/tokens/temporary"),
    Call::own(Method::DELETE, "/api/v3/onezone/user/tokens/temporary/"),
    Call::own(Method::GET, "/api/v3/onezone/users/{id}/tokens/temporary"),
    Call::own(Method::GET, "/api/v3/onezone/users/{id}/tokens/temporary/"),
    Call::own(Method::DELETE, "/api/v3/onezone/users/{id}/tokens/temporary"),
    Call::own(Method::DELETE, "/api/v3/onezone/users/{id}/tokens/temporary/"),
    Call::own(Method::PATCH, "/api/v3/onezone/tokens/named/{id}"),
    Call::own(Method::PATCH, "/api/v3/onezone/tokens/named/{id}/"),
    Call::own(Method::DELETE, "/api/v3/onezone/tokens/named/{id}"),
    Call::own(Method::DELETE, "/api/v3/onezone/tokens/named/{id}/"),
];

/// Everything its calls work with.
pub(super) struct Onezone {
    admin: Arc<Admin>,
    settings: Arc<Settings>,
    upstream: Option<Upstream>,
    /// Where the generations are counted here, one call counts at a time.
    counting: Semaphore,
}

impl fmt::Debug for Onezone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Onezone").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Its calls.
pub(super) fn router(admin: &Arc<Admin>, settings: &Arc<Settings>) -> Router {
    let upstream = settings.upstream.as_ref().map(Upstream::new);
    let onezone =
        Arc::new(Onezone { admin: admin.clone(), settings: settings.clone(), upstream, counting: Semaphore::new(1) });
    let own = || get(temporary::show_own).delete(temporary::revoke_own).fallback(reply::only_get_and_delete);
    let users = || get(temporary::show).delete(temporary::revoke).fallback(reply::only_get_and_delete);
    let named = || delete(named::remove).patch(named::change).fallback(reply::only_patch_and_delete);
    let router = twice(Router::new(), "/api/v3/onezone/user/tokens/temporary", own);
    let router = twice(router, "/api/v3/onezone/users/{id}/tokens/temporary", users);
    twice(router, "/api/v3/onezone/tokens/named/{id}", named).with_state(onezone)
}

type State = Arc<Onezone>;

/// The path with a slash at the end and without.
fn twice(router: Router<State>, path: &str, calls: impl Fn() -> MethodRouter<State>) -> Router<State> {
    router.route(path, calls()).route(&format!("{path}/"), calls())
}

/// Its calls, described.
pub(super) fn openapi() -> utoipa::openapi::OpenApi {
    #[derive(utoipa::OpenApi)]
    #[openapi(
        info(title = "Onezone's tokens", description = "Temporary tokens of a user die all at once, by generation; named \
            ones one by one. Errors are Onezone's own."),
        paths(
            temporary::show_own, temporary::revoke_own, temporary::show, temporary::revoke, named::change, named::remove
        ),
        tags((name = "onezone", description = "As Onezone's REST interface has them"))
    )]
    struct Document;
    Document::openapi()
}
