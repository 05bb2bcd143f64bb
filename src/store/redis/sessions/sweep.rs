//! Revocations carried over to the sessions they end, and lifts to those they free.
//!
//! The script that appends a row notes in [`SWEEPS`] that its sessions are to be looked at; so whatever happens to the
//! replica that appended it, the upkeep of any replica finishes the work. A session is marked only while the row is as it
//! was read, and freed only while nothing new stands over it, so it does not matter who comes first, or twice.

use std::collections::{HashMap, HashSet};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::domain::{Ending, Recorded, Revocation, RevocationId, Timestamp};
use crate::store::decide::Write;
use crate::store::redis::connection::Connection;
use crate::store::redis::keys::{ROWS, SWEEPS};
use crate::store::redis::rows::{POSITION_BYTES, id, id_bytes, recorded};
use crate::store::redis::sessions::commit::{Commit, Tries};
use crate::store::redis::sessions::order::{Index, Range};
use crate::store::redis::sessions::page::{Held, Page, counts, sessions};
use crate::store::redis::sessions::put;
use crate::store::redis::sessions::records::corrupt;
use crate::store::redis::sessions::standing::{row, standing};
use crate::store::session_end::{Swept, end_by, naming};
use crate::store::session_query::SortValue;
use crate::store::{SortKey, StoreError};

/// How many sessions one step looks at; few in tests, which thus take several.
pub(super) const STEP_ROWS: usize = if cfg!(test) { 5 } else { 500 };
/// How many rows are carried over at the same time.
const AT_ONCE: usize = 16;
/// How many rows are asked about in one go.
const ASKED: usize = 1_000;
/// How far a chain of revocations that outdid each other is followed.
const LONGEST_CHAIN: usize = 1_000;

/// The id of a row, and how far its sweep is.
type Begun = (Vec<u8>, Vec<u8>);

/// A sweep that was not begun: what the script that writes a row sets its id to in [`SWEEPS`]. Later the same byte, and
/// the last member that was looked at.
pub(in crate::store::redis) const UNBEGUN: &[u8] = b"0";

/// Forgets sweeps, unless their rows were changed since: the arguments are ids and positions.
const DONE: &str = r"
for i = 1, #ARGV, 2 do
  local row = redis.call('HGET', KEYS[2], ARGV[i])
  if row and string.sub(row, 1, 8) == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
return 1
";

/// The row whose sessions are to be looked at after a write, if there may be any. The script that carries out the write
/// sets its id in [`SWEEPS`] to [`UNBEGUN`].
pub(in crate::store::redis) fn concerns_sessions(write: &Write) -> Option<&Recorded> {
    let (Write::Insert(held) | Write::Update(held)) = write;
    let concerns = match (write, &held.ending) {
        (Write::Insert(_), None) | (_, Some(Ending::Lifted(_))) => Swept::of(&held.revocation).is_some(),
        (Write::Update(_), None) | (_, Some(Ending::Superseded(_))) => false,
    };
    concerns.then_some(held)
}

/// Carries out what writes to the log mean for the sessions: a first batch of each; what more there is, the upkeep does.
/// They were appended, whatever this answers: a failure is nothing the caller of an append need know.
pub(in crate::store::redis) async fn carry_over(
    connection: &Connection,
    writes: &[Write],
    now: Timestamp,
) -> Result<(), StoreError> {
    let rows = writes.iter().filter_map(concerns_sessions);
    let rows: Vec<(&Recorded, Range)> =
        rows.filter_map(|held| Some((held, swept_range(&Swept::of(&held.revocation)?)?))).collect();
    for some in rows.chunks(ASKED) {
        let ranges: Vec<Range> = some.iter().map(|(_, range)| range.clone()).collect();
        let counts = counts(connection, &ranges).await?;
        let (busy, idle): (Vec<_>, Vec<_>) =
            some.iter().map(|(held, _)| *held).zip(counts).partition(|(_, count)| *count > 0);
        done(connection, idle.into_iter().map(|(held, _)| held)).await?;
        let ids: Vec<RevocationId> = busy.into_iter().map(|(held, _)| held.revocation.id).collect();
        let steps = stream::iter(ids).map(async |id| step(connection, id, now).await.map(|_| ()));
        steps.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    }
    Ok(())
}

