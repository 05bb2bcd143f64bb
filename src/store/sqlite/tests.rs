//! What a file can come to: power cuts, full disks, other programs, other versions, other hands.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, raw_sql};

use crate::domain::{Entry, Position};
use crate::store::testing::*;
use crate::store::{AuditQuery, Backend, RevocationQuery, Settings, Store, StoreError};
use crate::telemetry::Metrics;

async fn refusal(folder: &Folder) -> String {
    let settings = Settings::new(Backend::Sqlite(folder.file()));
    let refusal = Store::open(&settings, clock(), Metrics::new()).await.unwrap_err();
    assert!(matches!(refusal, StoreError::Unusable(..)), "{refusal:?}");
    refusal.to_string()
}

async fn filled(entries: u128) -> Folder {
    let folder = Folder::new();
    let store = open_file(&folder).await;
    let entries = (0..entries).map(|n| Entry::Revoke(revocation(n, user(&n.to_string()), 0)));
    store.log.append(batch(entries)).await.unwrap();
    store.close().await;
    let log_bytes = fs::metadata(folder.path().join("portcullis.db-wal")).map_or(0, |found| found.len());
    assert_eq!(log_bytes, 0, "a closed store is one file");
    folder
}

async fn by_hand(folder: &Folder, sql: &'static str) {
    let mut connection = SqliteConnectOptions::new().filename(folder.file()).connect().await.unwrap();
    raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn after_a_power_cut_everything_acknowledged_is_there() {
    let folder = Folder::new();
    let store = open_file(&folder).await;
    for n in 0..50_u128 {
        store.log.append(revoke(revocation(n, user(&n.to_string()), 0))).await.unwrap();
        if n % 5 == 0 {
            store.log.append(lift(n)).await.unwrap();
        }
        if n % 10 == 0 {
            let image = folder.crashed();
            let after = open_file(&image).await;
            let query = RevocationQuery { standing_only: true, now: NOW, limit: 1_000, ..Default::default() };
            let standing = after.log.search(&query).await.unwrap().items;
            let wanted: Vec<_> = (0..=n).rev().filter(|n| n % 5 != 0).map(id).collect();
            assert_eq!(standing.iter().map(|held| held.revocation.id).collect::<Vec<_>>(), wanted);
            after.close().await;
        }
    }
}

#[tokio::test]
async fn positions_go_on_after_a_restart() {
    let folder = filled(3).await;
    let store = open_file(&folder).await;
    let appended = store.log.append(revoke(revocation(9, user("x"), 0))).await.unwrap();
    assert_eq!(appended.position, Position::new(4));
}

#[tokio::test]
async fn a_torn_write_at_the_end_of_the_log_costs_nothing_acknowledged() {
    let folder = Folder::new();
    let store = open_file(&folder).await;
    store.log.append(revoke(revocation(1, user("a"), 0))).await.unwrap();
    let image = folder.crashed();
    let wal = image.path().join("portcullis.db-wal");
    let mut bytes = fs::read(&wal).unwrap();
    bytes.extend_from_slice(&[0x5a; 3_000]);
    fs::write(&wal, bytes).unwrap();
    let after = open_file(&image).await;
    assert!(after.log.find(id(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_truncated_file_is_refused_and_left_alone() {
    let folder = filled(2_000).await;
    let whole = fs::read(folder.file()).unwrap();
    for keep in [0, 17, 100, 4_096, whole.len() / 2, whole.len() - 4_096, whole.len() - 1] {
        fs::write(folder.file(), &whole[..keep]).unwrap();
        let refusal = refusal(&folder).await;
        assert!(refusal.contains("portcullis.db") && refusal.contains("backup"), "{keep}: {refusal}");
        assert!(fs::read(folder.file()).unwrap() == whole[..keep], "{keep}: it was changed");
    }
}

#[tokio::test]
async fn a_damaged_page_is_found_at_start() {
    let folder = filled(2_000).await;
    let mut bytes = fs::read(folder.file()).unwrap();
    let at = bytes.len() / 2 / 4_096 * 4_096;
    bytes[at..at + 4_096].fill(0xff);
    fs::write(folder.file(), &bytes).unwrap();
    assert!(refusal(&folder).await.contains("damaged"));
}

#[tokio::test]
async fn other_files_are_refused() {
    let folder = Folder::new();
    fs::write(folder.file(), "this is a letter, not a database, and it is long enough to be one\n".repeat(100))
        .unwrap();
    assert!(refusal(&folder).await.contains("not a database"));
    fs::remove_file(folder.file()).unwrap();
    fs::create_dir(folder.file()).unwrap();
    assert!(refusal(&folder).await.contains("is not a file"));
}

#[tokio::test]
async fn a_database_of_another_program_is_not_touched() {
    let folder = Folder::new();
    let options = SqliteConnectOptions::new().filename(folder.file()).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    raw_sql("CREATE TABLE theirs (x)").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let before = fs::read(folder.file()).unwrap();
    assert!(refusal(&folder).await.contains("another program"));
    assert!(fs::read(folder.file()).unwrap() == before, "it was changed");
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let folder = filled(1).await;
    by_hand(&folder, "PRAGMA user_version = 99").await;
    let refusal = refusal(&folder).await;
    assert!(refusal.contains("99") && refusal.contains("newer portcullis"), "{refusal}");
}

#[tokio::test]
async fn a_store_whose_log_is_left_alone_is_not_made_anew() {
    let folder = Folder::new();
    fs::write(folder.path().join("portcullis.db-wal"), "left behind").unwrap();
    assert!(refusal(&folder).await.contains("-wal"));
}

#[tokio::test]
async fn a_second_process_is_turned_away_and_the_next_one_is_not() {
    let folder = Folder::new();
    let store = open_file(&folder).await;
    let refusal = refusal(&folder).await;
    assert!(refusal.contains("in use") && refusal.contains(&std::process::id().to_string()), "{refusal}");
    store.close().await;
    open_file(&folder).await;
}

#[tokio::test]
async fn a_link_leads_to_the_same_lock() {
    let folder = Folder::new();
    let _store = open_file(&folder).await;
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(folder.file(), &link).unwrap();
    let settings = Settings::new(Backend::Sqlite(link));
    let refusal = Store::open(&settings, clock(), Metrics::new()).await.unwrap_err();
    assert!(refusal.to_string().contains("in use"));
}

#[tokio::test]
async fn a_new_store_is_private_to_its_user() {
    let folder = Folder::new();
    let path = folder.path().join("new/deep/portcullis.db");
    let _store = open(Backend::Sqlite(path.clone())).await;
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&path.with_file_name("portcullis.db-wal")), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_named() {
    let folder = Folder::new();
    fs::write(folder.path().join("file"), "x").unwrap();
    let settings = Settings::new(Backend::Sqlite(folder.path().join("file/portcullis.db")));
    let refusal = Store::open(&settings, clock(), Metrics::new()).await.unwrap_err().to_string();
    assert!(refusal.contains("file/portcullis.db"), "{refusal}");
}

#[tokio::test]
async fn a_half_made_store_is_made_again() {
    let folder = Folder::new();
    fs::write(folder.path().join("portcullis.db.new"), "half").unwrap();
    open_file(&folder).await;
}

#[tokio::test]
async fn when_the_disk_is_full_writes_are_refused_reads_go_on_and_room_heals_it() {
    let folder = Folder::new();
    let settings = Settings { max_bytes: Some(400_000), ..Settings::new(Backend::Sqlite(folder.file())) };
    let store = Store::open(&settings, clock(), Metrics::new()).await.unwrap();
    let mut stored = 0_u128;
    let refusal = loop {
        match store.log.append(revoke(revocation(stored, user(&stored.to_string()), 0))).await {
            Ok(_) => stored += 1,
            Err(refusal) => break refusal,
        }
    };
    assert!(matches!(refusal, StoreError::Unavailable(_)), "{refusal:?}");
    assert!(stored > 100);
    assert!(store.log.find(id(stored - 1)).await.unwrap().is_some());
    assert!(store.log.find(id(stored)).await.unwrap().is_none(), "what was refused is not there");
    assert_eq!(store.log.forget(NOW.after(Duration::from_secs(3_600))).await.unwrap(), u64::try_from(stored).unwrap());
    store.log.append(revoke(revocation(stored, user("again"), 0))).await.unwrap();
}

#[tokio::test]
async fn a_batch_that_cannot_be_written_takes_no_other_with_it() {
    let folder = filled(1).await;
    by_hand(
        &folder,
        "CREATE TRIGGER spoil BEFORE INSERT ON revocations WHEN NEW.reason = 'spoilt' \
         BEGIN SELECT RAISE(ABORT, 'spoilt'); END",
    )
    .await;
    let store = open_file(&folder).await;
    let appends = (10..60_u128).map(|n| {
        let log = store.log.clone();
        tokio::spawn(async move {
            let mut last = revocation(n * 2 + 1, user(&format!("{n}b")), 0);
            if n % 7 == 0 {
                last.reason = Some("spoilt".into());
            }
            let entries = [Entry::Revoke(revocation(n * 2, user(&format!("{n}a")), 0)), Entry::Revoke(last)];
            (n, log.append(batch(entries)).await.is_ok())
        })
    });
    for append in appends.collect::<Vec<_>>() {
        let (n, stored) = append.await.unwrap();
        assert_eq!(stored, n % 7 != 0, "{n}");
        for id in [id(n * 2), id(n * 2 + 1)] {
            assert_eq!(store.log.find(id).await.unwrap().is_some(), stored, "{n}: all of it or nothing");
        }
    }
}

#[tokio::test]
async fn while_another_process_holds_the_file_writes_wait_or_fail_and_then_go_on() {
    let folder = filled(1).await;
    let settings = Settings { timeout: Duration::from_millis(300), ..Settings::new(Backend::Sqlite(folder.file())) };
    let store = Store::open(&settings, clock(), Metrics::new()).await.unwrap();
    let mut other = SqliteConnectOptions::new().filename(folder.file()).connect().await.unwrap();
    raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let refusal = store.log.append(revoke(revocation(7, user("x"), 0))).await.unwrap_err();
    assert!(matches!(refusal, StoreError::Unavailable(_)));
    assert!(store.log.find(id(0)).await.unwrap().is_some(), "reads go on");
    raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    // It was unknown whether it would be stored; asked again it is, and once.
    let appended = store.log.append(revoke(revocation(7, user("x"), 0))).await.unwrap();
    assert_eq!(appended.position, Position::new(2));
}

#[tokio::test]
async fn the_trail_cannot_be_rewritten_even_by_hand() {
    let folder = Folder::new();
    let store = open_file(&folder).await;
    store.audit.record(vec![record("authenticate", "?")]).await.unwrap();
    let mut connection = SqliteConnectOptions::new().filename(folder.file()).connect().await.unwrap();
    assert!(raw_sql("DELETE FROM audit").execute(&mut connection).await.is_err());
    assert!(raw_sql("UPDATE audit SET actor = 'nobody'").execute(&mut connection).await.is_err());
    assert_eq!(store.audit.trail(&AuditQuery { limit: 9, ..Default::default() }).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_reported_not_skipped() {
    let folder = filled(3).await;
    by_hand(&folder, "UPDATE revocations SET selector = '{\"nonsense\":\"x\"}' WHERE number = 2").await;
    let store = open_file(&folder).await;
    let mut events = store.log.follow(Position::START.into()).await.unwrap();
    let error = loop {
        match futures_util::StreamExt::next(&mut events).await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Corrupt(position, _) if position == Position::new(2)));
}
