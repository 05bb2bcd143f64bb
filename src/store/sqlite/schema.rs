//! The schema's versions. A file says whose it is and which version it has (`application_id`, `user_version`); an older
//! one is brought up to date in one transaction, a newer one is refused, a foreign one is never touched.

use std::path::Path;

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, query_scalar, raw_sql};

use crate::store::StoreError;
use crate::store::sqlite::fault::{at_start, damaged};

/// What brings the schema from each version to the next.
const MIGRATIONS: [&str; 3] =
    [include_str!("migrations/1.sql"), include_str!("migrations/2.sql"), include_str!("migrations/3.sql")];
/// `ptcl`, in the file's header.
const APPLICATION: i64 = 0x7074_636c;

/// Brings the schema up to date.
pub(super) async fn migrate(connection: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let fail = |error| at_start(path, error);
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(fail)?;
    let version: i64 = query_scalar("PRAGMA user_version").fetch_one(&mut *transaction).await.map_err(fail)?;
    let done = known(version, path)?;
    for migration in MIGRATIONS.iter().skip(done) {
        raw_sql(*migration).execute(&mut *transaction).await.map_err(fail)?;
    }
    if done < MIGRATIONS.len() {
        let sign = format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {};", MIGRATIONS.len());
        // Numbers only.
        raw_sql(sqlx::AssertSqlSafe(sign)).execute(&mut *transaction).await.map_err(fail)?;
    }
    transaction.commit().await.map_err(fail)
}

fn known(version: i64, path: &Path) -> Result<usize, StoreError> {
    usize::try_from(version).ok().filter(|version| *version <= MIGRATIONS.len()).ok_or_else(|| {
        let ours = MIGRATIONS.len();
        let text = format!(
            "the store {} has schema {version}, and this program knows up to {ours}: a newer portcullis wrote it. Run that \
             one, or restore the backup made before the upgrade",
            path.display()
        );
        StoreError::Unusable(text, None)
    })
}

/// Refuses a file that is another program's.
pub(super) async fn recognise(connection: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let application: i64 =
        query_scalar("PRAGMA application_id").fetch_one(connection).await.map_err(|error| at_start(path, error))?;
    if application == APPLICATION {
        return Ok(());
    }
    let text = format!("{} is a database of another program; name another file in store.url", path.display());
    Err(StoreError::Unusable(text, None))
}

/// Looks at every page; for files whose size allows it.
pub(super) async fn check(connection: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let verdict: String =
        query_scalar("PRAGMA quick_check(1)").fetch_one(connection).await.map_err(|error| at_start(path, error))?;
    if verdict == "ok" { Ok(()) } else { Err(damaged(path, Some(sqlx::Error::Protocol(verdict)))) }
}
