//! Why a call did not do as asked, in one vocabulary for every dialect, and how the native API says it: problem documents
//! (RFC 9457).
//!
//! A fault never repeats a token, never names the store's address, and says the same of an unknown credential and of a
//! wrong one. 503 always carries `Retry-After`: the same call may succeed then.

use std::time::Duration;

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::control::{ControlError, StoreError};
use crate::domain::{RevocationId, Right};

/// The longest detail sent, in characters; what it quotes of a request is cut off there.
const MAX_DETAIL_CHARS: usize = 512;

/// Why a call did not do as asked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// Something in the request is wrong; the text says what.
    #[error("{0}")]
    Invalid(String),
    /// Several things are wrong, and nothing was done.
    #[error("nothing was done; see errors")]
    AllInvalid(Vec<ItemError>),
    /// The request carries several credentials, and another party might believe another one.
    #[error("the request carries more than one credential")]
    Ambiguous,
    /// No credential.
    #[error("this needs a credential")]
    Anonymous,
    /// A credential that is none of ours, or no longer good.
    #[error("the credential is not valid")]
    Unauthenticated,
    /// The caller is known, but lacks this right; `None` when any one would do.
    #[error("this needs {}", .0.map_or("a right; the caller has none".to_owned(), |right| format!("the right {right}")))]
    Forbidden(Option<Right>),
    /// The caller is known, but is no user, and the call is about a user's own.
    #[error("this takes a user's own access token; no other credential has sessions of its own")]
    Ownerless,
    /// Nothing is there.
    #[error("{0}")]
    NotFound(String),
    /// Something is there, but not for this method.
    #[error("the method is not allowed here")]
    Method,
    /// The body stopped coming.
    #[error("the body did not arrive in time")]
    Timeout,
    /// The body is too long.
    #[error("the body may have at most {0} bytes")]
    TooLarge(usize),
    /// The body is of another type than the call takes.
    #[error("the body must be {0}, without a content coding")]
    MediaType(&'static str),
    /// This source has shown too many wrong credentials.
    #[error("too many wrong credentials from this address")]
    RateLimited(Duration),
    /// As many are under way as may be.
    #[error("too many {0} at once")]
    Busy(&'static str),
    /// It cannot be done, or cannot be known, just now.
    #[error("{0}")]
    Unavailable(&'static str),
    /// A bug, or a store that is broken; the log says more.
    #[error("the call failed; the log says why")]
    Internal,
}

/// What is wrong with one of many.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, ToSchema)]
pub struct ItemError {
    /// Where it stood in the request.
    #[schema(example = "tokens[3]")]
    pub at: String,
    /// What is wrong.
    #[schema(example = "that is no token of a known issuer: malformed")]
    pub error: String,
}

impl Fault {
    /// The status every dialect answers it with, unless its contract says otherwise.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) | Self::AllInvalid(_) | Self::Ambiguous => StatusCode::BAD_REQUEST,
            Self::Anonymous | Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::Ownerless => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy(_) | Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Its name and title in problem documents.
    const fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::Invalid(_) | Self::AllInvalid(_) => ("invalid", "The request is not valid"),
            Self::Ambiguous => ("ambiguous", "The request is ambiguous"),
            Self::Anonymous | Self::Unauthenticated => ("unauthenticated", "A valid credential is needed"),
            Self::Forbidden(_) => ("forbidden", "The caller lacks a right"),
            Self::Ownerless => ("forbidden", "The caller is no user"),
            Self::NotFound(_) => ("not-found", "Nothing is here"),
            Self::Method => ("method", "The method is not allowed"),
            Self::Timeout => ("timeout", "The request took too long"),
            Self::TooLarge(_) => ("too-large", "The body is too long"),
            Self::MediaType(_) => ("media-type", "The body is of the wrong type"),
            Self::RateLimited(_) => ("rate-limited", "Too many wrong credentials"),
            Self::Busy(_) => ("busy", "Too much at once"),
            Self::Unavailable(_) => ("unavailable", "Not possible just now"),
            Self::Internal => ("internal", "The call failed"),
        }
    }

    /// After how many seconds the same call may succeed.
    #[must_use]
    pub fn retry_after_secs(&self) -> Option<u64> {
        match self {
            Self::RateLimited(wait) => Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)),
            Self::Busy(_) => Some(5),
            Self::Unavailable(_) => Some(1),
            _ => None,
        }
    }

    /// What is wrong, in a sentence, of bounded length.
    #[must_use]
    pub fn detail(&self) -> String {
        self.to_string().chars().take(MAX_DETAIL_CHARS).collect()
    }

    /// What `WWW-Authenticate` says (RFC 6750 §3): no error code for a request without a credential.
    #[must_use]
    pub const fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::Anonymous => Some(r#"Bearer realm="portcullis admin""#),
            Self::Unauthenticated => Some(r#"Bearer realm="portcullis admin", error="invalid_token""#),
            _ => None,
        }
    }

    /// The document the native API sends.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let (name, title) = self.words();
        let errors = if let Self::AllInvalid(errors) = self { errors.clone() } else { Vec::new() };
        let status = self.status().as_u16();
        Problem { kind: format!("urn:portcullis:problem:{name}"), title, status, detail: self.detail(), errors }
    }
}

