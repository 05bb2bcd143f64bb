//! The order of a list of sessions, and the cursors that go through it. A cursor is opaque to callers and bound to the order
//! it was made for.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::admin::Fault;
use crate::control::{Cursor, SessionQuery, SortKey};

/// The longest cursor, in bytes.
const MAX_CURSOR_BYTES: usize = 8 * 1024;
const SORT_KEYS: [(&str, SortKey); 12] = [
    ("id", SortKey::Id),
    ("user", SortKey::User),
    ("username", SortKey::Username),
    ("issuer", SortKey::Issuer),
    ("parent", SortKey::Parent),
    ("domain", SortKey::Domain),
    ("address", SortKey::Address),
    ("type", SortKey::Type),
    ("created", SortKey::Created),
    ("updated", SortKey::Updated),
    ("expires", SortKey::Expires),
    ("token_expires", SortKey::TokenExpires),
];

/// A query, and the words for its order that its cursors are bound to.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) query: SessionQuery,
    pub(super) sort: String,
}

/// A cursor as callers see it, before it is made opaque.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct CursorText {
    sort: String,
    value: Option<String>,
    number: u64,
}

impl Page {
    /// The query for all in this order, `expires` when none is given.
    pub(super) fn of(sort: Option<&str>) -> Result<Self, Fault> {
        let text = sort.unwrap_or("expires");
        let (descending, name) = text.strip_prefix('-').map_or((false, text), |name| (true, name));
        let known = SORT_KEYS.into_iter().find(|(known, _)| *known == name).map(|(_, key)| key);
        let names = || SORT_KEYS.map(|(name, _)| name).join(", ");
        let sort = known.ok_or_else(|| Fault::Invalid(format!("sort: expected one of {}, or - and one", names())))?;
        let query = SessionQuery { sort, descending, ..SessionQuery::default() };
        Ok(Self { query, sort: text.to_owned() })
    }

    /// The place that a caller's cursor stands for.
    pub(super) fn after(&self, text: &str) -> Result<Cursor, Fault> {
        let wrong = || Fault::Invalid("cursor: not one of ours, or of another sort".to_owned());
        let bytes = Some(text).filter(|text| text.len() <= MAX_CURSOR_BYTES);
        let bytes = bytes.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).ok_or_else(wrong)?;
        let cursor: CursorText = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
        let by_time =
            matches!(self.query.sort, SortKey::Created | SortKey::Updated | SortKey::Expires | SortKey::TokenExpires);
        let readable = !by_time || cursor.value.as_ref().is_none_or(|value| value.parse::<u64>().is_ok());
        if cursor.sort != self.sort || !readable || i64::try_from(cursor.number).is_err() {
            return Err(wrong());
        }
        Ok(Cursor { value: cursor.value, number: cursor.number })
    }
}

/// A place in a list of this order, as text: opaque to callers.
pub(super) fn cursor_text(sort: &str, next: Cursor) -> String {
    let text = CursorText { sort: sort.to_owned(), value: next.value, number: next.number };
    // Texts and a number; writing them cannot fail.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&text).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cursor_goes_with_its_own_order_only() {
        let after = |sort: &str, cursor: Cursor, wanted: &str| {
            Page::of(Some(wanted)).unwrap().after(&cursor_text(sort, cursor))
        };
        let cursor = || Cursor { value: Some("7".to_owned()), number: 9 };
        assert_eq!(after("-created", cursor(), "-created"), Ok(cursor()));
        for other in ["created", "-id", "-expires"] {
            assert!(after("-created", cursor(), other).is_err(), "{other}");
        }
        let no_time = Cursor { value: Some("seven".to_owned()), number: 9 };
        assert!(after("created", no_time, "created").is_err());
        assert!(after("id", Cursor { value: None, number: u64::MAX }, "id").is_err());
        assert!(Page::of(None).unwrap().after("x").is_err());
    }

    proptest! {
        #[test]
        fn every_cursor_comes_back(value in prop::option::of(".{0,40}"), number in 0..u64::MAX / 2) {
            let cursor = Cursor { value, number };
            let text = cursor_text("-user", cursor.clone());
            prop_assert_eq!(Page::of(Some("-user")).unwrap().after(&text), Ok(cursor));
        }
    }
}
