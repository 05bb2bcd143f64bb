//! What a request asks for, validated as the server does: the same things, in the same order, in the same words.
//!
//! A member that is named twice is refused, for two readers may each see another token. A name that nobody knows is cut
//! short where it is repeated: it may be a token in the wrong place.

use std::borrow::Cow;

use axum::http::Uri;
use serde_json::Value;

use crate::domain::TokenKind;
use crate::domain::json::{self, Object};
use crate::domain::wording::Wording;
use crate::domain::wording::elasticsearch::{caused, error};

/// The parameters every endpoint of the server takes. All but the first are accepted and change nothing.
const PARAMETERS: [&str; 4] = ["pretty", "human", "error_trace", "filter_path"];
/// The longest name that is repeated, in characters.
const MAX_NAME_CHARS: usize = 32;

/// What is to be invalidated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Asked {
    /// One token.
    Token {
        /// Its text, whatever that may be.
        text: String,
        /// What it was called.
        kind: TokenKind,
    },
    /// Every pair of a user, of a realm, or of a user in a realm.
    Pairs {
        /// The user.
        username: Option<String>,
        /// The realm.
        realm: Option<String>,
    },
}

/// Reads a body that is there.
pub(super) fn read(bytes: &[u8]) -> Result<Asked, Wording> {
    let unreadable = || {
        let reason = "[invalidate_token] expected one JSON object in which no member is named twice";
        error(400, "x_content_parse_exception", reason)
    };
    let mut members = json::object(bytes).ok_or_else(unreadable)?;
    let [token, refresh_token] = ["token", "refresh_token"].map(|name| text(&mut members, name, str::is_empty));
    let blank = |text: &str| text.trim().is_empty();
    let [realm, username] = ["realm_name", "username"].map(|name| text(&mut members, name, blank));
    if let Some((name, _)) = members.iter().next() {
        let reason = format!("[invalidate_token] unknown field [{}]", shortened(name));
        return Err(error(400, "x_content_parse_exception", &reason));
    }
    let (token, refresh_token, realm, username) = (token?, refresh_token?, realm?, username?);
    let (text, kind) = match (token, refresh_token) {
        (Some(_), Some(_)) => return Err(both()),
        (Some(text), None) => (text, TokenKind::Access),
        (None, Some(text)) => (text, TokenKind::Refresh),
        (None, None) if realm.is_none() && username.is_none() => return Err(neither()),
        (None, None) => return Ok(Asked::Pairs { username, realm }),
    };
    if realm.is_some() || username.is_some() { Err(overspecified()) } else { Ok(Asked::Token { text, kind }) }
}

/// A member that must be a text; `None` when it is absent, or as good as that.
fn text(members: &mut Object, name: &str, is_absent: impl Fn(&str) -> bool) -> Result<Option<String>, Wording> {
    let kind = match members.remove(name) {
        None => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(text).filter(|text| !is_absent(text))),
        Some(Value::Null) => "VALUE_NULL",
        Some(Value::Bool(_)) => "VALUE_BOOLEAN",
        Some(Value::Number(_)) => "VALUE_NUMBER",
        Some(Value::Array(_)) => "START_ARRAY",
        Some(Value::Object(_)) => "START_OBJECT",
    };
    let reason = format!("[invalidate_token] {name} doesn't support values of type: {kind}");
    Err(error(400, "x_content_parse_exception", &reason))
}

fn both() -> Wording {
    const CAUSE: &str = "only one of [token, refresh_token] may be sent per request";
    let reason = format!("[invalidate_token] failed to parse object: {CAUSE}");
    caused(error(400, "x_content_parse_exception", &reason), "illegal_argument_exception", CAUSE)
}

fn neither() -> Wording {
    invalid("1: token string must be provided when not specifying a realm name or a username;")
}

fn overspecified() -> Wording {
    invalid(
        "1: token string must not be provided when realm name or username is specified;\
         2: token type must not be provided when realm name or username is specified;",
    )
}

fn invalid(what: &str) -> Wording {
    error(400, "action_request_validation_exception", &format!("Validation Failed: {what}"))
}

/// What the query says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Parameters {
    /// For people.
    pub(super) pretty: bool,
}

impl Parameters {
    /// Reads the query.
    pub(super) fn read(uri: &Uri) -> Result<Self, Wording> {
        let mut parameters = Self::default();
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        for (name, value) in pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))) {
            match (name, value) {
                ("pretty", "" | "true") => parameters.pretty = true,
                ("pretty", "false") => parameters.pretty = false,
                ("pretty", _) => {
                    let reason = "Failed to parse value of [pretty] as only [true] or [false] are allowed.";
                    return Err(error(400, "illegal_argument_exception", reason));
                }
                _ if PARAMETERS.contains(&name) => {}
                _ => return Err(unrecognized(uri, name)),
            }
        }
        Ok(parameters)
    }
}

fn unrecognized(uri: &Uri, name: &str) -> Wording {
    let reason = format!("request [{}] contains unrecognized parameter: [{}]", uri.path(), shortened(name));
    error(400, "illegal_argument_exception", &reason)
}