/// A problem document (RFC 9457 §3).
#[derive(Clone, Debug, Eq, PartialEq, Serialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem; stable, for programs.
    #[serde(rename = "type")]
    #[schema(example = "urn:portcullis:problem:forbidden")]
    pub kind: String,
    /// The kind in words.
    #[schema(value_type = String, example = "The caller lacks a right")]
    pub title: &'static str,
    /// The HTTP status.
    #[schema(example = 403)]
    pub status: u16,
    /// What was wrong with this very request.
    #[schema(example = "this needs the right sessions:revoke")]
    pub detail: String,
    /// What was wrong with each of many.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ItemError>,
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(self.problem())).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(challenge) = self.challenge() {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(secs) = self.retry_after_secs() {
            headers.insert(RETRY_AFTER, secs.into());
        }
        response
    }
}

impl From<ControlError> for Fault {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Forbidden(right) => Self::Forbidden(Some(right)),
            error @ (ControlError::Selector(_) | ControlError::Invalid(_) | ControlError::Token(_)) => {
                Self::Invalid(error.to_string())
            }
            ControlError::NotFound(id) => Self::unknown(id),
            error @ ControlError::NoSession => Self::NotFound(error.to_string()),
            ControlError::Busy => Self::Busy("calls that wait for all replicas"),
            ControlError::Blind => Self::Unavailable("this replica is not in step with the log"),
            ControlError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Unavailable("the store cannot be reached or cannot write; ask again"),
            StoreError::Lost(_) | StoreError::Trimmed(_) => {
                Self::Unavailable("the store lost data, which this replica is putting back; ask again")
            }
            error @ (StoreError::Corrupt(..) | StoreError::Unusable(..)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "an admin call met a broken store");
                Self::Internal
            }
        }
    }
}

impl Fault {
    fn unknown(id: RevocationId) -> Self {
        Self::NotFound(format!("no revocation {id}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_cannot_write_is_503_and_worth_a_retry() {
        let fault = Fault::from(StoreError::Unavailable("postgres://user:secret@host is down".into()));
        assert_eq!((fault.status().as_u16(), fault.retry_after_secs()), (503, Some(1)));
        assert!(!fault.problem().detail.contains("secret"));
    }

    #[test]
    fn a_detail_is_bounded_whatever_it_quotes() {
        assert_eq!(Fault::Invalid("é".repeat(70_000)).problem().detail.chars().count(), MAX_DETAIL_CHARS);
    }

    #[test]
    fn a_wait_of_a_fraction_of_a_second_is_rounded_up() {
        assert_eq!(Fault::RateLimited(Duration::from_millis(5_001)).retry_after_secs(), Some(6));
    }
}
