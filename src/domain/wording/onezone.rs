//! Onezone's errors: an id, a description nobody may rely on, and details in which another error may nest.

use serde_json::{Value, json};

use crate::domain::wording::{Complaint, Wording};

/// Every reply of its REST interface may be read by any origin.
pub const ANY_ORIGIN: (&str, &str) = ("access-control-allow-origin", "*");

/// What is said on a route.
#[must_use]
pub fn refusal(complaint: Complaint) -> Wording {
    match complaint {
        Complaint::Missing => unauthorized(None),
        Complaint::Malformed => unauthorized(Some(bad_token())),
        Complaint::Invalid => unauthorized(Some(invalid_token())),
        Complaint::Revoked => unauthorized(Some(revoked())),
        Complaint::Scope => error(403, "forbidden", "You are not authorized to perform this operation.", None),
        Complaint::Ambiguous => error(400, "malformedData", "The request has more than one credential.", None),
        Complaint::Blind => error(503, "serviceUnavailable", "Revocations cannot be looked up just now.", None),
    }
}

/// One error.
#[must_use]
pub fn error(status: u16, id: &str, description: &str, details: Option<Value>) -> Wording {
    let mut error = token_error(id, description);
    if let (Some(details), Some(members)) = (details, error.as_object_mut()) {
        members.insert("details".to_owned(), details);
    }
    Wording::new(status, json!({ "error": error })).with(ANY_ORIGIN.0, ANY_ORIGIN.1)
}

/// Nobody, or somebody whose credentials are bad: then `why` says how.
#[must_use]
pub fn unauthorized(why: Option<Value>) -> Wording {
    match why {
        None => error(401, "unauthorized", "You must authenticate yourself to perform this operation.", None),
        Some(why) => {
            let details = json!({ "authError": why });
            error(401, "unauthorized", "Provided authentication is not valid (see details).", Some(details))
        }
    }
}

/// What is said of a token that was taken back.
#[must_use]
pub fn revoked() -> Value {
    token_error("tokenRevoked", "Provided token has been revoked.")
}

/// What is said of a revoked token that a call is about: it is input there, and nobody's credential.
#[must_use]
pub fn revoked_input() -> Wording {
    error(400, "tokenRevoked", "Provided token has been revoked.", None)
}

/// What is said of such a text that is no token.
#[must_use]
pub fn bad_input() -> Wording {
    let why = bad_token();
    let details = json!({ "key": "token", "tokenError": why });
    error(400, "badValueToken", "Bad value: provided \"token\" is not a valid token (see details).", Some(details))
}

/// What is said of a text that is no token.
#[must_use]
pub fn bad_token() -> Value {
    token_error("badToken", "Provided token could not be understood.")
}

/// What is said of a token that nobody vouches for.
#[must_use]
pub fn invalid_token() -> Value {
    token_error("tokenInvalid", "Provided token is not a valid token.")
}

/// An error as it nests in another.
#[must_use]
pub fn token_error(id: &str, description: &str) -> Value {
    json!({ "id": id, "description": description })
}
