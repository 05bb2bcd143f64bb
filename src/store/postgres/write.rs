//! What was drafted, written in one statement: new rows, changed rows, the trail, the log's new end with its mark, and the
//! wake-up call. Columns travel as arrays, a round trip for any number of rows.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use sqlx::postgres::{PgArguments, PgConnection, Postgres};
use sqlx::query;
use sqlx::query::Query;

use crate::domain::{Checkpoint, Cutoff, Ending, Revocation, Selector};
use crate::store::postgres::append::{Change, Draft, Drafts};
use crate::store::postgres::fault::Failure;
use crate::store::postgres::rows::{hash, id_column, integer, part, seconds, text};
use crate::store::{AuditRecord, StoreError};

/// What followers listen to. It carries nothing.
pub(super) const CHANNEL: &str = "portcullis";

const WRITE: &str = "WITH inserted AS (\
        INSERT INTO portcullis.revocations (id, position, expires_at, ended_at, lifted_by, superseded_by, crowded, \
            key, selector, parts, reach, cutoff, created_at, actor, reason, named_for) \
        SELECT id, position, expires_at, ended_at, lifted_by, superseded_by, crowded, \
            key, selector, parts::bigint[], reach, cutoff, created_at, actor, reason, named_for \
        FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::bytea[], $7::bool[], \
            $8::bigint[], $9::text[], $10::text[], $11::smallint[], $12::bigint[], $13::bigint[], $14::text[], \
            $15::text[], $16::text[]) \
        AS new (id, position, expires_at, ended_at, lifted_by, superseded_by, crowded, \
            key, selector, parts, reach, cutoff, created_at, actor, reason, named_for)\
    ), updated AS (\
        UPDATE portcullis.revocations AS held SET position = now.position, expires_at = now.expires_at, \
            ended_at = now.ended_at, lifted_by = now.lifted_by, superseded_by = now.superseded_by, crowded = now.crowded \
        FROM unnest($17::bytea[], $18::bigint[], $19::bigint[], $20::bigint[], $21::text[], $22::bytea[], $23::bool[]) \
        AS now (id, position, expires_at, ended_at, lifted_by, superseded_by, crowded) WHERE held.id = now.id\
    ), noted AS (\
        INSERT INTO portcullis.audit (at, actor, address, action, subject, reason, result, revocation) \
        SELECT at, actor, address, action, subject, reason, result, revocation \
        FROM unnest($24::bigint[], $25::text[], $26::text[], $27::text[], $28::text[], $29::text[], $30::text[], \
            $31::bytea[]) WITH ORDINALITY \
        AS new (at, actor, address, action, subject, reason, result, revocation, n) ORDER BY n\
    ), committed AS (\
        INSERT INTO portcullis.commits (position, mark) SELECT $32, $33 WHERE $34\
    ), moved AS (\
        UPDATE portcullis.head SET position = $32, mark = $33 WHERE $34\
    ) SELECT pg_notify($35, '') WHERE $34";

const NOTE: &str = "INSERT INTO portcullis.audit (at, actor, address, action, subject, reason, result, revocation) \
    SELECT at, actor, address, action, subject, reason, result, revocation \
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[]) \
    WITH ORDINALITY AS new (at, actor, address, action, subject, reason, result, revocation, n) ORDER BY n";

/// Writes what was drafted since the log ended at `before`, and sets a mark at its new end.
pub(super) async fn write(
    connection: &mut PgConnection,
    drafts: &Drafts,
    before: Checkpoint,
    head: &mut Checkpoint,
) -> Result<(), Failure> {
    let moved = head.position != before.position;
    if !moved {
        return note(connection, &drafts.notes).await;
    }
    let mark = mark()?;
    head.mark = Some(mark);
    let (mut inserts, mut rest, mut updates) = (Changing::default(), Staying::default(), Changing::default());
    // Who loads them reads them in the order of their positions.
    let mut rows: Vec<&Draft> = drafts.rows.values().collect();
    rows.sort_by_key(|row| row.held.position);
    for row in rows {
        match row.change {
            Change::None => {}
            Change::Insert => {
                inserts.push(row);
                rest.push(&row.held.revocation);
            }
            Change::Update => updates.push(row),
        }
    }
    let mut trail = Trail::default();
    drafts.notes.iter().for_each(|record| trail.push(record));
    let sql = updates.bind(rest.bind(inserts.bind(query(WRITE))));
    let sql = trail.bind(sql).bind(integer(head.position.get())).bind(mark.cast_signed()).bind(moved).bind(CHANNEL);
    sql.execute(connection).await?;
    Ok(())
}

/// Adds lines to the audit trail.
pub(super) async fn note(connection: &mut PgConnection, records: &[AuditRecord]) -> Result<(), Failure> {
    if records.is_empty() {
        return Ok(());
    }
    let mut trail = Trail::default();
    records.iter().for_each(|record| trail.push(record));
    trail.bind(query(NOTE)).execute(connection).await?;
    Ok(())
}

