//! Our own API, `/v1`: JSON in and out, problem documents for what goes wrong, a file per resource.
//!
//! A call is added to the router by the very description that the OpenAPI document is made of: its path and its methods
//! are written once.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};
use utoipa::openapi::HttpMethod;

use crate::admin::door::{Access, demand, identify};
use crate::admin::{Admin, Fault};

mod audit;
mod bulk;
mod check;
mod events;
mod health;
mod invalidate;
mod lines;
mod me;
mod openapi;
mod paging;
mod password;
mod revocations;
mod search;
mod sessions;
mod spread;
mod status;
mod users;
mod wire;

#[cfg(test)]
pub(super) use wire::RevokeBody;

/// All native calls, health outside the door and the rest behind it.
pub(super) fn router(admin: &Arc<Admin>) -> Router<Arc<Admin>> {
    let calls = calls(admin);
    let document = openapi::document(&calls.registered);
    let behind = calls.add(openapi::__path_serve, Access::Any, openapi::handler(&document)).router;
    let behind = behind.fallback(nothing_here).method_not_allowed_fallback(wrong_method);
    let behind = behind.layer(from_fn_with_state(admin.clone(), identify));
    health::router().method_not_allowed_fallback(wrong_method).merge(behind)
}

/// The calls behind the door, but for the one that serves their description.
fn calls(admin: &Arc<Admin>) -> Calls {
    let calls = Calls { admin: admin.clone(), router: Router::new(), registered: Vec::new() };
    let calls = revocations::calls(calls);
    let calls = bulk::calls(calls);
    let calls = invalidate::calls(calls);
    let calls = check::calls(calls);
    let calls = sessions::calls(calls);
    let calls = users::calls(calls);
    let calls = me::calls(calls);
    let calls = password::calls(calls);
    let calls = status::calls(calls);
    let calls = audit::calls(calls);
    let calls = calls.add(openapi::__path_serve_dialect, Access::Any, openapi::serve_dialect);
    events::calls(calls)
}

/// The router as it grows, and what was put in.
struct Calls {
    admin: Arc<Admin>,
    router: Router<Arc<Admin>>,
    registered: Vec<Registered>,
}

/// One call in the router.
struct Registered {
    path: String,
    methods: Vec<HttpMethod>,
    access: Access,
}

impl Calls {
    /// Adds a call where its description says it is, for whom `access` says.
    fn add<P, H, T>(mut self, _described: P, access: Access, handler: H) -> Self
    where
        P: utoipa::Path,
        H: Handler<T, Arc<Admin>>,
        T: 'static,
    {
        let (path, methods) = (P::path(), P::methods());
        let handlers = methods.iter().map(filter).map(|filter| on(filter, handler.clone()));
        let door = from_fn_with_state((self.admin.clone(), access), demand);
        let call = handlers.fold(MethodRouter::new(), MethodRouter::merge).layer(door);
        self.router = self.router.route(&path, call);
        self.registered.push(Registered { path, methods, access });
        self
    }
}

const fn filter(method: &HttpMethod) -> MethodFilter {
    match method {
        HttpMethod::Post => MethodFilter::POST,
        HttpMethod::Delete => MethodFilter::DELETE,
        HttpMethod::Put => MethodFilter::PUT,
        HttpMethod::Patch => MethodFilter::PATCH,
        _ => MethodFilter::GET,
    }
}

async fn nothing_here() -> Fault {
    Fault::NotFound("no call has this path".to_owned())
}

async fn wrong_method() -> Fault {
    Fault::Method
}

/// The calls behind the door, but for the one that serves their description: method and path.
#[cfg(test)]
pub(super) fn registered(admin: &Arc<Admin>) -> Vec<(String, String)> {
    let name = |method: &HttpMethod| serde_json::to_value(method).unwrap().as_str().unwrap().to_uppercase();
    let calls = calls(admin).registered;
    for call in &calls {
        let own = call.path.starts_with(crate::admin::door::OWN_PATHS);
        assert_eq!(own, call.access == Access::Own, "{}: any user's token opens it, or none does", call.path);
    }
    let named = |call: &Registered| call.methods.iter().map(name).map(|method| (method, call.path.clone())).collect();
    calls.iter().flat_map(|call| -> Vec<_> { named(call) }).collect()
}
