//! What a client is told when no upstream answers it: the one place where a refusal becomes a response.
//!
//! A dead token and a forged one get the same bytes (RFC 6750 §3.1 knows one `invalid_token`), so that nobody learns from a refusal
//! what was revoked. gRPC clients get the same status with `grpc-status` beside it as a trailers-only answer: those that look at
//! HTTP first and those that do not come to the same code, and nothing in between takes a denial for a success.

use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Method, Response, StatusCode, Version};

use crate::admission::Stop;
use crate::domain::wording::{Complaint, Wording};
use crate::domain::{Denial, Dialect};
use crate::gateway::body::Body;
use crate::gateway::refusal::{Form, Refusal, UpstreamFault};
use crate::gateway::story::Story;
use crate::gateway::token_endpoint::answer;
use crate::gateway::token_endpoint::request::RequestFault;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// For tools that ask for a password only when they are told that one is taken (RFC 7617 §2).
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"portcullis\", charset=\"UTF-8\"");
const INVALID_TOKEN: HeaderValue = HeaderValue::from_static("Bearer error=\"invalid_token\"");

/// The answer to a request that was refused.
pub(super) fn refuse(refusal: &Refusal, story: &Story) -> Response<Body> {
    match refusal {
        Refusal::Grant { dialect, denial } => return answer::dead(*dialect, *denial),
        Refusal::TokenRequest { fault, dialect } => return refuse_token_request(*fault, *dialect, story),
        _ => {}
    }
    let status = status(refusal);
    let mut response = match worded(refusal, story) {
        Some(wording) => in_its_words(wording, story),
        None => in_our_words(refusal, status, story),
    };
    let asks_for_password = response.status() == StatusCode::UNAUTHORIZED && story.takes_passwords();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if asks_for_password {
        headers.append(WWW_AUTHENTICATE, BASIC);
    }
    // Who refuses does not read the body to its end: what is left of it ends the connection, and that is said.
    if story.version < Version::HTTP_2 && (story.has_body || ends_connection(refusal)) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// An RFC 9457 problem document, or what gRPC has for it.
fn in_our_words(refusal: &Refusal, status: StatusCode, story: &Story) -> Response<Body> {
    let detail = detail(refusal);
    let mut response = Response::new(body(status, &detail, story));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    tell_remedy(headers, refusal);
    if story.is_grpc {
        tell_grpc(headers, status, &detail);
    } else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    }
    response
}

/// What the route's dialect says to it, if it has words for it.
fn worded(refusal: &Refusal, story: &Story) -> Option<Wording> {
    let route = story.route.as_ref().filter(|_| !story.is_grpc)?;
    let complaint = match refusal {
        Refusal::Stopped { stop: Stop::Ambiguous(_), .. } => Complaint::Ambiguous,
        Refusal::Stopped { stop: Stop::Blind(_), .. } => Complaint::Blind,
        Refusal::Stopped { stop: Stop::Denied(denial), .. } => match denial {
            Denial::Missing => Complaint::Missing,
            Denial::Malformed => Complaint::Malformed,
            Denial::Expired if let Some(wording) = route.dialect.expired() => return Some(wording),
            Denial::Revoked => Complaint::Revoked,
            Denial::Scope => Complaint::Scope,
            _ => Complaint::Invalid,
        },
        _ => return None,
    };
    route.dialect.wording(complaint)
}