fn shortened(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(MAX_NAME_CHARS).and_then(|(at, _)| name.get(..at)) {
        Some(start) => format!("{start}…").into(),
        None => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn asked(body: Value) -> Asked {
        read(body.to_string().as_bytes()).unwrap()
    }

    fn complaint(body: &str) -> (String, String) {
        let wording = read(body.as_bytes()).unwrap_err();
        assert_eq!((wording.status, &wording.body["status"]), (400, &json!(400)));
        let error = &wording.body["error"];
        assert_eq!(
            (&error["root_cause"][0]["type"], &error["root_cause"][0]["reason"]),
            (&error["type"], &error["reason"])
        );
        (error["type"].as_str().unwrap().into(), error["reason"].as_str().unwrap().into())
    }

    #[test]
    fn each_form_of_a_request_is_understood() {
        let token = |text: &str, kind| Asked::Token { text: text.into(), kind };
        assert_eq!(asked(json!({"token": "t"})), token("t", TokenKind::Access));
        assert_eq!(asked(json!({"refresh_token": "t", "token": ""})), token("t", TokenKind::Refresh));
        assert_eq!(asked(json!({"token": "t", "username": " ", "realm_name": ""})), token("t", TokenKind::Access));
        let pairs = |username: Option<&str>, realm: Option<&str>| Asked::Pairs {
            username: username.map(str::to_owned),
            realm: realm.map(str::to_owned),
        };
        assert_eq!(asked(json!({"username": "ann"})), pairs(Some("ann"), None));
        assert_eq!(asked(json!({"realm_name": "r", "username": "  "})), pairs(None, Some("r")));
        assert_eq!(asked(json!({"realm_name": "r", "username": " a "})), pairs(Some(" a "), Some("r")));
    }

    #[test]
    fn what_is_wrong_is_said_in_the_servers_words_and_order() {
        for (body, kind, core) in [
            (r#"{"token":"a","refresh_token":"b"}"#, "x_content_parse_exception", "only one of [token, refresh_token]"),
            (r#"{"token":"a","refresh_token":"b","username":"c"}"#, "x_content_parse_exception", "only one of"),
            (
                r#"{"token":"a","username":"c"}"#,
                "action_request_validation_exception",
                "Validation Failed: 1: token string must not be provided when realm name or username is specified;2: token \
                 type must not be provided when realm name or username is specified;",
            ),
            (
                r#"{"refresh_token":"a","realm_name":"c"}"#,
                "action_request_validation_exception",
                "must not be provided",
            ),
            (
                "{}",
                "action_request_validation_exception",
                "Validation Failed: 1: token string must be provided when not specifying a realm name or a username;",
            ),
            (r#"{"token":"","username":" "}"#, "action_request_validation_exception", "must be provided when not"),
            (r#"{"token":7}"#, "x_content_parse_exception", "token doesn't support values of type: VALUE_NUMBER"),
            (r#"{"username":null}"#, "x_content_parse_exception", "username doesn't support"),
            (r#"{"tokens":["a"]}"#, "x_content_parse_exception", "unknown field [tokens]"),
            (r#"{"token":"a","token":"b"}"#, "x_content_parse_exception", "named twice"),
            ("[]", "x_content_parse_exception", "one JSON object"),
            ("{", "x_content_parse_exception", "one JSON object"),
            (r#"{"token":"a"} {}"#, "x_content_parse_exception", "one JSON object"),
        ] {
            let (said, reason) = complaint(body);
            assert_eq!(said, kind, "{body}");
            assert!(reason.contains(core), "{body}: {reason}");
        }
        let cause = &read(br#"{"token":"a","refresh_token":"b"}"#).unwrap_err().body["error"]["caused_by"];
        assert_eq!(cause["type"], "illegal_argument_exception");
    }

    #[test]
    fn the_servers_parameters_pass_and_no_other() {
        let read = |query: &str| Parameters::read(&format!("/_security/oauth2/token?{query}").parse().unwrap());
        for plain in ["", "human", "human=true&error_trace", "filter_path=a,b", "pretty=false"] {
            assert_eq!(read(plain), Ok(Parameters { pretty: false }), "{plain}");
        }
        assert_eq!((read("pretty"), read("human&pretty=true")), (Ok(Parameters { pretty: true }), read("pretty")));
        assert_eq!(read("pretty=yes").unwrap_err().status, 400);
        let reason = read("refresh=1").unwrap_err().body["error"]["reason"].clone();
        assert_eq!(reason, "request [/_security/oauth2/token] contains unrecognized parameter: [refresh]");
    }

    proptest! {
        #[test]
        fn no_body_panics_and_no_value_comes_back(secret in "[a-zA-Z0-9_.-]{40,80}", member in "token|refresh_token|x") {
            for body in [json!({&member: [&secret]}), json!({&secret: 1}), json!({&member: &secret, "username": "u"})] {
                if let Err(wording) = read(body.to_string().as_bytes()) {
                    prop_assert!(!wording.body.to_string().contains(&secret));
                }
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = read(&bytes);
        }
    }
}
