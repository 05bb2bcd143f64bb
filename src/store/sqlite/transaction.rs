//! What is done inside one transaction: entries are compared with what stands and written, records are added, expired rows
//! go. Nothing here commits.

use sqlx::sqlite::SqliteConnection;
use sqlx::{query, query_scalar};

use crate::domain::{Entry, Position, Recorded, RevocationId, Selector, Timestamp};
use crate::store::decide::{Write, decide, told};
use crate::store::feed;
use crate::store::sqlite::fault::not_the_disk;
use crate::store::sqlite::rows::{
    cutoff_column, ending_columns, integer, position, recorded, revocation_columns, seconds,
};
use crate::store::sqlite::sessions;
use crate::store::{Appended, AuditRecord, Batch, ENDED_RETENTION, StoreError};

/// A failure inside a transaction: of SQLite, or of what a row holds.
pub(super) enum Failure {
    Sqlite(sqlx::Error),
    Row(StoreError),
}

impl Failure {
    /// Whether another job may succeed where this one failed: it is about what was to be written or what was read, not
    /// about the disk.
    pub(super) fn concerns_one(&self) -> bool {
        match self {
            Self::Row(error) => !matches!(error, StoreError::Unavailable(_)),
            Self::Sqlite(error) => not_the_disk(error),
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Row(error)
    }
}

/// The log's end.
pub(super) async fn read_head(connection: &mut SqliteConnection) -> Result<Position, sqlx::Error> {
    query_scalar("SELECT head FROM log").fetch_one(connection).await.map(position)
}

/// Moves the log's end.
pub(super) async fn write_head(connection: &mut SqliteConnection, head: Position) -> Result<(), sqlx::Error> {
    query("UPDATE log SET head = ?1").bind(integer(head.get())).execute(connection).await.map(|_| ())
}

/// Carries out a batch; `head` moves on with each row written.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    batch: &Batch,
    head: &mut Position,
) -> Result<Appended, Failure> {
    feed::reached(batch.seen, *head)?;
    let mut dispositions = Vec::with_capacity(batch.entries.len());
    let mut audit = batch.audit.iter();
    for entry in &batch.entries {
        let decision = decide(entry, known(connection, entry).await?, batch.now, head);
        for write in &decision.writes {
            self::write(connection, write, batch.now).await?;
            sessions::carry_over(connection, write, batch.now).await?;
        }
        if let Some(record) = audit.next().filter(|_| !decision.repeated) {
            note(connection, &told(record, &decision.disposition)).await?;
        }
        dispositions.push(decision.disposition);
    }
    for record in audit {
        note(connection, record).await?;
    }
    Ok(Appended { position: *head, dispositions })
}

/// The rows an entry is compared with.
async fn known(connection: &mut SqliteConnection, entry: &Entry) -> Result<Vec<Recorded>, Failure> {
    const BY_ID: &str = concat!("SELECT ", revocation_columns!(), " FROM revocations WHERE id = ?1");
    const BY_BOTH: &str = concat!(
        "SELECT ",
        revocation_columns!(),
        " FROM revocations WHERE id = ?1 UNION SELECT ",
        revocation_columns!(),
        " FROM revocations WHERE selector = ?2 AND ended_at IS NULL ORDER BY position"
    );
    let found = match entry {
        Entry::Lift { id, .. } => query(BY_ID).bind(id.to_string()),
        Entry::Restore(lost) => query(BY_ID).bind(lost.revocation.id.to_string()),
        Entry::Revoke(incoming) => query(BY_BOTH).bind(incoming.id.to_string()).bind(incoming.selector.canonical()),
    };
    let rows = found.fetch_all(connection).await?;
    Ok(rows.iter().map(recorded).collect::<Result<_, _>>()?)
}

async fn write(connection: &mut SqliteConnection, write: &Write, now: Timestamp) -> Result<(), sqlx::Error> {
    match write {
        Write::Insert(held) => insert(connection, held, now).await,
        Write::Update(held) => update(connection, held, now).await,
    }
}