fn in_its_words(wording: Wording, story: &Story) -> Response<Body> {
    let status = StatusCode::from_u16(wording.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = if story.method == Method::HEAD { Body::EMPTY } else { Body::whole(wording.body.to_string().into()) };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in wording.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn refuse_token_request(fault: RequestFault, dialect: Dialect, story: &Story) -> Response<Body> {
    let mut response = answer::refuse(dialect, fault);
    // By the head alone, or by what was read: what is left of the body was not.
    if story.version < Version::HTTP_2 && story.has_body {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Form(_)
        | Refusal::UploadBroken
        | Refusal::Grant { .. }
        | Refusal::TokenRequest { .. }
        | Refusal::Stopped { stop: Stop::Ambiguous(_), .. } => StatusCode::BAD_REQUEST,
        Refusal::UriTooLong => StatusCode::URI_TOO_LONG,
        Refusal::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Refusal::NoRoute => StatusCode::NOT_FOUND,
        Refusal::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::Stopped { stop: Stop::Denied(Denial::Scope), .. } => StatusCode::FORBIDDEN,
        Refusal::Stopped { stop: Stop::Denied(_), .. } => StatusCode::UNAUTHORIZED,
        Refusal::Stopped { stop: Stop::Blind(_), .. } => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::UploadStalled => StatusCode::REQUEST_TIMEOUT,
        Refusal::Upstream(UpstreamFault::ConnectTimeout | UpstreamFault::Timeout) => StatusCode::GATEWAY_TIMEOUT,
        Refusal::Upstream(_) => StatusCode::BAD_GATEWAY,
    }
}

fn detail(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Form(Form::Path(fault)) => return fault.to_string(),
        Refusal::Form(Form::Host) => "the request must name one host",
        Refusal::Form(Form::Framing) => "the request's length can be read in more than one way",
        Refusal::Form(Form::Connect) => "CONNECT is not served here",
        Refusal::Form(Form::Handshake) => "the upgrade's handshake is not well-formed",
        Refusal::UriTooLong => "the request target is too long",
        Refusal::TooManyHeaders => "the request has too many header fields",
        Refusal::NoRoute => "nothing is served under this host and path",
        Refusal::Method { .. } => "this path has other methods",
        Refusal::Stopped { stop: Stop::Denied(Denial::Missing), .. } => "a token is needed",
        Refusal::Stopped { stop: Stop::Denied(Denial::Scope), .. } => "the token lacks a scope",
        Refusal::Stopped { stop: Stop::Denied(_), .. } => "the token is not valid",
        Refusal::Stopped { stop: Stop::Ambiguous(why) | Stop::Blind(why), .. } => why,
        Refusal::Grant { .. } => "the refresh token is not valid",
        Refusal::TokenRequest { fault, .. } => return fault.to_string(),
        Refusal::BodyTooLarge => "the request's body is too large",
        Refusal::UploadStalled => "the request's body did not come in time",
        Refusal::UploadBroken => "the request's body broke off",
        Refusal::Upstream(UpstreamFault::Connect) => "the upstream cannot be reached",
        Refusal::Upstream(UpstreamFault::ConnectTimeout) => "the upstream could not be reached in time",
        Refusal::Upstream(UpstreamFault::Timeout) => "the upstream did not answer in time",
        Refusal::Upstream(UpstreamFault::Reset) => "the upstream broke off before it answered",
        Refusal::Upstream(UpstreamFault::Protocol) => "the upstream's answer makes no sense",
    }
    .to_owned()
}

/// An RFC 9457 problem document; no body where a client may not expect one.
fn body(status: StatusCode, detail: &str, story: &Story) -> Body {
    if story.method == Method::HEAD || story.is_grpc {
        return Body::EMPTY;
    }
    let problem = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": detail,
    });
    Body::whole(Bytes::from(problem.to_string()))
}

/// What the client can do about it.
fn tell_remedy(headers: &mut HeaderMap, refusal: &Refusal) {
    match refusal {
        Refusal::Method { allow } => {
            headers.insert(ALLOW, allow.clone());
        }
        Refusal::Stopped { stop: Stop::Denied(denial), scope } => {
            headers.insert(WWW_AUTHENTICATE, challenge(*denial, scope.as_deref()));
        }
        Refusal::Stopped { stop: Stop::Blind(_), .. } => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        _ => {}
    }
}

/// RFC 6750 §3: no error code when there was no token, the scopes when they were too few.
fn challenge(denial: Denial, scope: Option<&str>) -> HeaderValue {
    let plain = HeaderValue::from_static("Bearer error=\"insufficient_scope\"");
    match (denial, scope) {
        (Denial::Missing, _) => HeaderValue::from_static("Bearer"),
        (Denial::Scope, None) => plain,
        (Denial::Scope, Some(scope)) => {
            HeaderValue::from_str(&format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"")).unwrap_or(plain)
        }
        _ => INVALID_TOKEN,
    }
}

/// A trailers-only answer, after the codes of the gRPC documents (`statuscodes.md`).
fn tell_grpc(headers: &mut HeaderMap, status: StatusCode, detail: &str) {
    let code = match status {
        StatusCode::UNAUTHORIZED => "16",
        StatusCode::FORBIDDEN => "7",
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => "12",
        StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => "4",
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => "14",
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::URI_TOO_LONG | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "8",
        _ => "13",
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from_static(code));
    if let Ok(message) = HeaderValue::from_str(detail) {
        headers.insert(GRPC_MESSAGE, message);
    }
}

