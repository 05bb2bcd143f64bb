//! Revocations carried over to the sessions they end, and lifts to those they free, in the transaction that appends
//! them. One that concerns very many is begun there and finished by the upkeep, a batch at a time, so that no other
//! revocation has to wait for it.

use std::collections::HashMap;

use serde_json::Value;
use sqlx::sqlite::{Sqlite, SqliteConnection};
use sqlx::{QueryBuilder, query};

use crate::domain::{Ending, Recorded, Revocation, RevocationId, Session, SessionEnd, Timestamp};
use crate::store::decide::Write;
use crate::store::session_end::{Swept, end_by, naming};
use crate::store::sqlite::rows::{recorded, revocation_columns, seconds};
use crate::store::sqlite::sessions::rows::{Numbered, numbers, session, session_columns, written};
use crate::store::sqlite::transaction::Failure;

/// How many sessions one step ends, at most; few in tests, which thus take several.
pub(super) const END_ROWS: i64 = if cfg!(test) { 5 } else { 1_000 };
/// How many sessions one step frees, at most; each is looked at, whether anything else ends it.
const FREE_ROWS: i64 = if cfg!(test) { 5 } else { 500 };

/// Carries out what a write to the log means for the sessions.
pub(in crate::store::sqlite) async fn carry_over(
    connection: &mut SqliteConnection,
    write: &Write,
    now: Timestamp,
) -> Result<(), Failure> {
    let held = match write {
        Write::Insert(held) => held,
        Write::Update(held) if matches!(held.ending, Some(Ending::Lifted(_))) => held,
        Write::Update(_) => return Ok(()),
    };
    step(connection, held, 0, now).await.map(|_| ())
}

/// Goes on with one revocation that was begun. Returns how many sessions were changed; `None` when all are done.
pub(super) async fn go_on(connection: &mut SqliteConnection, now: Timestamp) -> Result<Option<u64>, Failure> {
    const FIND: &str = concat!("SELECT ", revocation_columns!(), " FROM revocations WHERE id = ?1");
    let next: Option<(String, i64)> =
        sqlx::query_as("SELECT revocation, reached FROM sweeps LIMIT 1").fetch_optional(&mut *connection).await?;
    let Some((id, reached)) = next else { return Ok(None) };
    let row = query(FIND).bind(&id).fetch_optional(&mut *connection).await?;
    let held = row.as_ref().map(recorded).transpose()?;
    match held.filter(|held| !matches!(held.ending, Some(Ending::Superseded(_)))) {
        Some(held) => step(connection, &held, reached, now).await.map(Some),
        // What superseded it sweeps by itself; what is forgotten concerns nobody.
        None => {
            query("DELETE FROM sweeps WHERE revocation = ?1").bind(&id).execute(connection).await?;
            Ok(Some(0))
        }
    }
}

/// One batch of sessions whose numbers are beyond `reached`; where to go on is noted.
async fn step(
    connection: &mut SqliteConnection,
    held: &Recorded,
    reached: i64,
    now: Timestamp,
) -> Result<u64, Failure> {
    let (batch, full) = match (&held.ending, Swept::of(&held.revocation)) {
        (_, None) => return Ok(0),
        (None, Some(swept)) => (end(connection, &held.revocation, &swept, reached).await?, END_ROWS),
        (Some(_), Some(_)) => (free(connection, held.revocation.id, reached, now).await?, FREE_ROWS),
    };
    let id = held.revocation.id.to_string();
    let note = match batch.last().filter(|_| batch.len() as i64 == full) {
        Some(last) => query("INSERT OR REPLACE INTO sweeps (revocation, reached) VALUES (?1, ?2)").bind(id).bind(last),
        None => query("DELETE FROM sweeps WHERE revocation = ?1").bind(id),
    };
    note.execute(connection).await?;
    Ok(batch.len() as u64)
}

async fn end(
    connection: &mut SqliteConnection,
    revocation: &Revocation,
    swept: &Swept,
    reached: i64,
) -> Result<Vec<i64>, sqlx::Error> {
    const END: &str = "UPDATE sessions SET ended_at = ?2, ended_by = ?3, end_reason = ?4, revocation = ?5 \
        WHERE number IN (SELECT value FROM json_each(?1))";
    let batch: Vec<i64> = going(swept, reached).build_query_scalar().fetch_all(&mut *connection).await?;
    if batch.is_empty() {
        return Ok(batch);
    }
    let ended = query(END)
        .bind(numbers(batch.iter().copied()))
        .bind(seconds(revocation.created_at))
        .bind(&*revocation.actor)
        .bind(revocation.reason.as_deref())
        .bind(revocation.id.to_string());
    ended.execute(connection).await?;
    Ok(batch)
}