/// Finishes what was begun, by whichever replica.
pub(super) async fn finish(connection: &Connection, now: Timestamp) -> Result<(), StoreError> {
    let mut cursor = 0_u64;
    loop {
        let mut scan = redis::cmd("HSCAN");
        scan.arg(SWEEPS).arg(cursor).arg("COUNT").arg(100);
        let (next, begun): (u64, Vec<Begun>) = connection.run(&scan).await?;
        for (bytes, _) in begun {
            let id = id(&bytes).map_err(corrupt)?;
            while step(connection, id, now).await? {}
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

/// Where the sessions of a sweep stand: all in the set where they are likely to be fewest.
fn swept_range(swept: &Swept) -> Option<Range> {
    let Swept { issuer, session, user, username, client, .. } = swept;
    let parts = [
        (Index::By(SortKey::Id), session),
        (Index::By(SortKey::User), user),
        (Index::By(SortKey::Username), username),
        (Index::Client, client),
        (Index::By(SortKey::Issuer), issuer),
    ];
    let (index, value) = parts.into_iter().find(|(_, value)| value.is_some())?;
    Some(Range::of(index, &SortValue::Text(value.clone())))
}

/// One batch of the sessions of a sweep, by what its row says now. Returns whether there may be more.
async fn step(connection: &Connection, id: RevocationId, now: Timestamp) -> Result<bool, StoreError> {
    let field = id_bytes(id);
    let mut tries = Tries::new();
    loop {
        let mut pipe = redis::pipe();
        pipe.cmd("HGET").arg(SWEEPS).arg(&field[..]).cmd("HGET").arg(ROWS).arg(&field[..]);
        let (state, raw): (Option<Vec<u8>>, Option<Vec<u8>>) = connection.pipe(&pipe).await?;
        let Some(state) = state else { return Ok(false) };
        let mut commit = Commit::default();
        commit.only_if(SWEEPS, field, Some(&state));
        commit.only_if(ROWS, field, raw.as_deref());
        // What is forgotten concerns nobody.
        let held = raw.map(|raw| recorded(id, &raw)).transpose()?;
        let last = match held {
            Some(held) => batch(connection, &mut commit, &held, state.get(1..).unwrap_or_default(), now).await?,
            None => None,
        };
        match &last {
            Some(last) => commit.keep(SWEEPS, field, [UNBEGUN, last].concat()),
            None => commit.forget(SWEEPS, field),
        }
        if commit.run(connection).await? {
            return Ok(last.is_some());
        }
        tries.again().await?;
    }
}

/// What is to be written of the sessions beyond `from`. Returns the last that was looked at, if there may be more.
async fn batch(
    connection: &Connection,
    commit: &mut Commit,
    held: &Recorded,
    from: &[u8],
    now: Timestamp,
) -> Result<Option<Vec<u8>>, StoreError> {
    let swept = Swept::of(&held.revocation);
    let range = swept.as_ref().and_then(swept_range);
    let (Some(swept), Some(range)) = (swept, range) else { return Ok(None) };
    let range = if from.is_empty() { range } else { range.beyond(from, false) };
    let (some, last) = sessions(connection, &Page::of(&range, STEP_ROWS)).await?;
    match &held.ending {
        None => end(commit, &some, &held.revocation, &swept)?,
        Some(Ending::Lifted(_)) => free(connection, commit, &some, held.revocation.id, now).await?,
        // What superseded it sweeps by itself.
        Some(Ending::Superseded(_)) => return Ok(None),
    }
    Ok(last)
}

/// Forgets that these were to be carried over, as they were written.
async fn done(connection: &Connection, rows: impl Iterator<Item = &Recorded>) -> Result<(), StoreError> {
    let mut command = redis::cmd("EVAL");
    command.arg(DONE).arg(2).arg(SWEEPS).arg(ROWS);
    rows.for_each(|held| {
        let position: [u8; POSITION_BYTES] = held.position.get().to_be_bytes();
        command.arg(&id_bytes(held.revocation.id)[..]).arg(&position[..]);
    });
    connection.run(&command).await
}

fn end(commit: &mut Commit, some: &[Held], revocation: &Revocation, swept: &Swept) -> Result<(), StoreError> {
    for held in some.iter().filter(|held| held.session.ended.is_none() && swept.holds(&held.session)) {
        let mut after = held.session.clone();
        after.ended = Some(end_by(revocation));
        put::change(commit, held, &after)?;
    }
    Ok(())
}

/// Frees the sessions that were ended by what was lifted, or by what it had superseded; what else stands ends them anew.
async fn free(
    connection: &Connection,
    commit: &mut Commit,
    some: &[Held],
    lifted: RevocationId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let by = |held: &Held| held.session.ended.as_ref().map(|end| end.revocation);
    let by_it = lifted_with(connection, some.iter().filter_map(by).collect(), lifted).await?;
    let freed: Vec<&Held> = some.iter().filter(|held| by(held).is_some_and(|id| by_it.contains(&id))).collect();
    let selectors = freed.iter().flat_map(|held| naming(&held.session)).collect();
    let standing = standing(connection, selectors, now).await?;
    standing.guard(commit);
    for held in freed {
        let mut after = held.session.clone();
        after.ended = standing.end_of(&after, &naming(&after));
        put::change(commit, held, &after)?;
    }
    Ok(())
}

/// Which of `ids` are that revocation, or were superseded by it, or by what it superseded, and so on.
async fn lifted_with(
    connection: &Connection,
    ids: HashSet<RevocationId>,
    lifted: RevocationId,
) -> Result<HashSet<RevocationId>, StoreError> {
    let mut outdone_by: HashMap<RevocationId, Option<RevocationId>> = HashMap::from([(lifted, None)]);
    let mut found = HashSet::new();
    for id in ids {
        let mut at = Some(id);
        for _ in 0..LONGEST_CHAIN {
            let Some(one) = at.filter(|one| *one != lifted) else { break };
            at = match outdone_by.get(&one) {
                Some(by) => *by,
                None => {
                    let by = row(connection, one).await?.and_then(|held| match held.ending {
                        Some(Ending::Superseded(by)) => Some(by),
                        _ => None,
                    });
                    outdone_by.insert(one, by);
                    by
                }
            };
        }
        if at == Some(lifted) {
            found.insert(id);
        }
    }
    Ok(found)
}
