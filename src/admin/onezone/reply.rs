//! Onezone's words, as answers.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::Fault;
use crate::control::ControlError;
use crate::domain::wording::{Wording, onezone};

const RETRY_AFTER: &str = "retry-after";

/// What is said instead of what was asked for, in a box: it is large, and rare.
pub(super) type Refusal = Box<Wording>;

/// An error as Onezone writes one.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorDocument {
    /// The error: an `id`, a `description` that nobody may rely on, and perhaps `details`.
    pub(super) error: ErrorBody,
}

/// The error itself.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    /// What is wrong, for programs.
    #[schema(example = "forbidden")]
    pub(super) id: String,
    /// The same for people.
    pub(super) description: String,
}

/// What is said, as an answer.
pub(super) fn said(wording: &Wording) -> Response {
    let status = StatusCode::from_u16(wording.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, axum::Json(&wording.body)).into_response();
    for (name, value) in &wording.headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// What came of a call: nothing to say, or why not.
pub(super) fn done(outcome: Result<(), Refusal>) -> Response {
    let nothing = (StatusCode::NO_CONTENT, [(ACCESS_CONTROL_ALLOW_ORIGIN, "*")]);
    outcome.map_or_else(|refusal| said(&refusal), |()| nothing.into_response())
}

/// A document, or why not.
pub(super) fn shown<T: Serialize>(outcome: Result<T, Refusal>) -> Response {
    let document = |document: T| ([(ACCESS_CONTROL_ALLOW_ORIGIN, "*")], axum::Json(document)).into_response();
    outcome.map_or_else(|refusal| said(&refusal), document)
}

/// The answer to another method.
pub(super) async fn only_get_and_delete() -> Response {
    not_allowed("GET, DELETE, HEAD")
}

/// The answer to another method.
pub(super) async fn only_patch_and_delete() -> Response {
    not_allowed("PATCH, DELETE")
}

fn not_allowed(methods: &'static str) -> Response {
    let wording = onezone::error(405, "notSupported", "This method is not supported here.", None);
    let mut response = said(&wording);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

/// A fault in its words; `why` says what is wrong with the credentials, where they are to blame.
pub(super) fn worded(fault: &Fault, why: Option<serde_json::Value>) -> Refusal {
    let status = fault.status().as_u16();
    let detail = fault.detail();
    let wording = match fault {
        Fault::Anonymous => onezone::unauthorized(None),
        Fault::Unauthenticated => onezone::unauthorized(Some(why.unwrap_or_else(onezone::bad_token))),
        Fault::Forbidden(_) | Fault::Ownerless => forbidden(None),
        Fault::NotFound(_) => onezone::error(status, "notFound", "The resource could not be found.", None),
        Fault::Internal => onezone::error(status, "internalServerError", &detail, None),
        Fault::MediaType(_) => onezone::error(status, "notSupported", &detail, None),
        Fault::RateLimited(_) => onezone::error(status, "temporaryFailure", &detail, None),
        Fault::Busy(_) | Fault::Unavailable(_) => onezone::error(status, "serviceUnavailable", &detail, None),
        _ => onezone::error(status, "malformedData", &detail, None),
    };
    let again = fault.retry_after_secs().map(|secs| secs.to_string());
    Box::new(match again {
        Some(secs) => wording.with(RETRY_AFTER, secs),
        None => wording,
    })
}

/// The longest id, in bytes: a longer one could not be revoked.
const MAX_ID_BYTES: usize = 1024;

/// An id in the path, as it came.
pub(super) type PathId = Result<Path<String>, PathRejection>;

/// The id in a path, if some user or token could have it. What could be another path to whoever is told is none.
pub(super) fn identifier(path: PathId) -> Result<String, Refusal> {
    let id = path.ok().map(|Path(id)| id).filter(|id| is_identifier(id));
    id.ok_or_else(|| {
        let details = serde_json::json!({ "key": "id" });
        let text = "Bad value: provided \"id\" is not a valid identifier.";
        Box::new(onezone::error(400, "badValueIdentifier", text, Some(details)))
    })
}

fn is_identifier(id: &str) -> bool {
    let parts_paths = |letter: char| matches!(letter, '/' | '\\') || letter.is_control();
    (1..=MAX_ID_BYTES).contains(&id.len()) && !matches!(id, "." | "..") && !id.contains(parts_paths)
}

/// Nothing has that id.
pub(super) fn not_found() -> Refusal {
    worded(&Fault::NotFound(String::new()), None)
}

/// The caller is known and may not.
pub(super) fn forbidden(hint: Option<&str>) -> Wording {
    let details = hint.map(|hint| serde_json::json!({ "hint": hint }));
    onezone::error(403, "forbidden", "You are not authorized to perform this operation.", details)
}

/// It cannot be done just now; `details` say what stands all the same.
pub(super) fn unavailable(description: &str, details: Option<serde_json::Value>) -> Refusal {
    Box::new(onezone::error(503, "serviceUnavailable", description, details).with(RETRY_AFTER, "1"))
}

/// Why a command was not carried out. What nobody could name is nowhere to be found.
pub(super) fn refused(error: ControlError) -> Refusal {
    match error {
        ControlError::Selector(_) => not_found(),
        error => worded(&error.into(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_nothing_that_could_be_another_path() {
        for good in ["c26bab23d12f7389c3c311caf9c15902", "a b", "é", "...", "a.b"] {
            assert!(is_identifier(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "/", "a\\b", "a\n", "\0", &"x".repeat(1025)] {
            assert!(!is_identifier(bad), "{bad:?}");
        }
    }
}