async fn insert(connection: &mut SqliteConnection, held: &Recorded, now: Timestamp) -> Result<(), sqlx::Error> {
    const INSERT: &str = "INSERT INTO revocations \
        (id, selector, reach, cutoff, created_at, expires_at, actor, reason, position, named_for, \
         ended_at, lifted_by, superseded_by) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
    const INSERT_PARTS: &str =
        "INSERT INTO parts (name, value, revocation) SELECT key, value, ?2 FROM json_each(?1) WHERE key <> 'issuer'";
    let revocation = &held.revocation;
    let selector = revocation.selector.canonical();
    let (ended_at, lifted_by, superseded_by) = ending_columns(held.ending.as_ref(), now);
    let inserted = query(INSERT)
        .bind(revocation.id.to_string())
        .bind(&selector)
        .bind(revocation.reach.bits())
        .bind(cutoff_column(revocation.cutoff))
        .bind(seconds(revocation.created_at))
        .bind(revocation.expires_at.map(seconds))
        .bind(&*revocation.actor)
        .bind(revocation.reason.as_deref())
        .bind(integer(held.position.get()))
        .bind(revocation.named_for.as_ref().map(Selector::canonical))
        .bind(ended_at)
        .bind(lifted_by)
        .bind(superseded_by);
    let number = inserted.execute(&mut *connection).await?.last_insert_rowid();
    query(INSERT_PARTS).bind(&selector).bind(number).execute(connection).await.map(|_| ())
}

async fn update(connection: &mut SqliteConnection, held: &Recorded, now: Timestamp) -> Result<(), sqlx::Error> {
    const UPDATE: &str = "UPDATE revocations \
        SET expires_at = ?2, position = ?3, ended_at = ?4, lifted_by = ?5, superseded_by = ?6 WHERE id = ?1";
    let (ended_at, lifted_by, superseded_by) = ending_columns(held.ending.as_ref(), now);
    let updated = query(UPDATE)
        .bind(held.revocation.id.to_string())
        .bind(held.revocation.expires_at.map(seconds))
        .bind(integer(held.position.get()))
        .bind(ended_at)
        .bind(lifted_by)
        .bind(superseded_by);
    updated.execute(connection).await.map(|_| ())
}

/// Adds a line to the audit trail.
pub(super) async fn note(connection: &mut SqliteConnection, record: &AuditRecord) -> Result<(), sqlx::Error> {
    const NOTE: &str = "INSERT INTO audit (at, actor, address, action, subject, reason, result, revocation) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let noted = query(NOTE)
        .bind(seconds(record.at))
        .bind(&record.actor)
        .bind(&record.address)
        .bind(&record.action)
        .bind(&record.subject)
        .bind(record.reason.as_deref())
        .bind(&record.result)
        .bind(record.revocation.map(|id: RevocationId| id.to_string()));
    noted.execute(connection).await.map(|_| ())
}

/// Deletes at most `limit` rows that expired, and as many that ended long ago.
pub(super) async fn forget(connection: &mut SqliteConnection, now: Timestamp, limit: u32) -> Result<u64, sqlx::Error> {
    // The same rows in both statements: nothing is written between them.
    macro_rules! over {
        () => {
            "(SELECT number FROM (SELECT number FROM revocations WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?3) \
              UNION ALL SELECT number FROM (SELECT number FROM revocations \
                  WHERE ended_at IS NOT NULL AND expires_at IS NULL AND ended_at <= ?2 ORDER BY ended_at LIMIT ?3))"
        };
    }
    const FORGET_PARTS: &str = concat!(
        "DELETE FROM parts WHERE (name, value, revocation) IN (SELECT part.key, part.value, number \
         FROM revocations, json_each(revocations.selector) AS part WHERE number IN ",
        over!(),
        ")"
    );
    const FORGET: &str = concat!("DELETE FROM revocations WHERE number IN ", over!());
    let ended_until = seconds(now.before(ENDED_RETENTION));
    let parts = query(FORGET_PARTS).bind(seconds(now)).bind(ended_until).bind(limit);
    parts.execute(&mut *connection).await?;
    let rows = query(FORGET).bind(seconds(now)).bind(ended_until).bind(limit);
    Ok(rows.execute(connection).await?.rows_affected())
}
