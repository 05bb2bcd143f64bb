//! Revocations carried over to the sessions they end, and lifts to those they free, in the transaction that appends
//! them. One that concerns very many is begun there and finished by whoever comes next, a batch at a time, so that no other
//! revocation has to wait for it; so is one of a session that somebody else is changing just then, for nobody who
//! revokes waits for traffic.
//!
//! Who ends or frees sessions holds [`LOCK`] until the commit. So two of them never meet; and who has just added a session,
//! and waits for that lock once, has either been seen by a revocation or can see it.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::postgres::PgConnection;
use sqlx::{Row, query, query_scalar};

use crate::domain::{Ending, Recorded, Revocation, RevocationId, Session, SessionEnd, Timestamp};
use crate::store::decide::Write;
use crate::store::postgres::fault::Failure;
use crate::store::postgres::rows::{hash, id, id_column, recorded, revocation_columns, seconds};
use crate::store::postgres::sessions::rows::{EndArrays, Numbered, corrupt, session, session_columns};
use crate::store::postgres::sessions::text::stored_option;
use crate::store::session_end::{Swept, end_by, naming};

/// `ptcs`: what those who end and free sessions hold.
const LOCK: i64 = 0x7074_6373;
/// How many sessions one step ends, at most; few in tests, which thus take several.
pub(super) const END_ROWS: i64 = if cfg!(test) { 5 } else { 250 };
/// How many sessions one step frees, at most; each is looked at, whether anything else ends it.
const FREE_ROWS: i64 = if cfg!(test) { 5 } else { 250 };

/// Waits until whoever is ending or freeing sessions now has committed. Nobody has to wait for us in turn: the lock is let
/// go of in the statement that takes it. What is asked afterwards must be asked by a statement that sees what they did.
pub(super) async fn wait(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    const WAIT: &str = "SELECT pg_advisory_lock_shared($1), pg_advisory_unlock_shared($1)";
    query(WAIT).bind(LOCK).execute(connection).await.map(|_| ())
}

/// Holds the lock if nobody else does; whether that is so.
async fn try_lock(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    query_scalar("SELECT pg_try_advisory_xact_lock($1)").bind(LOCK).fetch_one(connection).await
}

async fn lock(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(connection).await.map(|_| ())
}

/// Carries out what an append has written to the log, in its transaction and after all its rows: each write, and when it was
/// asked for. A lift frees only what nothing else ends by now, so the order among them does not matter.
pub(in crate::store::postgres) async fn carry_over(
    connection: &mut PgConnection,
    writes: &[(Write, Timestamp)],
) -> Result<(), Failure> {
    let (mut begun, mut lifted) = (Vec::new(), Vec::new());
    for (write, _) in writes {
        let (Write::Insert(held) | Write::Update(held)) = write;
        let Some(swept) = Swept::of(&held.revocation) else { continue };
        match (write, &held.ending) {
            (_, Some(Ending::Lifted(_))) => lifted.push(held.revocation.id),
            (Write::Insert(_), None) => begun.push(Asked { revocation: &held.revocation, swept, reached: 0 }),
            _ => {}
        }
    }
    begun.retain(|asked| !lifted.contains(&asked.revocation.id));
    if begun.is_empty() && lifted.is_empty() {
        return Ok(());
    }
    lock(connection).await?;
    end(connection, &begun).await?;
    let now = writes.iter().map(|(_, now)| *now).max().unwrap_or_default();
    free(connection, &lifted, 0, now).await.map(|_| ())
}

/// Marks sessions that were learned while, or after, something ended them: those revocations begin anew.
pub(super) async fn begin_again(
    connection: &mut PgConnection,
    selectors: Vec<String>,
    now: Timestamp,
) -> Result<(), Failure> {
    lock(connection).await?;
    for held in standing(connection, selectors, now).await?.0.into_values().flatten() {
        step(connection, &held, 0, now).await?;
    }
    Ok(())
}

/// Goes on with one revocation that was begun, unless somebody else is at it just now. Whether that got anywhere, so that
/// it is worth going on.
pub(super) async fn help(connection: &mut PgConnection, now: Timestamp) -> Result<bool, Failure> {
    if !is_unfinished(connection).await? || !try_lock(connection).await? {
        return Ok(false);
    }
    next(connection, now).await
}

/// Goes on with one revocation that was begun.
pub(super) async fn go_on(connection: &mut PgConnection, now: Timestamp) -> Result<bool, Failure> {
    if !is_unfinished(connection).await? {
        return Ok(false);
    }
    lock(connection).await?;
    next(connection, now).await
}

