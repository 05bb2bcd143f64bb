//! PrivX's error documents: a code for programs, a message for people, and `details` that are a list also when there are
//! none, since a client prints every entry.

use serde_json::json;

use crate::domain::wording::{Complaint, Wording};

/// The request cannot be done, and nothing in it alone is to blame.
pub const BAD_REQUEST: &str = "BAD_REQUEST";
/// Something in the request is wrong.
pub const INVALID_REQUEST_DATA: &str = "INVALID_REQUEST_DATA";
/// The caller is nobody, or lacks a scope.
pub const PERMISSION_DENIED: &str = "PERMISSION_DENIED";
/// The fault is not the caller's.
pub const GENERAL_ERROR: &str = "GENERAL_ERROR";

/// What is said on a route.
#[must_use]
pub fn refusal(complaint: Complaint) -> Wording {
    match complaint {
        Complaint::Missing => unauthorized().with("www-authenticate", "Bearer"),
        Complaint::Malformed | Complaint::Invalid | Complaint::Revoked => {
            unauthorized().with("www-authenticate", r#"Bearer error="invalid_token""#)
        }
        Complaint::Scope => scope_insufficient().with("www-authenticate", r#"Bearer error="insufficient_scope""#),
        Complaint::Ambiguous => error(400, BAD_REQUEST, "the request has more than one credential", None),
        Complaint::Blind => error(503, GENERAL_ERROR, "revocations cannot be looked up just now", None),
    }
}

/// Without a token, or without a good one.
#[must_use]
pub fn unauthorized() -> Wording {
    error(401, PERMISSION_DENIED, "authorization missing or invalid", None)
}

/// With a good token that does not suffice.
#[must_use]
pub fn scope_insufficient() -> Wording {
    error(403, PERMISSION_DENIED, "authorization OK but scope insufficient", None)
}

/// One error.
#[must_use]
pub fn error(status: u16, code: &str, message: &str, property: Option<&str>) -> Wording {
    let mut body = json!({ "error_code": code, "error_message": message, "details": [] });
    if let (Some(property), Some(members)) = (property, body.as_object_mut()) {
        members.insert("property".to_owned(), property.into());
    }
    Wording::new(status, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_code_and_a_list_of_details() {
        for complaint in Complaint::ALL {
            let body = refusal(complaint).body;
            assert!(body["error_code"].is_string() && body["details"].is_array(), "{body}");
        }
        let wrong = error(400, INVALID_REQUEST_DATA, "no", Some("limit"));
        assert_eq!(wrong.body["property"], "limit");
    }
}
