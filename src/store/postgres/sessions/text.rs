//! Texts as PostgreSQL keeps them: it knows no NUL. U+0000 is written as U+0001 U+0001, and U+0001 as U+0001 U+0002, which
//! is read back as it was and keeps the order of the bytes, so that nothing a client sends can break a batch.

use std::borrow::Cow;

use sqlx::Row;
use sqlx::postgres::PgRow;

const ESCAPE: char = '\u{1}';

/// A text as a column holds it.
pub(super) fn stored(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', ESCAPE]) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(ESCAPE, "\u{1}\u{2}").replace('\0', "\u{1}\u{1}"))
}

/// The same, if there is a text.
pub(super) fn stored_option(text: Option<&str>) -> Option<Cow<'_, str>> {
    text.map(stored)
}

/// What was written by [`stored`].
pub(super) fn told(column: &str) -> Box<str> {
    if !column.contains(ESCAPE) {
        return column.into();
    }
    let mut letters = column.chars();
    let mut text = String::with_capacity(column.len());
    while let Some(letter) = letters.next() {
        match (letter, letter == ESCAPE) {
            (letter, false) => text.push(letter),
            (_, true) => text.push(if letters.next() == Some(ESCAPE) { '\0' } else { ESCAPE }),
        }
    }
    text.into()
}

/// A text of a row.
pub(super) fn text(row: &PgRow, index: usize) -> Result<Box<str>, sqlx::Error> {
    row.try_get::<&str, _>(index).map(told)
}

/// A text of a row, if there is one.
pub(super) fn optional_text(row: &PgRow, index: usize) -> Result<Option<Box<str>>, sqlx::Error> {
    Ok(row.try_get::<Option<&str>, _>(index)?.map(told))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!['\0', '\u{1}', '\u{2}', 'a', 'ä']), 0..8)
            .prop_map(|letters| letters.into_iter().collect())
    }

    proptest! {
        #[test]
        fn every_text_is_read_back_and_keeps_its_place(one in text(), other in text()) {
            prop_assert_eq!(&*told(&stored(&one)), one.as_str());
            prop_assert!(!stored(&one).contains('\0'));
            prop_assert_eq!(stored(&one).as_bytes().cmp(stored(&other).as_bytes()), one.as_bytes().cmp(other.as_bytes()));
        }
    }
}