async fn next(connection: &mut PgConnection, now: Timestamp) -> Result<bool, Failure> {
    const FIND: &str = concat!("SELECT ", revocation_columns!(), " FROM portcullis.revocations WHERE id = $1");
    // Any of them: one that gets nowhere must not keep the others.
    let next = query("SELECT revocation, reached FROM portcullis.sweeps ORDER BY random() LIMIT 1");
    let Some(next) = next.fetch_optional(&mut *connection).await? else { return Ok(false) };
    let (revocation, reached): (Vec<u8>, i64) = (next.try_get(0)?, next.try_get(1)?);
    let row = query(FIND).bind(&revocation).fetch_optional(&mut *connection).await?;
    let held = row.as_ref().map(recorded).transpose()?;
    match held.filter(|held| !matches!(held.ending, Some(Ending::Superseded(_)))) {
        Some(held) => step(connection, &held, reached, now).await,
        // What superseded it sweeps by itself; what is forgotten concerns nobody.
        None => {
            note(connection, &[id(&revocation).map_err(corrupt)?], &BTreeMap::new()).await?;
            Ok(true)
        }
    }
}

/// Whether something was begun and is not finished.
pub(super) async fn is_unfinished(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    query_scalar("SELECT EXISTS (SELECT FROM portcullis.sweeps)").fetch_one(connection).await
}

/// One batch of sessions whose numbers are beyond `reached`. Whether that got anywhere.
async fn step(connection: &mut PgConnection, held: &Recorded, reached: i64, now: Timestamp) -> Result<bool, Failure> {
    match (&held.ending, Swept::of(&held.revocation)) {
        (_, None) | (Some(Ending::Superseded(_)), _) => Ok(false),
        (None, Some(swept)) => end(connection, &[Asked { revocation: &held.revocation, swept, reached }]).await,
        (Some(Ending::Lifted(_)), Some(_)) => free(connection, &[held.revocation.id], reached, now).await,
    }
}

/// Notes how far revocations have come; those that are not told of have finished.
async fn note(
    connection: &mut PgConnection,
    all: &[RevocationId],
    unfinished: &BTreeMap<usize, i64>,
) -> Result<(), sqlx::Error> {
    const NOTE: &str = "INSERT INTO portcullis.sweeps (revocation, reached) \
        SELECT * FROM unnest($1::bytea[], $2::bigint[]) ON CONFLICT (revocation) DO UPDATE SET reached = excluded.reached";
    const FORGET: &str = "DELETE FROM portcullis.sweeps WHERE revocation = ANY($1)";
    let numbered = || all.iter().copied().map(id_column).enumerate();
    let finished: Vec<_> = numbered().filter(|(at, _)| !unfinished.contains_key(at)).map(|(_, id)| id).collect();
    query(FORGET).bind(finished).execute(&mut *connection).await?;
    if unfinished.is_empty() {
        return Ok(());
    }
    let (ids, reached): (Vec<_>, Vec<i64>) =
        numbered().filter_map(|(at, id)| Some((id, *unfinished.get(&at)?))).unzip();
    query(NOTE).bind(ids).bind(reached).execute(connection).await.map(|_| ())
}

/// A revocation, whom it ends, and the number of the last session that was looked at.
#[derive(Debug)]
struct Asked<'a> {
    revocation: &'a Revocation,
    swept: Swept,
    reached: i64,
}

/// The SQL that finds sessions to end by their narrowest claim, those of each revocation in the order of their numbers.
macro_rules! going {
    ($claim:literal) => {
        concat!(
            "SELECT asked.place, going.number FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], \
                $6::text[], $7::bigint[], $8::bigint[]) \
                AS asked (place, id, sub, username, client, issuer, until, reached) \
             CROSS JOIN LATERAL (SELECT number FROM portcullis.sessions WHERE sessions.",
            $claim,
            " = asked.",
            $claim,
            " AND ended_at IS NULL AND (asked.sub IS NULL OR sessions.sub = asked.sub) \
                AND (asked.username IS NULL OR sessions.username = asked.username) \
                AND (asked.client IS NULL OR sessions.client = asked.client) \
                AND (asked.issuer IS NULL OR sessions.issuer = asked.issuer) \
                AND (asked.until IS NULL OR created_at <= asked.until) \
                AND sessions.number > asked.reached ORDER BY sessions.number LIMIT $9) AS going \
             ORDER BY asked.place, going.number LIMIT $9"
        )
    };
}

