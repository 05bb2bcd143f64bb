//! The schema's versions. It says which version it has, and the oldest one whose program may still work on it: so old and
//! new programs run side by side while a fleet is upgraded. An older schema is brought up to date in one transaction, by
//! one program at a time; one that is too new for this program is refused.

use std::sync::Arc;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, query, query_as, query_scalar, raw_sql};

use crate::store::StoreError;
use crate::store::postgres::fault::Failure;

/// What brings the schema from each version to the next.
const MIGRATIONS: [&str; 2] = [include_str!("migrations/1.sql"), include_str!("migrations/2.sql")];
/// The oldest version whose program may work on this schema.
const OLDEST: i32 = 1;
/// The oldest server we know to work.
const OLDEST_SERVER: i32 = 140_000;
/// `ptcl`: what programs that migrate wait for each other at.
const LOCK: i64 = 0x7074_636c;

/// A schema's version, and the oldest whose program may work on it.
type Versions = (i32, i32);

/// Makes sure that the server can be used, and the schema is there and up to date. `begin` begins a transaction that writes.
pub(super) async fn prepare(connection: &mut PgConnection, begin: AssertSqlSafe<Arc<str>>) -> Result<(), Failure> {
    let mut transaction = connection.begin_with(begin).await?;
    examine(&mut transaction).await?;
    let found = versions(&mut transaction).await?;
    admit(found)?;
    if found.is_some_and(|found| done(found) == MIGRATIONS.len()) {
        return Ok(());
    }
    migrate(&mut transaction).await?;
    Ok(transaction.commit().await?)
}

async fn examine(connection: &mut PgConnection) -> Result<(), Failure> {
    const SERVER: &str = "SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), \
         current_setting('server_version'), current_setting('server_encoding')";
    let (number, standby, version, encoding): (i32, bool, String, String) =
        query_as(SERVER).fetch_one(connection).await?;
    if number < OLDEST_SERVER {
        let text = format!("the store's PostgreSQL is version {version}; portcullis needs 14 or newer");
        return Err(StoreError::Unusable(text, None).into());
    }
    if encoding != "UTF8" {
        let text = format!("the store's database is encoded in {encoding}; portcullis needs one with ENCODING 'UTF8'");
        return Err(StoreError::Unusable(text, None).into());
    }
    if standby {
        let text = "the store's PostgreSQL is a standby, which takes no writes; store.url must lead to the primary";
        return Err(StoreError::Unavailable(text.into()).into());
    }
    Ok(())
}

async fn migrate(transaction: &mut PgConnection) -> Result<(), Failure> {
    const SIGN: &str = "INSERT INTO portcullis.schema (version, oldest) VALUES ($1, $2) \
        ON CONFLICT (one) DO UPDATE SET version = excluded.version, oldest = excluded.oldest";
    query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
    // Another program may have done it while we waited.
    let found = versions(transaction).await?;
    admit(found)?;
    if found.is_none() {
        create(transaction).await?;
    }
    let done = found.map_or(0, done);
    for migration in MIGRATIONS.iter().skip(done) {
        raw_sql(*migration).execute(&mut *transaction).await?;
    }
    if done < MIGRATIONS.len() {
        let sign = query(SIGN).bind(i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)).bind(OLDEST);
        sign.execute(&mut *transaction).await?;
    }
    Ok(())
}

/// An empty schema. One that somebody with more rights has made for us will do.
async fn create(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let there: bool =
        query_scalar("SELECT to_regnamespace('portcullis') IS NOT NULL").fetch_one(&mut *connection).await?;
    if !there {
        raw_sql("CREATE SCHEMA portcullis").execute(&mut *connection).await?;
    }
    const VERSIONS: &str = "CREATE TABLE portcullis.schema \
        (one boolean PRIMARY KEY DEFAULT TRUE CHECK (one), version int NOT NULL, oldest int NOT NULL)";
    raw_sql(VERSIONS).execute(connection).await.map(|_| ())
}

async fn versions(connection: &mut PgConnection) -> Result<Option<Versions>, sqlx::Error> {
    let there: bool =
        query_scalar("SELECT to_regclass('portcullis.schema') IS NOT NULL").fetch_one(&mut *connection).await?;
    if !there {
        return Ok(None);
    }
    query_as("SELECT version, oldest FROM portcullis.schema").fetch_optional(connection).await
}

/// How many of our migrations are in a schema.
fn done((version, _): Versions) -> usize {
    usize::try_from(version).unwrap_or(0).min(MIGRATIONS.len())
}

/// Refuses a schema that says this program is too old for it.
fn admit(found: Option<Versions>) -> Result<(), Failure> {
    let ours = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    match found {
        Some((version, oldest)) if oldest > ours => {
            let text = format!(
                "the store has schema {version}, which needs a program that knows schema {oldest}, and this one knows up to \
                 {ours}: run a newer portcullis"
            );
            Err(StoreError::Unusable(text, None).into())
        }
        _ => Ok(()),
    }
}