/// Whether nothing more may be read from an HTTP/1 connection: where the next request begins is in doubt.
const fn ends_connection(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::Form(_)
            | Refusal::UriTooLong
            | Refusal::TooManyHeaders
            | Refusal::BodyTooLarge
            | Refusal::UploadStalled
            | Refusal::UploadBroken
    )
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use hyper::Request;

    use super::*;

    fn story(method: Method, version: Version, content_type: &str) -> Story {
        let request = Request::builder().method(method).version(version).header(CONTENT_TYPE, content_type);
        Story::new(&request.body(()).unwrap())
    }

    fn plain() -> Story {
        story(Method::GET, Version::HTTP_11, "text/plain")
    }

    fn denied(denial: Denial) -> Refusal {
        Refusal::Stopped { stop: Stop::Denied(denial), scope: Some("read write".into()) }
    }

    async fn told(refusal: &Refusal, story: &Story) -> (StatusCode, HeaderMap, String) {
        let (parts, body) = refuse(refusal, story).into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn every_bad_token_gets_the_very_same_answer() {
        let good_for_nothing = Denial::ALL.into_iter().filter(|d| !matches!(d, Denial::Missing | Denial::Scope));
        let revoked = told(&denied(Denial::Revoked), &plain()).await;
        for denial in good_for_nothing {
            assert_eq!(told(&denied(denial), &plain()).await, revoked, "{denial}");
        }
        assert_eq!(revoked.0, StatusCode::UNAUTHORIZED);
        assert_eq!(revoked.1[WWW_AUTHENTICATE], "Bearer error=\"invalid_token\"");
    }

    #[tokio::test]
    async fn a_missing_token_and_a_missing_scope_are_told_apart() {
        let (status, headers, _) = told(&denied(Denial::Missing), &plain()).await;
        assert_eq!((status.as_u16(), headers[WWW_AUTHENTICATE].to_str().unwrap()), (401, "Bearer"));
        let (status, headers, _) = told(&denied(Denial::Scope), &plain()).await;
        let challenge = "Bearer error=\"insufficient_scope\", scope=\"read write\"";
        assert_eq!((status.as_u16(), headers[WWW_AUTHENTICATE].to_str().unwrap()), (403, challenge));
    }

    #[tokio::test]
    async fn a_blind_gate_says_try_again() {
        let blind = Refusal::Stopped { stop: Stop::Blind("not in step"), scope: None };
        let (status, headers, body) = told(&blind, &plain()).await;
        assert_eq!((status.as_u16(), &headers[RETRY_AFTER]), (503, &HeaderValue::from_static("1")));
        let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["title"], "Service Unavailable");
        assert_eq!(problem["detail"], "not in step");
    }

    #[tokio::test]
    async fn an_ambiguous_request_ends_its_http1_connection() {
        let (status, headers, _) = told(&Refusal::Form(Form::Host), &plain()).await;
        assert_eq!((status.as_u16(), &headers[CONNECTION]), (400, &HeaderValue::from_static("close")));
        let http2 = story(Method::GET, Version::HTTP_2, "text/plain");
        assert!(!told(&Refusal::Form(Form::Host), &http2).await.1.contains_key(CONNECTION));
        assert!(!told(&denied(Denial::Revoked), &plain()).await.1.contains_key(CONNECTION));
    }

    #[tokio::test]
    async fn grpc_clients_get_a_trailers_only_answer() {
        let grpc = story(Method::POST, Version::HTTP_2, "application/grpc+proto");
        let (status, headers, body) = told(&denied(Denial::Revoked), &grpc).await;
        assert_eq!((status.as_u16(), body.as_str()), (401, ""));
        assert_eq!(
            (&headers[CONTENT_TYPE], &headers[GRPC_STATUS]),
            (&"application/grpc".parse().unwrap(), &"16".parse().unwrap())
        );
        let timeout = told(&Refusal::Upstream(UpstreamFault::Timeout), &grpc).await;
        assert_eq!(timeout.1[GRPC_STATUS], "4");
    }

    #[tokio::test]
    async fn head_gets_no_body() {
        let head = story(Method::HEAD, Version::HTTP_2, "text/plain");
        assert!(refuse(&Refusal::NoRoute, &head).body().size_hint_is_zero());
    }

    impl Body {
        fn size_hint_is_zero(&self) -> bool {
            hyper::body::Body::size_hint(self).exact() == Some(0)
        }
    }
}