/// Whether sessions are swept by some claim.
type NamesIt = fn(&Swept) -> bool;

/// By which claim sessions are found, the narrowest first.
const GOING: [(NamesIt, &str); 5] = [
    (|swept| swept.session.is_some(), going!("id")),
    (|swept| swept.user.is_some(), going!("sub")),
    (|swept| swept.username.is_some(), going!("username")),
    (|swept| swept.client.is_some(), going!("client")),
    (|swept| swept.issuer.is_some(), going!("issuer")),
];

/// Ends a batch of sessions, each by the first of the revocations that ends it. Whether that got anywhere.
async fn end(connection: &mut PgConnection, asked: &[Asked<'_>]) -> Result<bool, Failure> {
    let (mut first, mut unfinished) = (BTreeMap::<i64, usize>::new(), BTreeMap::new());
    for (at, (_, sql)) in GOING.iter().enumerate() {
        let narrowest = |asked: &Asked<'_>| GOING.iter().position(|(names, _)| names(&asked.swept));
        let places = || asked.iter().enumerate().filter(|(_, asked)| narrowest(asked) == Some(at));
        if places().next().is_none() {
            continue;
        }
        let found = going(connection, sql, places()).await?;
        if let Some((last, reached)) = found.last().filter(|_| found.len() as i64 == END_ROWS) {
            unfinished.extend(places().filter(|(place, _)| place > last).map(|(place, asked)| (place, asked.reached)));
            unfinished.insert(*last, *reached);
        }
        for (place, number) in found {
            first.entry(number).and_modify(|held| *held = place.min(*held)).or_insert(place);
        }
    }
    let ended = mark(connection, asked, &first).await?;
    for (number, place) in first.iter().filter(|(number, _)| !ended.contains(number)) {
        let before = number - 1;
        unfinished.entry(*place).and_modify(|reached| *reached = before.min(*reached)).or_insert(before);
    }
    let on = |(place, reached): (&usize, &i64)| asked.get(*place).is_some_and(|asked| asked.reached < *reached);
    let moved = !ended.is_empty() || unfinished.len() < asked.len() || unfinished.iter().any(on);
    let ids: Vec<RevocationId> = asked.iter().map(|asked| asked.revocation.id).collect();
    note(connection, &ids, &unfinished).await?;
    Ok(moved)
}

/// Sessions to end, each with the place of the revocation that ends it.
async fn going<'a>(
    connection: &mut PgConnection,
    sql: &'static str,
    asked: impl Iterator<Item = (usize, &'a Asked<'a>)> + Clone,
) -> Result<Vec<(usize, i64)>, sqlx::Error> {
    let claims = |claim: fn(&Swept) -> Option<&str>| -> Vec<Option<String>> {
        asked.clone().map(|(_, asked)| stored_option(claim(&asked.swept)).map(Into::into)).collect()
    };
    let found = query(sql)
        .bind(asked.clone().map(|(place, _)| place as i64).collect::<Vec<_>>())
        .bind(claims(|swept| swept.session.as_deref()))
        .bind(claims(|swept| swept.user.as_deref()))
        .bind(claims(|swept| swept.username.as_deref()))
        .bind(claims(|swept| swept.client.as_deref()))
        .bind(claims(|swept| swept.issuer.as_deref()))
        .bind(asked.clone().map(|(_, asked)| asked.swept.until.map(seconds)).collect::<Vec<_>>())
        .bind(asked.map(|(_, asked)| asked.reached).collect::<Vec<_>>())
        .bind(END_ROWS);
    let rows = found.fetch_all(connection).await?;
    rows.iter()
        .map(|row| Ok((usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or_default(), row.try_get(1)?)))
        .collect()
}

