//! A document that lists principals and their sessions, and the same with `revoked` put right. Pure: text in, text out.
//!
//! Only the word is replaced, in place: every other byte, the order of the members, escapes and the form of numbers stay
//! as the server wrote them. `true` never becomes `false`: the server may know of an end that nobody here was told of. A
//! document that can be read in two ways, with a member named twice, is none.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::Uuid;

/// A session in a document that is not marked as revoked there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unmarked {
    /// Its id.
    pub(super) session: Uuid,
    /// Whose it is; `None` when the document does not say.
    pub(super) user: Option<Uuid>,
    /// Where its mark stands, in bytes.
    at: usize,
}

/// A text that is no such document.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unreadable;

/// Somebody, as the server tells of them: what else it says does not matter.
#[derive(Deserialize)]
struct Principal<'a> {
    #[serde(borrow, default)]
    uuid: Option<&'a RawValue>,
    #[serde(borrow, default)]
    sessions: Option<Vec<Listed<'a>>>,
}

#[derive(Deserialize)]
struct Listed<'a> {
    #[serde(borrow, default)]
    uuid: Option<&'a RawValue>,
    #[serde(borrow, default)]
    revoked: Option<&'a RawValue>,
}

/// The sessions that a document lists as not revoked, in its order.
pub(super) fn unmarked(document: &[u8]) -> Result<Vec<Unmarked>, Unreadable> {
    let text = std::str::from_utf8(document).map_err(|_| Unreadable)?;
    let principals: Vec<Principal<'_>> = match text.trim_ascii_start().bytes().next() {
        Some(b'[') => serde_json::from_str(text).map_err(|_| Unreadable)?,
        Some(b'{') => vec![serde_json::from_str(text).map_err(|_| Unreadable)?],
        _ => return Err(Unreadable),
    };
    let of_one = |principal: Principal<'_>| {
        let user = principal.uuid.and_then(id);
        let sessions = principal.sessions.unwrap_or_default();
        sessions.into_iter().filter_map(move |listed| listed.unmarked(text, user)).collect::<Vec<_>>()
    };
    Ok(principals.into_iter().flat_map(of_one).collect())
}

/// The document with these marked as revoked.
pub(super) fn marked(document: &[u8], ended: &[Unmarked]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(document.len());
    let mut rest = document;
    for unmarked in ended {
        let done = document.len() - rest.len();
        let Some((before, after)) = unmarked.at.checked_sub(done).and_then(|at| rest.split_at_checked(at)) else {
            continue;
        };
        let Some(after) = after.strip_prefix(FALSE) else { continue };
        whole.extend_from_slice(before);
        whole.extend_from_slice(TRUE);
        rest = after;
    }
    whole.extend_from_slice(rest);
    whole
}

const FALSE: &[u8] = b"false";
const TRUE: &[u8] = b"true";

impl Listed<'_> {
    fn unmarked(&self, text: &str, user: Option<Uuid>) -> Option<Unmarked> {
        let revoked = self.revoked.filter(|revoked| revoked.get().as_bytes() == FALSE)?;
        let at = revoked.get().as_ptr().addr().checked_sub(text.as_ptr().addr())?;
        Some(Unmarked { session: self.uuid.and_then(id)?, user, at })
    }
}

