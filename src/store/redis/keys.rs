//! The keys of the store. All have one tag in braces, so that a cluster keeps them in one slot, where one script may
//! write them together.
//!
//! Numbers in scripts are exact up to 2^53, far beyond any position.

use crate::domain::{Name, Revocation};

/// Hash: what is true of the store as a whole. `schema` and `oldest`, see `schema`; `epoch`, eight random hexadecimal
/// digits, made with the store; `position` and `mark`, the log's end; `audit`, the number of the trail's last record.
pub(super) const HEAD: &str = "{portcullis}:head";
/// Stream: an entry for each append that changed something, `POSITION-0` after the last row it wrote. `m`, the mark: the
/// epoch and eight random digits; `c`, the ids of the rows, in order.
pub(super) const NEWS: &str = "{portcullis}:news";
/// Hash: a row by its id, see `rows`.
pub(super) const ROWS: &str = "{portcullis}:rows";
/// Hash: by canonical selector, the position of its last change and the ids of its rows without an ending.
pub(super) const SELECTORS: &str = "{portcullis}:selectors";
/// Sorted set: all ids by position.
pub(super) const POSITIONS: &str = "{portcullis}:positions";
/// Sorted set: ids by the second from which they may be forgotten.
pub(super) const DUE: &str = "{portcullis}:due";
/// Stream: the audit trail, `NUMBER-0`; `r`, the record.
pub(super) const AUDIT: &str = "{portcullis}:audit";
/// Hash: revocations that are not carried over to all their sessions yet, by id.
pub(super) const SWEEPS: &str = "{portcullis}:sweeps";
/// Hash: the replicas' last signs of life by name: the server's clock in milliseconds, a space, and what they said.
pub(super) const REPLICAS: &str = "{portcullis}:replicas";

/// Sorted sets: the ids of rows by position, for each actor and each part of a selector but the issuer, which would list
/// nearly all. These are the keys of the sets `revocation` is in.
pub(super) fn labels(revocation: &Revocation) -> Vec<String> {
    let parts = revocation.selector.parts().filter(|(name, _)| **name != Name::Issuer);
    let parts = parts.map(|(name, value)| part(&name.to_string(), value));
    parts.chain([actor(&revocation.actor)]).collect()
}

/// The set of those by one actor.
pub(super) fn actor(name: &str) -> String {
    format!("{{portcullis}}:actor:{name}")
}

/// The set of those whose selector has this part. The name's length keeps apart what a colon in it would mix up.
pub(super) fn part(name: &str, value: &str) -> String {
    format!("{{portcullis}}:part:{}:{name}:{value}", name.len())
}
