//! What SQLite's failures mean for whoever asked: try again, or mend the file first. <https://www.sqlite.org/rescode.html>

use std::path::Path;

use sqlx::error::DatabaseError;

use crate::store::StoreError;

const ERROR: i64 = 1;
const PERM: i64 = 3;
const READONLY: i64 = 8;
const CORRUPT: i64 = 11;
const CANTOPEN: i64 = 14;
const TOOBIG: i64 = 18;
const CONSTRAINT: i64 = 19;
const MISMATCH: i64 = 20;
const NOTADB: i64 = 26;
const IOERR_FSYNC: i64 = 10 | 4 << 8;
const IOERR_DIR_FSYNC: i64 = 10 | 5 << 8;

/// An error while the store is at work: what was not written can be written later, a damaged file stays damaged.
pub(super) fn at_work(path: &Path, error: sqlx::Error) -> StoreError {
    match primary(&error) {
        Some(CORRUPT | NOTADB) => damaged(path, Some(error)),
        _ => StoreError::Unavailable(error.into()),
    }
}

/// An error while the store is being opened: nothing was promised yet, so every failure stops the start.
pub(super) fn at_start(path: &Path, error: sqlx::Error) -> StoreError {
    let path_text = path.display();
    let advice = match primary(&error) {
        Some(CORRUPT | NOTADB) => return damaged(path, Some(error)),
        Some(PERM | READONLY | CANTOPEN) => {
            format!("cannot write the store {path_text} or its folder; make both writable for this user")
        }
        _ => format!("cannot open the store {path_text}"),
    };
    StoreError::Unusable(advice, Some(error.into()))
}

/// The file is not what we wrote.
pub(super) fn damaged(path: &Path, error: Option<sqlx::Error>) -> StoreError {
    let text = format!(
        "the store {} is damaged or not a database; nothing was changed in it. Restore it from a backup, or move it and \
         its -wal file away to start with an empty one, which forgets every revocation",
        path.display()
    );
    StoreError::Unusable(text, error.map(Into::into))
}

/// Whether the disk failed to keep what it was given. The kernel may have dropped it, and a second attempt would succeed
/// without writing it, so nothing may be promised after that.
pub(super) fn lost_a_write(error: &sqlx::Error) -> bool {
    matches!(code(error), Some(IOERR_FSYNC | IOERR_DIR_FSYNC))
}

/// Whether a statement failed for what it was given: the disk, the file and other processes had no part in it.
pub(super) fn not_the_disk(error: &sqlx::Error) -> bool {
    matches!(primary(error), None | Some(ERROR | TOOBIG | CONSTRAINT | MISMATCH))
}

fn primary(error: &sqlx::Error) -> Option<i64> {
    code(error).map(|code| code & 0xff)
}

/// SQLite's extended result code.
fn code(error: &sqlx::Error) -> Option<i64> {
    error.as_database_error().and_then(DatabaseError::code)?.parse().ok()
}
