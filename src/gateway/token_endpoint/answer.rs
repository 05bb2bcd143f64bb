//! What a client of a token endpoint is told in the upstream's place (RFC 6749 §5.2), so that it understands: log in again,
//! or mend the request. The real clients of some servers look for more than the RFC has, and get it beside.

use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, PRAGMA, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::domain::wording::{Wording, onezone};
use crate::domain::{Denial, Dialect};
use crate::gateway::body::Body;
use crate::gateway::token_endpoint::request::RequestFault;

/// Without it Elasticsearch's clients believe that they talk to something else.
const X_ELASTIC_PRODUCT: HeaderName = HeaderName::from_static("x-elastic-product");

/// The answer to a dead token.
#[must_use]
pub fn dead(dialect: Dialect, denial: Denial) -> Response<Body> {
    match (dialect, denial) {
        (Dialect::Onezone, Denial::Revoked) => worded(onezone::revoked_input()),
        (Dialect::Onezone, _) => worded(onezone::bad_input()),
        _ => invalid_grant(dialect),
    }
}

/// The answer to a dead refresh token, and to one that is none: the same bytes, whatever it died of.
#[must_use]
pub fn invalid_grant(dialect: Dialect) -> Response<Body> {
    let (status, description) = match dialect {
        Dialect::OAuth2 | Dialect::PrivX | Dialect::Onezone => {
            (StatusCode::BAD_REQUEST, "The refresh token is invalid, expired or revoked.")
        }
        // Its clients log in again at this sentence; another one makes them refresh once more.
        Dialect::Bluesky => (StatusCode::UNAUTHORIZED, "Session has expired. Please re-authenticate."),
        Dialect::Elasticsearch => (StatusCode::BAD_REQUEST, "token has been invalidated"),
    };
    let mut response = oauth(dialect, status, "invalid_grant", description);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// The answer to a request that is not forwarded.
#[must_use]
pub fn refuse(dialect: Dialect, fault: RequestFault) -> Response<Body> {
    if fault == RequestFault::Token {
        return dead(dialect, Denial::Malformed);
    }
    let mut response = match dialect {
        Dialect::Onezone => {
            worded(onezone::error(fault.status().as_u16(), onezone_id(fault), &fault.to_string(), None))
        }
        _ => oauth(dialect, fault.status(), "invalid_request", &fault.to_string()),
    };
    if fault == RequestFault::Method {
        let allowed = if dialect == Dialect::Elasticsearch { "POST, DELETE" } else { "POST" };
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    }
    response
}

const fn onezone_id(fault: RequestFault) -> &'static str {
    match fault {
        RequestFault::Malformed(_) | RequestFault::Token => "malformedData",
        RequestFault::TooLarge => "tokenTooLarge",
        RequestFault::Method => "notSupported",
    }
}

/// What a dialect has words of its own for.
fn worded(wording: Wording) -> Response<Body> {
    let status = StatusCode::from_u16(wording.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = document(status, &wording.body);
    for (name, value) in wording.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().append(HeaderName::from_static(name), value);
        }
    }
    response
}

fn oauth(dialect: Dialect, status: StatusCode, error: &str, description: &str) -> Response<Body> {
    let mut body = json!({ "error": error, "error_description": description });
    if let (Dialect::Bluesky, Some(members)) = (dialect, body.as_object_mut()) {
        members.insert("detail".to_owned(), description.into());
    }
    let mut response = document(status, &body);
    let headers = response.headers_mut();
    if dialect == Dialect::Elasticsearch {
        headers.insert(X_ELASTIC_PRODUCT, HeaderValue::from_static("Elasticsearch"));
    }
    response
}

fn document(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::whole(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn told(response: Response<Body>) -> (u16, Value) {
        let status = response.status().as_u16();
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[PRAGMA], "no-cache");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_dead_refresh_token_is_an_invalid_grant() {
        for dialect in [Dialect::OAuth2, Dialect::Elasticsearch] {
            let (status, body) = told(invalid_grant(dialect)).await;
            assert_eq!((status, &body["error"]), (400, &json!("invalid_grant")));
            assert!(body["error_description"].is_string());
        }
        assert_eq!(invalid_grant(Dialect::Elasticsearch).headers()[X_ELASTIC_PRODUCT], "Elasticsearch");
        let (status, body) = told(invalid_grant(Dialect::Bluesky)).await;
        assert_eq!((status, &body["detail"]), (401, &json!("Session has expired. Please re-authenticate.")));
        assert_eq!(body["error"], "invalid_grant");
    }

    #[tokio::test]
    async fn a_token_that_onezone_is_asked_about_is_input_and_no_credential() {
        let id = async |response| {
            let (status, body) = told(response).await;
            (status, body["error"]["id"].as_str().unwrap().to_owned())
        };
        assert_eq!(id(dead(Dialect::Onezone, Denial::Revoked)).await, (400, "tokenRevoked".to_owned()));
        assert_eq!(id(dead(Dialect::Onezone, Denial::Malformed)).await, (400, "badValueToken".to_owned()));
        assert_eq!(
            id(refuse(Dialect::Onezone, RequestFault::Malformed("no"))).await,
            (400, "malformedData".to_owned())
        );
        assert_eq!(refuse(Dialect::Onezone, RequestFault::Method).headers()[ALLOW], "POST");
    }

    #[tokio::test]
    async fn a_malformed_token_is_answered_as_a_dead_one() {
        let dead = told(invalid_grant(Dialect::OAuth2)).await;
        assert_eq!(told(refuse(Dialect::OAuth2, RequestFault::Token)).await, dead);
    }

    #[tokio::test]
    async fn a_refused_request_says_what_is_wrong_with_it() {
        let (status, body) = told(refuse(Dialect::OAuth2, RequestFault::Malformed("no"))).await;
        assert_eq!((status, body), (400, json!({ "error": "invalid_request", "error_description": "no" })));
        assert_eq!(told(refuse(Dialect::OAuth2, RequestFault::TooLarge)).await.0, 413);
        assert_eq!(refuse(Dialect::OAuth2, RequestFault::Method).headers()[ALLOW], "POST");
        assert_eq!(told(refuse(Dialect::Bluesky, RequestFault::Method)).await.0, 405);
        assert_eq!(told(refuse(Dialect::Bluesky, RequestFault::Malformed("no"))).await.1["detail"], "no");
    }
}
