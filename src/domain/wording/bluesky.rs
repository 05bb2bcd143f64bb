//! bluesky-httpserver's errors: its client shows `detail`, and chokes on a 4xx without one. By two of the sentences it
//! decides what to do next: at one it renews its access token, at the other its user has to log in again.
//!
//! A token that was taken back and one that is nobody's are told the same. Only an expired one is told apart, since its
//! client would give up otherwise.

use serde_json::json;

use crate::domain::wording::{Complaint, Wording};

/// What its clients know, in the server's own words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sentence {
    /// The end of a login.
    Over,
    /// An access token is too old. The client renews it at this, and repeats its call.
    Expired,
    /// No access token of the server's.
    BadToken,
    /// No API key of the server's.
    BadKey,
    /// A session that is somebody else's, or none at all.
    Foreign,
    /// More than one credential of a place.
    Ambiguous,
}

impl Sentence {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Over, Self::Expired, Self::BadToken, Self::BadKey, Self::Foreign, Self::Ambiguous];

    /// The status, and the sentence.
    #[must_use]
    pub const fn words(self) -> (u16, &'static str) {
        match self {
            Self::Over => (401, "Session has expired. Please re-authenticate."),
            Self::Expired => (401, "Access token has expired. Refresh token."),
            Self::BadToken => (401, "Could not validate credentials"),
            Self::BadKey => (401, "Invalid API key"),
            Self::Foreign => (404, "Sessions does not exist or requester has insufficient permissions"),
            Self::Ambiguous => (400, "The request has more than one credential."),
        }
    }

    /// It, as an error.
    #[must_use]
    pub fn worded(self) -> Wording {
        let (status, detail) = self.words();
        error(status, detail)
    }
}

/// What is said on a route.
#[must_use]
pub fn refusal(complaint: Complaint) -> Wording {
    match complaint {
        Complaint::Missing => error(401, "Not authenticated"),
        Complaint::Malformed | Complaint::Invalid | Complaint::Revoked => Sentence::Over.worded(),
        Complaint::Scope => error(403, "Not enough permissions."),
        Complaint::Ambiguous => Sentence::Ambiguous.worded(),
        Complaint::Blind => error(503, "Revocations cannot be looked up just now."),
    }
}

/// One error.
#[must_use]
pub fn error(status: u16, detail: &str) -> Wording {
    let wording = Wording::new(status, json!({ "detail": detail }));
    if status == 401 { wording.with("www-authenticate", "Bearer") } else { wording }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What its client looks for in the text of an exception before it renews its token.
    const RENEWS: &str = "Access token has expired";

    #[test]
    fn every_error_has_a_detail_and_a_challenge_where_one_is_due() {
        let said = Complaint::ALL.into_iter().map(refusal).chain(Sentence::ALL.into_iter().map(Sentence::worded));
        for wording in said {
            assert!(wording.body["detail"].is_string(), "{wording:?}");
            assert_eq!(wording.headers.iter().any(|(name, _)| *name == "www-authenticate"), wording.status == 401);
        }
    }

    #[test]
    fn a_client_renews_its_token_when_it_has_expired_and_never_else() {
        for complaint in Complaint::ALL {
            assert!(!refusal(complaint).body["detail"].as_str().unwrap().contains(RENEWS), "{complaint:?}");
        }
        let renews: Vec<_> = Sentence::ALL.into_iter().filter(|sentence| sentence.words().1.contains(RENEWS)).collect();
        assert_eq!(renews, [Sentence::Expired]);
    }

    #[test]
    fn nobody_learns_from_a_refusal_whether_a_token_was_taken_back() {
        assert_eq!(refusal(Complaint::Revoked), refusal(Complaint::Invalid));
        assert_eq!(refusal(Complaint::Revoked), refusal(Complaint::Malformed));
    }
}