/// Marks sessions as ended but those that somebody else is changing; the numbers of the marked.
async fn mark(
    connection: &mut PgConnection,
    asked: &[Asked<'_>],
    first: &BTreeMap<i64, usize>,
) -> Result<HashSet<i64>, sqlx::Error> {
    if first.is_empty() {
        return Ok(HashSet::new());
    }
    let mut ends = EndArrays::default();
    for (number, place) in first {
        ends.push(*number, asked.get(*place).map(|asked| end_by(asked.revocation)).as_ref());
    }
    write_ends(connection, ends).await
}

async fn write_ends(connection: &mut PgConnection, ends: EndArrays) -> Result<HashSet<i64>, sqlx::Error> {
    const WRITE: &str = "WITH free AS MATERIALIZED (SELECT number FROM portcullis.sessions WHERE number = ANY($1) \
            ORDER BY number FOR NO KEY UPDATE SKIP LOCKED) \
        UPDATE portcullis.sessions SET ended_at = told.ended_at, ended_by = told.ended_by, \
            end_reason = told.end_reason, revocation = told.revocation \
        FROM free JOIN unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bytea[]) \
            AS told (number, ended_at, ended_by, end_reason, revocation) ON told.number = free.number \
        WHERE sessions.number = free.number RETURNING sessions.number";
    let written = query_scalar(WRITE).bind(ends.numbers).bind(ends.ended_at).bind(ends.ended_by);
    let written: Vec<i64> = written.bind(ends.reasons).bind(ends.revocations).fetch_all(connection).await?;
    Ok(written.into_iter().collect())
}

/// Frees what lifted revocations ended, or those that they superseded, unless something else that stands ends it. Whether
/// that got anywhere.
async fn free(
    connection: &mut PgConnection,
    lifted: &[RevocationId],
    reached: i64,
    now: Timestamp,
) -> Result<bool, Failure> {
    const ENDED: &str = concat!(
        "WITH RECURSIVE lifted (id) AS (SELECT unnest($1::bytea[]) UNION \
            SELECT revocations.id FROM portcullis.revocations JOIN lifted ON superseded_by = lifted.id) SELECT ",
        session_columns!(),
        " FROM portcullis.sessions WHERE revocation IN (SELECT lifted.id FROM lifted) AND ended_at IS NOT NULL \
         AND sessions.number > $2 ORDER BY sessions.number LIMIT $3"
    );
    if lifted.is_empty() {
        return Ok(false);
    }
    let ids: Vec<_> = lifted.iter().copied().map(id_column).collect();
    let rows = query(ENDED).bind(ids).bind(reached).bind(FREE_ROWS).fetch_all(&mut *connection).await?;
    let ended: Vec<Numbered> = rows.iter().map(session).collect::<Result<_, _>>()?;
    let standing = standing(connection, ended.iter().flat_map(|ended| naming(&ended.session)).collect(), now).await?;
    let mut ends = EndArrays::default();
    for Numbered { number, session } in &ended {
        ends.push(*number, standing.end_of(session, &naming(session)).as_ref());
    }
    let freed = if ended.is_empty() { HashSet::new() } else { write_ends(connection, ends).await? };
    let full = ended.last().filter(|_| ended.len() as i64 == FREE_ROWS).map(|last| last.number);
    let held_up = ended.iter().find(|ended| !freed.contains(&ended.number)).map(|ended| ended.number - 1);
    let unfinished = held_up.or(full);
    let places = unfinished.map(|reached| (0..lifted.len()).map(|place| (place, reached)).collect());
    note(connection, lifted, &places.unwrap_or_default()).await?;
    Ok(!freed.is_empty() || unfinished.is_none_or(|at| at > reached))
}

/// What stands for some selectors.
#[derive(Debug)]
pub(super) struct Standing(HashMap<String, Vec<Recorded>>);

impl Standing {
    /// Whether nothing does.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How `session` is ended by what stands for one of `selectors`.
    pub(super) fn end_of(&self, session: &Session, selectors: &[String]) -> Option<SessionEnd> {
        let standing = selectors.iter().filter_map(|selector| self.0.get(selector)).flatten();
        let mut revocations = standing.map(|held| &held.revocation);
        revocations.find(|held| Swept::of(held).is_some_and(|swept| swept.holds(session))).map(end_by)
    }
}

/// What stands at `now` for exactly these selectors.
pub(super) async fn standing(
    connection: &mut PgConnection,
    mut selectors: Vec<String>,
    now: Timestamp,
) -> Result<Standing, Failure> {
    const STANDING: &str = concat!(
        "SELECT ",
        revocation_columns!(),
        " FROM portcullis.revocations WHERE key = ANY($1) AND ended_at IS NULL ORDER BY position"
    );
    selectors.sort_unstable();
    selectors.dedup();
    let mut standing: HashMap<String, Vec<Recorded>> = HashMap::new();
    if selectors.is_empty() {
        return Ok(Standing(standing));
    }
    let keys: Vec<i64> = selectors.iter().map(|selector| hash(selector)).collect();
    for held in query(STANDING).bind(keys).fetch_all(connection).await?.iter().map(recorded) {
        let held = held?;
        let selector = held.revocation.selector.canonical();
        if held.stands(now) && selectors.binary_search(&selector).is_ok() {
            standing.entry(selector).or_default().push(held);
        }
    }
    Ok(Standing(standing))
}
