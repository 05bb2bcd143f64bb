//! A snapshot comes back as it was, or not at all.

use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;
use crate::domain::Position;
use crate::store::testing::{Folder, NOW};
use crate::sync::ledger::Kept;
use crate::sync::ledger::testing::kept;

fn ledger(all: &[Kept]) -> Ledger {
    let ledger = Ledger::default();
    for kept in all {
        ledger.add(kept.recorded.clone(), kept.seen_at);
    }
    ledger.reached(Checkpoint { position: Position::new(7), mark: Some(77) }, NOW);
    ledger
}

fn bytes(ledger: &Ledger) -> Vec<u8> {
    let mut bytes = Vec::new();
    format::write(&ledger.image(), &mut bytes).unwrap();
    bytes
}

fn records(image: &Image) -> Vec<Kept> {
    image.blocks.iter().flat_map(|block| block.unpack().unwrap()).collect()
}

proptest! {
    #[test]
    fn what_is_written_is_read(all in proptest::collection::vec(kept(), 0..40)) {
        let image = format::read(&mut &bytes(&ledger(&all))[..]).unwrap();
        prop_assert_eq!(records(&image), all);
        prop_assert_eq!(image.checkpoint, Checkpoint { position: Position::new(7), mark: Some(77) });
        prop_assert_eq!(image.proved_at, NOW);
    }

    #[test]
    fn one_byte_that_changed_is_noticed(
        all in proptest::collection::vec(kept(), 0..8),
        at: prop::sample::Index,
        by in 1_u8..=255,
    ) {
        let mut bytes = bytes(&ledger(&all));
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        prop_assert!(examine(&bytes).is_err(), "byte {} of {}", at, bytes.len());
    }

    #[test]
    fn whatever_was_cut_off_or_added_is_noticed(
        all in proptest::collection::vec(kept(), 0..8),
        at: prop::sample::Index,
        more in proptest::collection::vec(any::<u8>(), 1..8),
    ) {
        let mut bytes = bytes(&ledger(&all));
        prop_assert!(examine(&bytes[..at.index(bytes.len())]).is_err());
        bytes.extend(more);
        prop_assert!(examine(&bytes).is_err());
    }

    #[test]
    fn whatever_bytes_are_no_snapshot_without_any_harm(bytes: Vec<u8>) {
        prop_assert!(examine(&bytes).is_err());
    }
}

fn image(proved_at: Timestamp) -> Image {
    let ledger = ledger(&[]);
    ledger.reached(Checkpoint { position: Position::new(7), mark: None }, proved_at);
    ledger.image()
}

#[test]
fn a_file_is_used_within_its_time_and_never_from_the_future() {
    let folder = Folder::new();
    let path = folder.path().join("snapshot");
    let day = Duration::from_secs(24 * 3_600);
    let read = |now| file::read(&path, now, day).map(|image| image.checkpoint.position);
    assert!(matches!(read(NOW), Err(SnapshotError::Missing)));
    file::write(&path, &image(NOW)).unwrap();
    assert_eq!(read(NOW.after(day)).unwrap(), Position::new(7));
    let old = read(NOW.after(day * 2)).unwrap_err();
    assert_eq!(old.to_string(), "it is 2days old, older than store.snapshot_max_age");
    assert!(read(NOW.before(Duration::from_secs(60))).is_ok(), "clocks differ a little");
    assert!(matches!(read(NOW.before(Duration::from_secs(61))), Err(SnapshotError::FromTheFuture)));
    std::fs::write(&path, "# portcullis.toml").unwrap();
    assert!(matches!(read(NOW), Err(SnapshotError::Format(FormatError::Foreign))));
    std::fs::write(&path, b"portcull\x63\x00\x00\x00\x00\x00").unwrap();
    assert!(matches!(read(NOW), Err(SnapshotError::Format(FormatError::Version(99)))));
}

#[test]
fn a_file_is_its_owner_s_and_replaced_in_one_step() {
    let folder = Folder::new();
    let path = folder.path().join("snapshot");
    std::fs::write(folder.path().join("snapshot.new"), "left behind by a crash").unwrap();
    for _ in 0..2 {
        file::write(&path, &image(NOW)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn one_that_cannot_be_written_is_counted_and_nothing_else_happens() {
    let folder = Folder::new();
    let (metrics, path) = (Metrics::new(), folder.path().join("gone/snapshot"));
    let settings = Settings { path: path.clone(), max_age: Duration::from_secs(60) };
    let snapshots = Snapshots::new(Arc::new(ledger(&[])), settings, metrics.clone());
    snapshots.clone().write().await;
    snapshots.clone().write().await;
    assert!(metrics.text().contains("portcullis_snapshot_errors_total 2"));
    std::fs::create_dir(folder.path().join("gone")).unwrap();
    snapshots.write().await;
    assert!(path.exists());
    assert!(metrics.text().contains("portcullis_snapshot_timestamp_seconds 1750000000"));
}

#[tokio::test]
async fn it_is_written_when_something_has_changed_or_it_grew_old() {
    let folder = Folder::new();
    let path = folder.path().join("snapshot");
    let settings = Settings { path: path.clone(), max_age: Duration::from_secs(60) };
    let ledger = Arc::new(Ledger::default());
    let snapshots = Snapshots::new(ledger.clone(), settings, Metrics::new());
    let written = async |expected: bool| {
        let _ = std::fs::remove_file(&path);
        snapshots.clone().write().await;
        assert_eq!(path.exists(), expected);
    };
    written(false).await;
    let at = |position| Checkpoint::from(Position::new(position));
    ledger.reached(at(7), NOW);
    written(true).await;
    ledger.reached(at(7), NOW.after(Duration::from_secs(60)));
    written(false).await;
    ledger.reached(at(7), NOW.after(Duration::from_secs(3_600)));
    written(true).await;
}
