//! What went wrong, and how a bluesky-httpserver says it: a status, and a document with `detail`.

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::admin::Fault;
use crate::control::ControlError;
use crate::domain::wording::Wording;
use crate::domain::wording::bluesky::{self, Sentence};

/// The longest text of the server's that is repeated, in characters.
const MAX_DETAIL_CHARS: usize = 512;

/// A call that was not carried out.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    /// Why, for the audit trail.
    pub(super) fault: Fault,
    wording: Wording,
}

impl Refused {
    /// Something else than the fault's own words.
    pub(super) fn saying(fault: Fault, status: u16, detail: &str) -> Self {
        let detail: String = detail.chars().take(MAX_DETAIL_CHARS).collect();
        Self { fault, wording: bluesky::error(status, &detail) }
    }

    /// One of the server's sentences.
    pub(super) fn sentence(fault: Fault, sentence: Sentence) -> Self {
        let (status, detail) = sentence.words();
        Self::saying(fault, status, detail)
    }

    /// What is no API key, or nobody's.
    pub(super) fn key() -> Self {
        Self::sentence(Fault::Unauthenticated, Sentence::BadKey)
    }

    /// What is no access token, or none that counts.
    pub(super) fn token() -> Self {
        Self::sentence(Fault::Unauthenticated, Sentence::BadToken)
    }

    /// An access token that is too old: every client's turns into one sooner or later, so it counts against nobody.
    pub(super) fn expired() -> Self {
        Self::sentence(Fault::Invalid("the token has expired".to_owned()), Sentence::Expired)
    }

    /// Which of several credentials counts would be a guess.
    pub(super) fn ambiguous() -> Self {
        Self::sentence(Fault::Ambiguous, Sentence::Ambiguous)
    }

    /// A session that does not exist, or is somebody else's: the same words, so that nobody learns which.
    pub(super) fn foreign(fault: Fault) -> Self {
        Self::sentence(fault, Sentence::Foreign)
    }

    /// A text that names no session.
    pub(super) fn no_session(text: &str) -> Self {
        let detail = format!("No session {}", text.chars().take(64).collect::<String>());
        Self::saying(Fault::NotFound(detail.clone()), 404, &detail)
    }

    /// Whether it is for a credential that is nobody's.
    pub(super) fn is_wrong_credential(&self) -> bool {
        self.fault == Fault::Unauthenticated
    }

    #[cfg(test)]
    pub(super) const fn status(&self) -> u16 {
        self.wording.status
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Anonymous => Self::foreign(Fault::Anonymous),
            Fault::Unauthenticated => Self::token(),
            Fault::Ambiguous => Self::ambiguous(),
            Fault::Forbidden(_) => {
                let detail = format!("Not enough permissions. {}", fault.detail());
                Self::saying(fault, 403, &detail)
            }
            fault => Self::saying(fault.clone(), fault.status().as_u16(), &fault.detail()),
        }
    }
}

impl From<ControlError> for Refused {
    fn from(error: ControlError) -> Self {
        Fault::from(error).into()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.wording.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.wording.body)).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(secs) = self.fault.retry_after_secs() {
            headers.insert(RETRY_AFTER, secs.into());
        }
        response
    }
}
