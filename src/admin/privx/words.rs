//! What goes wrong, as PrivX's clients read it: an error code, a message, the property that is wrong, and `details` that
//! are always a list.

use axum::Json;
use axum::extract::{FromRequestParts, Path};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use utoipa::ToSchema;

use crate::admin::Fault;
use crate::control::ControlError;
use crate::domain::wording::privx::{
    BAD_REQUEST, GENERAL_ERROR, INVALID_REQUEST_DATA, PERMISSION_DENIED, error, scope_insufficient, unauthorized,
};

/// The longest id of a session, a user or a source, in bytes; no selector holds a longer one.
const MAX_ID_BYTES: usize = 1024;

/// Why a call did not do as asked.
#[derive(Debug)]
pub(super) struct Refused {
    fault: Fault,
    property: Option<&'static str>,
}

impl Refused {
    /// That member or parameter is not as it must be.
    pub(super) fn wrong(property: &'static str, expected: &str) -> Self {
        Self { fault: Fault::Invalid(format!("{property}: expected {expected}")), property: Some(property) }
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self { fault, property: None }
    }
}

impl From<ControlError> for Refused {
    fn from(error: ControlError) -> Self {
        Fault::from(error).into()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self { fault, property } = self;
        let status = fault.status();
        let said = match status {
            StatusCode::UNAUTHORIZED => unauthorized(),
            StatusCode::FORBIDDEN => scope_insufficient(),
            _ => error(status.as_u16(), code(status), &fault.detail(), property),
        };
        let mut response = (status, Json(said.body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(challenge) = fault.challenge() {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(secs) = fault.retry_after_secs() {
            headers.insert(RETRY_AFTER, secs.into());
        }
        response
    }
}

const fn code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            INVALID_REQUEST_DATA
        }
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::REQUEST_TIMEOUT => BAD_REQUEST,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => PERMISSION_DENIED,
        _ => GENERAL_ERROR,
    }
}

/// An error, as it is described.
#[derive(Debug, ToSchema)]
#[schema(as = Error)]
#[expect(dead_code, reason = "describes what `domain::wording::privx` writes")]
pub(super) struct Document {
    /// The kind of error, for programs.
    #[schema(example = "INVALID_REQUEST_DATA")]
    error_code: String,
    /// What is wrong, for people.
    error_message: String,
    /// The member or parameter that is wrong.
    #[schema(nullable = false)]
    property: Option<String>,
    /// More of the same; never null.
    details: Vec<Detail>,
}

/// One error of several.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "part of the description above")]
pub(super) struct Detail {
    error_code: String,
}

/// An id in the path, decoded: whatever its maker made it. What can be none is not there.
#[derive(Debug)]
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let text = Path::<String>::from_request_parts(parts, state).await.ok().map(|Path(text)| text);
        let fits = |text: &String| (1..=MAX_ID_BYTES).contains(&text.len()) && !text.contains('\0');
        text.filter(fits).map(Self).ok_or_else(|| Fault::NotFound("nothing has that id".to_owned()).into())
    }
}