/// The id a member holds, when it is a text and a UUID.
fn id(member: &RawValue) -> Option<Uuid> {
    serde_json::from_str::<Cow<'_, str>>(member.get()).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const ONE: &str = "11111111-1111-4111-8111-111111111111";
    const TWO: &str = "22222222-2222-4222-8222-222222222222";
    const USER: &str = "33333333-3333-4333-8333-333333333333";

    fn corrected(document: &str, ended: &[&str]) -> String {
        let ids: Vec<Uuid> = ended.iter().map(|id| id.parse().unwrap()).collect();
        let found = unmarked(document.as_bytes()).unwrap();
        let ended: Vec<_> = found.into_iter().filter(|unmarked| ids.contains(&unmarked.session)).collect();
        String::from_utf8(marked(document.as_bytes(), &ended)).unwrap()
    }

    fn who(sessions: &str) -> String {
        format!(r#" {{"uuid": "{USER}" , "n":1.50e0,"t":"\u00e9\/","sessions":[{sessions}],"api_key_scopes":null}}"#)
    }

    fn session(id: &str, revoked: &str) -> String {
        format!(r#"{{"uuid":"{id}","expiration_time":"2026-01-02T03:04:05", "revoked" : {revoked} }}"#)
    }

    #[test]
    fn only_the_word_changes() {
        let before = who(&[session(ONE, "false"), session(TWO, "false")].join(","));
        assert_eq!(corrected(&before, &[TWO]), who(&[session(ONE, "false"), session(TWO, "true")].join(",")));
        assert_eq!(corrected(&before, &[ONE, TWO]), who(&[session(ONE, "true"), session(TWO, "true")].join(",")));
        assert_eq!(corrected(&before, &[]), before);
    }

    #[test]
    fn what_the_server_has_marked_stays_marked() {
        let before = who(&session(ONE, "true"));
        assert_eq!(unmarked(before.as_bytes()), Ok(Vec::new()));
    }

    #[test]
    fn a_session_is_known_in_any_spelling_and_with_its_user() {
        let before = who(&session("\\u0031111111111114111811111111111111{1}", "false"));
        assert_eq!(unmarked(before.as_bytes()), Ok(Vec::new()), "no id");
        let before = who(&session("\\u0031111111111114111811111111111111 ".trim_end(), "false"));
        assert_eq!(unmarked(before.as_bytes()), Ok(Vec::new()), "too short");
        let before = who(&session(&ONE.replace('-', "").replacen('1', "\\u0031", 1), "false"));
        let found = unmarked(before.as_bytes()).unwrap();
        assert_eq!((found[0].session, found[0].user), (ONE.parse().unwrap(), Some(USER.parse().unwrap())));
    }

    #[test]
    fn a_list_of_principals_is_read_like_one() {
        let before = format!("[{}, {}]", who(&session(ONE, "false")), who(&session(TWO, "false")));
        let after = format!("[{}, {}]", who(&session(ONE, "true")), who(&session(TWO, "false")));
        assert_eq!(corrected(&before, &[ONE]), after);
    }

    #[test]
    fn a_word_elsewhere_is_left_alone() {
        let before = json!({"revoked": false, "sessions": [{"uuid": ONE, "note": {"uuid": ONE, "revoked": false}}],
            "identities": [{"uuid": ONE, "revoked": false}]});
        assert_eq!(unmarked(before.to_string().as_bytes()), Ok(Vec::new()));
        assert_eq!(unmarked(br#"{"detail":"no"}"#), Ok(Vec::new()));
        assert_eq!(unmarked(br#"{"sessions":null}"#), Ok(Vec::new()));
    }

    #[test]
    fn what_has_two_meanings_is_not_read() {
        let twice = who(&format!(r#"{{"uuid":"{ONE}","revoked":true,"revoked":false}}"#));
        let texts =
            [&*twice, "", "x", "1", "{}{}", r#"{"sessions":[],"sessions":[]}"#, r#"{"sessions":"x"}"#, "\u{feff}{}"];
        for text in texts {
            assert_eq!(unmarked(text.as_bytes()), Err(Unreadable), "{text}");
        }
        assert_eq!(unmarked(b"{\"a\":\"\xff\"}"), Err(Unreadable));
    }

    proptest! {
        #[test]
        fn what_comes_out_means_the_same_but_for_the_marks(
            listed in prop::collection::vec((any::<u128>(), any::<bool>(), any::<bool>(), "\\PC{0,6}"), 0..6),
            pretty in any::<bool>(),
        ) {
            let document = |right: bool| {
                let session = |(id, revoked, ended, note): &(u128, bool, bool, String)| {
                    json!({"note": note, "revoked": *revoked || (right && *ended), "uuid": format!("{id:032x}")})
                };
                let sessions: Vec<Value> = listed.iter().map(session).collect();
                json!({"sessions": sessions, "uuid": USER})
            };
            let before = if pretty { format!("{:#}", document(false)) } else { document(false).to_string() };
            let ended: Vec<String> = listed.iter().filter(|l| l.2).map(|l| format!("{:032x}", l.0)).collect();
            let after = corrected(&before, &ended.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(serde_json::from_str::<Value>(&after).unwrap(), document(true));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = unmarked(&bytes);
        }
    }
}
