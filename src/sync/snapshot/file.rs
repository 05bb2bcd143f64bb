//! The snapshot's file: replaced in one step, readable by its owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::domain::Timestamp;
use crate::sync::ledger::Image;
use crate::sync::snapshot::format::{self, FormatError};

/// How far ahead of ours the clock may have been that a snapshot was written by.
const SKEW: Duration = Duration::from_secs(60);

/// Why a snapshot is not used.
#[derive(Debug, thiserror::Error)]
pub(in crate::sync) enum SnapshotError {
    /// There is none, as before the first start.
    #[error("there is none")]
    Missing,
    /// What it looks like.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// What it knows is too long ago.
    #[error("it is {} old, older than store.snapshot_max_age", humantime::format_duration(*.0))]
    TooOld(Duration),
    /// It was written by a clock that was ahead, or ours is behind: nobody can tell how old it is.
    #[error("it is from the future; is the clock right?")]
    FromTheFuture,
}

/// Reads a snapshot that is no older than `max_age` at `now`.
pub(super) fn read(path: &Path, now: Timestamp, max_age: Duration) -> Result<Image, SnapshotError> {
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SnapshotError::Missing,
        _ => FormatError::Read(error).into(),
    })?;
    let image = format::read(&mut BufReader::with_capacity(1 << 20, file))?;
    if image.proved_at > now.after(SKEW) {
        return Err(SnapshotError::FromTheFuture);
    }
    let age = now.since(image.proved_at);
    if age > max_age { Err(SnapshotError::TooOld(age)) } else { Ok(image) }
}

/// Writes a snapshot in the place of the one that is there; after a crash there is the one or the other. Answers how many
/// bytes it has.
pub(super) fn write(path: &Path, image: &Image) -> io::Result<u64> {
    let aside = aside(path);
    let outcome = write_aside(&aside, image).and_then(|bytes| fs::rename(&aside, path).map(|()| bytes));
    match outcome {
        Ok(bytes) => sync_folder(path).map(|()| bytes),
        Err(error) => {
            // On a full disk what was written so far only takes up room.
            let _ = fs::remove_file(&aside);
            Err(error)
        }
    }
}

fn write_aside(aside: &Path, image: &Image) -> io::Result<u64> {
    // What a crash left behind may be anybody's.
    let _ = fs::remove_file(aside);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(aside)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    format::write(image, &mut out)?;
    out.flush()?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// The name it has until it is complete.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// A new name survives a crash only when its folder was written.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