/// A number that no other history will have.
fn mark() -> Result<u64, StoreError> {
    let mut bytes = [0; 8];
    let none = |_| StoreError::Unavailable("the system has no randomness".into());
    SystemRandom::new().fill(&mut bytes).map_err(none)?;
    Ok(u64::from_ne_bytes(bytes))
}

type Sql<'q> = Query<'q, Postgres, PgArguments>;

/// What may change of rows, a list a column.
#[derive(Default)]
struct Changing {
    ids: Vec<Vec<u8>>,
    positions: Vec<i64>,
    expires_at: Vec<Option<i64>>,
    ended_at: Vec<Option<i64>>,
    lifted_by: Vec<Option<String>>,
    superseded_by: Vec<Option<Vec<u8>>>,
    crowded: Vec<bool>,
}

impl Changing {
    fn push(&mut self, row: &Draft) {
        let (lifted_by, superseded_by) = match &row.held.ending {
            None => (None, None),
            Some(Ending::Lifted(lift)) => (Some(text(&lift.actor).into_owned()), None),
            Some(Ending::Superseded(by)) => (None, Some(id_column(*by))),
        };
        let revocation = &row.held.revocation;
        self.ids.push(id_column(revocation.id));
        self.positions.push(integer(row.held.position.get()));
        self.expires_at.push(revocation.expires_at.map(seconds));
        self.ended_at.push(row.ended_at.map(seconds));
        self.lifted_by.push(lifted_by);
        self.superseded_by.push(superseded_by);
        self.crowded.push(row.crowded);
    }

    fn bind(self, sql: Sql<'_>) -> Sql<'_> {
        sql.bind(self.ids)
            .bind(self.positions)
            .bind(self.expires_at)
            .bind(self.ended_at)
            .bind(self.lifted_by)
            .bind(self.superseded_by)
            .bind(self.crowded)
    }
}

/// What stays of rows as it was, a list a column.
#[derive(Default)]
struct Staying {
    keys: Vec<i64>,
    selectors: Vec<String>,
    parts: Vec<String>,
    reaches: Vec<i16>,
    cutoffs: Vec<Option<i64>>,
    created_at: Vec<i64>,
    actors: Vec<String>,
    reasons: Vec<Option<String>>,
    named_for: Vec<Option<String>>,
}

impl Staying {
    fn push(&mut self, revocation: &Revocation) {
        let selector = revocation.selector.canonical();
        self.keys.push(hash(&selector));
        self.selectors.push(selector);
        self.parts.push(parts(&revocation.selector));
        self.reaches.push(i16::from(revocation.reach.bits()));
        self.cutoffs.push(match revocation.cutoff {
            Cutoff::Until(last) => Some(seconds(last)),
            Cutoff::Absolute => None,
        });
        self.created_at.push(seconds(revocation.created_at));
        self.actors.push(text(&revocation.actor).into_owned());
        self.reasons.push(revocation.reason.as_deref().map(|reason| text(reason).into_owned()));
        self.named_for.push(revocation.named_for.as_ref().map(Selector::canonical));
    }

    fn bind(self, sql: Sql<'_>) -> Sql<'_> {
        sql.bind(self.keys)
            .bind(self.selectors)
            .bind(self.parts)
            .bind(self.reaches)
            .bind(self.cutoffs)
            .bind(self.created_at)
            .bind(self.actors)
            .bind(self.reasons)
            .bind(self.named_for)
    }
}

/// The hashes of a selector's claims, as PostgreSQL writes an array.
fn parts(selector: &Selector) -> String {
    let hashes = selector.parts().filter_map(|(name, value)| part(&name.to_string(), value));
    format!("{{{}}}", hashes.map(|hash| hash.to_string()).collect::<Vec<_>>().join(","))
}

/// Lines of the trail, a list a column.
#[derive(Default)]
struct Trail {
    at: Vec<i64>,
    actors: Vec<String>,
    addresses: Vec<String>,
    actions: Vec<String>,
    subjects: Vec<String>,
    reasons: Vec<Option<String>>,
    results: Vec<String>,
    revocations: Vec<Option<Vec<u8>>>,
}

impl Trail {
    fn push(&mut self, record: &AuditRecord) {
        self.at.push(seconds(record.at));
        self.actors.push(text(&record.actor).into_owned());
        self.addresses.push(text(&record.address).into_owned());
        self.actions.push(text(&record.action).into_owned());
        self.subjects.push(text(&record.subject).into_owned());
        self.reasons.push(record.reason.as_deref().map(|reason| text(reason).into_owned()));
        self.results.push(text(&record.result).into_owned());
        self.revocations.push(record.revocation.map(id_column));
    }

    fn bind(self, sql: Sql<'_>) -> Sql<'_> {
        sql.bind(self.at)
            .bind(self.actors)
            .bind(self.addresses)
            .bind(self.actions)
            .bind(self.subjects)
            .bind(self.reasons)
            .bind(self.results)
            .bind(self.revocations)
    }
}
