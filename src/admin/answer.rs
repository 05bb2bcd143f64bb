//! What every answer of the admin side has in common, good or bad: it is counted, not cached, not sniffed, not framed, and
//! no other origin may read it. There is no CORS here on purpose.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;

use crate::admin::Admin;
use crate::admin::door::call_name;

/// Puts this layer around all routes and fallbacks of `router`.
pub(super) fn around(router: Router, admin: &Arc<Admin>) -> Router {
    router.layer(from_fn_with_state(admin.clone(), answer))
}

async fn answer(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let call = call_name(&request);
    let mut response = next.run(request).await;
    admin.metrics.admin_request(&call, response.status().as_u16());
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
