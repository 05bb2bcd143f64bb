//! The OpenAPI document, generated from the calls themselves: paths and schemas from their types, the rights they need
//! from the router. What all calls behind the door answer alike is added to each here, once.

use std::future::ready;

use axum::body::Bytes;
use axum::extract::Path;
use axum::handler::Handler;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, HttpMethod, Ref, ResponseBuilder};

use crate::admin::door::Access;
use crate::admin::native::{
    Registered, audit, bulk, check, events, health, invalidate, me, password, revocations, sessions, status, users,
};
use crate::admin::{Admin, Fault, Problem, bluesky, elasticsearch, onezone, privx};

#[derive(OpenApi)]
#[openapi(
    info(title = "portcullis admin API", description = "Revoke tokens, and see what is revoked. Times are seconds since \
        the epoch. Unknown members and parameters are refused. Errors are problem documents (RFC 9457)."),
    paths(
        revocations::create, revocations::list, revocations::show, revocations::lift, bulk::import, bulk::export,
        invalidate::invalidate, check::check, sessions::list, sessions::show, sessions::end, users::list, users::end,
        me::list, me::end, me::end_all, password::create, status::status, status::metrics, audit::trail, events::events,
        health::alive, health::ready, serve, serve_dialect,
    ),
    components(schemas(Problem)),
    security(("credential" = []), ("certificate" = [])),
    tags(
        (name = "revocations", description = "Revoke, lift, look up"),
        (name = "sessions", description = "Search, show, end; and everybody's own"),
        (name = "audit", description = "Who did what, and what happens"),
        (name = "status", description = "How this replica is"),
        (name = "health", description = "For probes; the only calls without a credential"),
    ),
)]
struct Document;

/// The document of these calls.
pub(super) fn document(registered: &[Registered]) -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("credential", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    let certificate = SecurityScheme::MutualTls { description: None, deprecated: None, extensions: None };
    components.add_security_scheme("certificate", certificate);
    for call in registered {
        let Some(item) = document.paths.paths.get_mut(&call.path) else { continue };
        let operations = call.methods.iter().filter_map(|method| match method {
            HttpMethod::Post => item.post.take().map(|operation| (HttpMethod::Post, operation)),
            HttpMethod::Delete => item.delete.take().map(|operation| (HttpMethod::Delete, operation)),
            _ => item.get.take().map(|operation| (HttpMethod::Get, operation)),
        });
        let described: Vec<_> =
            operations.map(|(method, operation)| (method, behind_the_door(operation, call.access))).collect();
        for (method, operation) in described {
            let place = match method {
                HttpMethod::Post => &mut item.post,
                HttpMethod::Delete => &mut item.delete,
                _ => &mut item.get,
            };
            *place = Some(operation);
        }
    }
    document
}

/// Adds what every call behind the door says of itself.
fn behind_the_door(mut operation: Operation, access: Access) -> Operation {
    let needs = match access {
        Access::Needs(right) => format!("Needs the right `{right}`."),
        Access::Any => "Needs any right.".to_owned(),
        Access::Own => "Needs a user's own access token, of any issuer; it gives access to nothing else.".to_owned(),
    };
    let description = operation.description.take().filter(|text| !text.is_empty());
    operation.description = Some(description.map_or_else(|| needs.clone(), |text| format!("{text}\n\n{needs}")));
    for (status, description) in [
        ("400", "Something in the request is wrong"),
        ("401", "No valid credential"),
        ("403", "The caller lacks the right"),
        ("429", "Too many wrong credentials from this address"),
        ("503", "Not possible just now; retry"),
    ] {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        let problem = ResponseBuilder::new().description(description).content("application/problem+json", content);
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| problem.build().into());
    }
    operation
}

/// This document
#[utoipa::path(get, path = "/v1/openapi.json", tag = "status",
    responses((status = 200, description = "The OpenAPI document", content_type = "application/json", body = Object)))]
#[expect(dead_code, reason = "describes the call that `handler` makes")]
fn serve() {}

/// Serves the document, as text made once.
pub(super) fn handler(document: &utoipa::openapi::OpenApi) -> impl Handler<((),), Arc<Admin>> {
    // Plain data: turning it into JSON cannot fail.
    let text = Bytes::from(document.to_json().unwrap_or_default());
    move || ready(json(text.clone()))
}

fn json(text: Bytes) -> Response {
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

/// The document of one dialect, mounted or not
#[utoipa::path(get, path = "/v1/openapi/{dialect}", tag = "status",
    params(("dialect" = String, Path, description = "`elasticsearch.json`, `privx.json`, `onezone.json`, `bluesky.json`")),
    responses((status = 200, description = "The OpenAPI document", content_type = "application/json", body = Object),
        (status = 404, description = "No dialect has that name", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn serve_dialect(Path(name): Path<String>) -> Result<Response, Fault> {
    let document = match &*name {
        "elasticsearch.json" => elasticsearch::openapi(),
        "privx.json" => privx::openapi(),
        "onezone.json" => onezone::openapi(),
        "bluesky.json" => bluesky::openapi(),
        _ => return Err(Fault::NotFound("no dialect has that name".to_owned())),
    };
    Ok(json(document.to_json().unwrap_or_default().into()))
}
