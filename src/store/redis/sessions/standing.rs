//! What the log says of sessions: which revocations stand for a selector, and whether that is still so when the answer is
//! used.

use std::collections::BTreeMap;

use crate::domain::{Recorded, Revocation, RevocationId, Session, SessionEnd, Timestamp};
use crate::store::StoreError;
use crate::store::redis::connection::Connection;
use crate::store::redis::keys::{ROWS, SELECTORS};
use crate::store::redis::rows::{id_bytes, recorded, unended};
use crate::store::redis::sessions::commit::Commit;
use crate::store::session_end::{Swept, end_by};

/// How many fields are read in one go.
const FIELDS: usize = 1_000;

type Raw = Vec<Option<Vec<u8>>>;

/// What stands for some selectors.
pub(super) struct Standing(BTreeMap<String, Known>);

#[derive(Default)]
struct Known {
    /// The log's list of what stands for the selector, as it was read.
    raw: Option<Vec<u8>>,
    standing: Vec<Revocation>,
}

impl Standing {
    /// How `session` is ended by what stands for one of `selectors`.
    pub(super) fn end_of(&self, session: &Session, selectors: &[String]) -> Option<SessionEnd> {
        let mut standing = selectors.iter().filter_map(|selector| self.0.get(selector)).flat_map(|held| &held.standing);
        standing.find(|held| Swept::of(held).is_some_and(|swept| swept.holds(session))).map(end_by)
    }

    /// Only if all that is still so.
    pub(super) fn guard(&self, commit: &mut Commit) {
        self.0.iter().for_each(|(selector, held)| commit.only_if(SELECTORS, selector.as_str(), held.raw.as_deref()));
    }
}

/// What stands at `now` for exactly these selectors.
pub(super) async fn standing(
    connection: &Connection,
    mut selectors: Vec<String>,
    now: Timestamp,
) -> Result<Standing, StoreError> {
    selectors.sort_unstable();
    selectors.dedup();
    let lists = fields(connection, SELECTORS, &selectors).await?;
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    let mut ids = Vec::new();
    for (selector, raw) in selectors.into_iter().zip(lists) {
        ids.extend(raw.as_deref().map(unended).transpose()?.unwrap_or_default());
        known.insert(selector, Known { raw, standing: Vec::new() });
    }
    let mut rows: Vec<Recorded> = Vec::new();
    let named: Vec<_> = ids.iter().copied().map(id_bytes).collect();
    for (id, raw) in ids.into_iter().zip(fields(connection, ROWS, &named).await?) {
        rows.extend(raw.map(|raw| recorded(id, &raw)).transpose()?);
    }
    rows.sort_by_key(|held| held.position);
    for held in rows.into_iter().filter(|held| held.stands(now)) {
        if let Some(known) = known.get_mut(&held.revocation.selector.canonical()) {
            known.standing.push(held.revocation);
        }
    }
    Ok(Standing(known))
}

/// A revocation as the log holds it now.
pub(super) async fn row(connection: &Connection, id: RevocationId) -> Result<Option<Recorded>, StoreError> {
    let raw: Option<Vec<u8>> = connection.run(redis::cmd("HGET").arg(ROWS).arg(&id_bytes(id)[..])).await?;
    raw.map(|raw| recorded(id, &raw)).transpose()
}

/// Reads fields of a hash, some at a time.
async fn fields(connection: &Connection, key: &str, fields: &[impl AsRef<[u8]>]) -> Result<Raw, StoreError> {
    let mut values = Vec::with_capacity(fields.len());
    for some in fields.chunks(FIELDS) {
        let mut command = redis::cmd("HMGET");
        command.arg(key);
        some.iter().for_each(|field| {
            command.arg(field.as_ref());
        });
        values.extend(connection.run::<Raw>(&command).await?);
    }
    Ok(values)
}
