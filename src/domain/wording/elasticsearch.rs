//! Elasticsearch's error documents. Kibana refreshes at the very reason "token expired", and at no other.

use serde_json::{Map, Value, json};

use crate::domain::wording::{Complaint, Wording};

/// Without it the clients believe that they talk to something else, whatever the status.
pub const PRODUCT: (&str, &str) = ("x-elastic-product", "Elasticsearch");

/// The privilege that invalidating asks for, by the name of its action.
pub const INVALIDATE: &str = "cluster:admin/xpack/security/token/invalidate";

/// The same of asking whom one talks to.
pub const MAIN: &str = "cluster:monitor/main";

/// The media type that names the version a client wants, without its parameters.
const VENDOR: &str = "application/vnd.elasticsearch+json";

const EXPIRED: &str = r#"Bearer realm="security", error="invalid_token", error_description="The access token expired""#;
const OFFERS: [&str; 3] = [r#"Basic realm="security", charset="UTF-8""#, r#"Bearer realm="security""#, "ApiKey"];

/// What is said on a route.
#[must_use]
pub fn refusal(complaint: Complaint) -> Wording {
    match complaint {
        Complaint::Missing => unauthenticated("missing authentication credentials for REST request"),
        Complaint::Malformed | Complaint::Invalid | Complaint::Revoked => expired(),
        Complaint::Scope => error(403, "security_exception", "action is unauthorized for this token"),
        Complaint::Ambiguous => error(400, "illegal_argument_exception", "the request has more than one credential"),
        Complaint::Blind => error(503, "unavailable_shards_exception", "revocations cannot be looked up just now"),
    }
}

/// The document of an error without details: `root_cause` is never empty, for the clients quote its first member.
#[must_use]
pub fn error(status: u16, kind: &str, reason: &str) -> Wording {
    with_details(status, kind, reason, &Map::new())
}

/// The same, with further members in the error and its root cause.
#[must_use]
pub fn with_details(status: u16, kind: &str, reason: &str, details: &Map<String, Value>) -> Wording {
    let mut cause = Map::new();
    cause.insert("type".to_owned(), kind.into());
    cause.insert("reason".to_owned(), reason.into());
    cause.extend(details.clone());
    let mut error = Map::new();
    error.insert("root_cause".to_owned(), json!([cause]));
    error.extend(cause);
    Wording::new(status, json!({ "error": error, "status": status })).with(PRODUCT.0, PRODUCT.1)
}

/// The same error with what brought it about.
#[must_use]
pub fn caused(mut wording: Wording, kind: &str, reason: &str) -> Wording {
    if let Some(error) = wording.body.get_mut("error").and_then(Value::as_object_mut) {
        error.insert("caused_by".to_owned(), json!({ "type": kind, "reason": reason }));
    }
    wording
}

/// A good answer.
#[must_use]
pub fn ok(body: Value) -> Wording {
    Wording::new(200, body).with(PRODUCT.0, PRODUCT.1)
}

/// The caller lacks the privilege for an action.
#[must_use]
pub fn unauthorized(action: &str, user: &str) -> Wording {
    let granted = if action == INVALIDATE { "manage_token,manage_security,all" } else { "monitor,manage,all" };
    let reason = format!(
        "action [{action}] is unauthorized for user [{user}], this action is granted by the cluster privileges [{granted}]"
    );
    error(403, "security_exception", &reason)
}

/// The content type of an answer to who names these media types, as the server echoes it; `None` when none is one that it
/// writes.
#[must_use]
pub fn media_type(named: &str) -> Option<String> {
    named.split(',').find_map(|one| {
        let mut parts = one.split(';').map(str::trim);
        let essence = parts.next()?;
        if essence.eq_ignore_ascii_case("application/json") {
            return Some("application/json".to_owned());
        }
        if !essence.eq_ignore_ascii_case(VENDOR) {
            return None;
        }
        let version = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("compatible-with").then(|| value.trim().trim_matches('"'))
        });
        // What is no version is not repeated.
        let version = version.filter(|version| matches!(version.len(), 1 | 2))?;
        version.bytes().all(|b| b.is_ascii_digit()).then(|| format!("{VENDOR};compatible-with={version}"))
    })
}

/// No credentials, or none that count: all that would do are offered.
#[must_use]
pub fn unauthenticated(reason: &str) -> Wording {
    let details = header(json!(OFFERS));
    let wording = with_details(401, "security_exception", reason, &details);
    OFFERS.iter().fold(wording, |wording, offer| wording.with("www-authenticate", *offer))
}

fn expired() -> Wording {
    let wording = with_details(401, "security_exception", "token expired", &header(json!(EXPIRED)));
    wording.with("www-authenticate", EXPIRED)
}

fn header(challenge: Value) -> Map<String, Value> {
    let mut details = Map::new();
    details.insert("header".to_owned(), json!({ "WWW-Authenticate": challenge }));
    details
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kibana_is_told_in_the_very_words_at_which_it_refreshes() {
        for complaint in [Complaint::Revoked, Complaint::Invalid] {
            let wording = refusal(complaint);
            assert_eq!((wording.status, &wording.body["error"]["reason"]), (401, &json!("token expired")));
            assert_eq!(wording.body["error"]["header"]["WWW-Authenticate"], EXPIRED);
            assert_eq!(wording.body["error"]["root_cause"][0]["header"]["WWW-Authenticate"], EXPIRED);
            assert!(wording.headers.contains(&("www-authenticate", EXPIRED.to_owned())));
        }
    }

    #[test]
    fn without_credentials_all_that_would_do_are_offered() {
        let wording = refusal(Complaint::Missing);
        let offers: Vec<_> = wording.headers.iter().filter(|(name, _)| *name == "www-authenticate").collect();
        for (offer, scheme) in offers.iter().zip(["Basic", "Bearer", "ApiKey"]) {
            assert!(offer.1.starts_with(scheme));
        }
        assert_eq!((offers.len(), &wording.body["error"]["type"]), (3, &json!("security_exception")));
    }

    #[test]
    fn a_media_type_is_echoed_as_the_server_writes_it() {
        let vendor = |version| Some(format!("application/vnd.elasticsearch+json;compatible-with={version}"));
        for (named, echoed) in [
            ("application/vnd.elasticsearch+json; compatible-with=9", vendor(9)),
            ("application/vnd.elasticsearch+json; compatible-with=8,text/plain", vendor(8)),
            ("application/json", Some("application/json".to_owned())),
            ("text/plain, Application/JSON; charset=utf-8", Some("application/json".to_owned())),
            ("application/vnd.elasticsearch+json; compatible-with=x", None),
            ("application/vnd.elasticsearch+json; compatible-with=123", None),
            ("application/vnd.elasticsearch+json", None),
            ("*/*", None),
            ("", None),
        ] {
            assert_eq!(media_type(named), echoed, "{named}");
        }
    }
}
