//! The calls, described. What is here is never called: the handlers take a request whole, since what is wrong with it is
//! said in another system's words.

use std::collections::BTreeMap;

use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::{OpenApi, ToSchema};

/// Its calls, described.
pub(in crate::admin) fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    let components = document.components.get_or_insert_default();
    for (name, scheme) in [("bearer", HttpAuthScheme::Bearer), ("basic", HttpAuthScheme::Basic)] {
        components.add_security_scheme(name, SecurityScheme::Http(Http::new(scheme)));
    }
    let api_key = ApiKeyValue::with_description("Authorization", "`ApiKey` and the base64 of `name:secret`");
    components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(api_key)));
    document
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Elasticsearch's invalidate token", description = "As the official clients call it. `username` and \
        `secret` of HTTP Basic and of an API key are a configured credential's. Needs the right `sessions:revoke`, which \
        is `manage_token` there."),
    paths(invalidate, invalidate_legacy, banner),
    components(schemas(Invalidate, Tally, Detail, Failure, Cause, Banner)),
    security(("bearer" = []), ("basic" = []), ("api_key" = [])),
)]
struct Document;

/// A token, or whose tokens. One of `token` and `refresh_token`; or `realm_name`, `username`, or both.
#[derive(serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what `request` reads")]
struct Invalidate {
    /// An access token.
    token: Option<String>,
    /// A refresh token.
    refresh_token: Option<String>,
    /// Everybody's in this realm; with `username`, that user's.
    realm_name: Option<String>,
    /// This user's, in all realms or in `realm_name`.
    username: Option<String>,
}

/// What became of the tokens.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what is written")]
struct Tally {
    /// Live until now.
    invalidated_tokens: u64,
    /// Dead before.
    previously_invalidated_tokens: u64,
    /// Those that could not be invalidated.
    error_count: u64,
    /// Why; only when there are any, and then a hundred at most.
    error_details: Option<Vec<Detail>>,
}

/// Why some tokens could not be invalidated.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what is written")]
struct Detail {
    /// The kind of failure.
    r#type: String,
    /// What happened.
    reason: String,
}

/// An error.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what is written")]
struct Failure {
    /// What is wrong.
    error: Cause,
    /// The HTTP status.
    status: u16,
}

/// What is wrong.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what is written")]
struct Cause {
    /// The kind of error.
    r#type: String,
    /// What is wrong with this very request.
    reason: String,
    /// The same once more: what the clients quote.
    #[schema(min_items = 1)]
    root_cause: Vec<Detail>,
    /// What brought it about.
    caused_by: Option<Detail>,
    /// What the answer's headers say, where that matters to a client.
    header: Option<BTreeMap<String, serde_json::Value>>,
}

/// Whom a client talks to.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what is written")]
struct Banner {
    /// The node.
    name: String,
    /// What it takes us for.
    version: BTreeMap<String, serde_json::Value>,
    /// What it looks for.
    tagline: String,
}

/// Invalidate tokens
///
/// An access token and the refresh token of the same login are independent. A wide request counts both halves of every
/// pair of which one is active.
#[utoipa::path(delete, path = "/_security/oauth2/token", tag = "token", request_body = Invalidate,
    params(("pretty" = Option<bool>, Query, description = "Indent the answer"),
        ("human" = Option<bool>, Query, description = "Accepted; changes nothing"),
        ("error_trace" = Option<bool>, Query, description = "Accepted; changes nothing"),
        ("filter_path" = Option<String>, Query, description = "Accepted; changes nothing")),
    responses(
        (status = 200, description = "What became of them", body = Tally),
        (status = 404, description = "Nobody knows that token; the counts are 0", body = Tally),
        (status = 400, description = "Something in the request is wrong", body = Failure),
        (status = 401, description = "No valid credential", body = Failure),
        (status = 403, description = "The caller lacks the right", body = Failure),
        (status = 405, description = "Another method is taken here", body = Failure),
        (status = 408, description = "The body did not come", body = Failure),
        (status = 413, description = "The body is too long", body = Failure),
        (status = 415, description = "The body is no JSON, or compressed", body = Failure),
        (status = 429, description = "Too many wrong credentials from this address", body = Failure),
        (status = 503, description = "Not possible just now; retry", body = Failure)))]
#[expect(dead_code, reason = "describes a call")]
fn invalidate() {}

/// Invalidate tokens, for clients of major 6
///
/// Answers with a warning that it is deprecated.
#[utoipa::path(delete, path = "/_xpack/security/oauth2/token", tag = "token", request_body = Invalidate,
    responses(
        (status = 200, description = "What became of them", body = Tally),
        (status = 404, description = "Nobody knows that token; the counts are 0", body = Tally),
        (status = "4XX", description = "As on the other path", body = Failure),
        (status = 503, description = "Not possible just now; retry", body = Failure)))]
#[expect(dead_code, reason = "describes a call")]
fn invalidate_legacy() {}

/// Say who this is
///
/// What clients of major 7 ask first. Needs any right.
#[utoipa::path(get, path = "/", tag = "product",
    responses((status = 200, description = "Somebody they talk to", body = Banner),
        (status = "4XX", description = "As on the other paths", body = Failure),
        (status = 503, description = "Not possible just now; retry", body = Failure)))]
#[expect(dead_code, reason = "describes a call")]
fn banner() {}