/// The SQL that finds sessions to end, in the order of their numbers. The narrowest claim finds them; the unary plus
/// keeps SQLite from finding them by another.
fn going(swept: &Swept, reached: i64) -> QueryBuilder<Sqlite> {
    let Swept { issuer, session, user, username, client, until } = swept;
    let claims = [("id", session), ("user", user), ("username", username), ("client", client), ("issuer", issuer)];
    let mut sql = QueryBuilder::new("SELECT number FROM sessions WHERE +ended_at IS NULL");
    let named = claims.into_iter().filter_map(|(column, value)| Some((column, value.as_deref()?)));
    for (at, (column, value)) in named.enumerate() {
        sql.push(if at == 0 { " AND " } else { " AND +" }).push(column).push(" = ").push_bind(value.to_owned());
    }
    if let Some(until) = until {
        sql.push(" AND +created_at <= ").push_bind(seconds(*until));
    }
    sql.push(" AND number > ").push_bind(reached).push(" ORDER BY number LIMIT ").push_bind(END_ROWS);
    sql
}

/// Frees what the lifted revocation ended, or one that it superseded, unless something else that stands ends it.
async fn free(
    connection: &mut SqliteConnection,
    lifted: RevocationId,
    reached: i64,
    now: Timestamp,
) -> Result<Vec<i64>, Failure> {
    const ENDED: &str = concat!(
        "WITH RECURSIVE lifted (id) AS (SELECT ?1 UNION \
             SELECT revocations.id FROM revocations JOIN lifted ON superseded_by = lifted.id) SELECT ",
        session_columns!(),
        " FROM sessions WHERE revocation IN (SELECT id FROM lifted) AND sessions.number > ?2 \
         ORDER BY sessions.number LIMIT ?3"
    );
    const FREE: &str = "UPDATE sessions SET ended_at = value ->> 15, ended_by = value ->> 16, end_reason = value ->> 17, \
        revocation = value ->> 18 FROM json_each(?1) WHERE number = value ->> 0";
    let rows = query(ENDED).bind(lifted.to_string()).bind(reached).bind(FREE_ROWS).fetch_all(&mut *connection).await?;
    let mut freed: Vec<Numbered> = rows.iter().map(session).collect::<Result<_, _>>()?;
    let selectors = freed.iter().flat_map(|freed| naming(&freed.session)).collect();
    let standing = standing(connection, selectors, now).await?;
    for Numbered { session, .. } in &mut freed {
        session.ended = standing.end_of(session, &naming(session));
    }
    let rows: Value = freed.iter().map(written).collect();
    query(FREE).bind(rows.to_string()).execute(connection).await?;
    Ok(freed.into_iter().map(|freed| freed.number).collect())
}

/// What stands for some selectors.
pub(super) struct Standing(HashMap<String, Vec<Revocation>>);

impl Standing {
    /// How `session` is ended by what stands for one of `selectors`.
    pub(super) fn end_of(&self, session: &Session, selectors: &[String]) -> Option<SessionEnd> {
        let mut standing = selectors.iter().filter_map(|selector| self.0.get(selector)).flatten();
        standing.find(|held| Swept::of(held).is_some_and(|swept| swept.holds(session))).map(end_by)
    }
}

/// What stands at `now` for exactly these selectors.
pub(super) async fn standing(
    connection: &mut SqliteConnection,
    mut selectors: Vec<String>,
    now: Timestamp,
) -> Result<Standing, Failure> {
    const STANDING: &str = concat!(
        "SELECT ",
        revocation_columns!(),
        " FROM revocations WHERE selector IN (SELECT value FROM json_each(?1)) AND ended_at IS NULL ORDER BY position"
    );
    selectors.sort_unstable();
    selectors.dedup();
    let wanted = Value::from(selectors).to_string();
    let rows = query(STANDING).bind(wanted).fetch_all(connection).await?;
    let mut standing: HashMap<String, Vec<Revocation>> = HashMap::new();
    for held in rows.iter().map(recorded) {
        let held = held?;
        if held.stands(now) {
            standing.entry(held.revocation.selector.canonical()).or_default().push(held.revocation);
        }
    }
    Ok(Standing(standing))
}
