//! The file: one process's alone, private to its user, born whole. A store is made beside its path and renamed when it is
//! complete, so a file that is there and empty was truncated, and is refused rather than filled.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::store::StoreError;
use crate::store::sqlite::fault::damaged;

/// A place for a store that no other process uses as long as this value lives.
#[derive(Debug)]
pub(super) struct Claimed {
    /// The file, with links resolved.
    pub(super) path: PathBuf,
    /// Whether it is there already.
    pub(super) exists: bool,
    /// The operating system lets go of the lock when the process ends, however it ends.
    _lock: File,
}

/// Which file stood at the path when the store was opened. SQLite goes on with a file that was moved away or removed, and
/// nobody would find again what it wrote, nor know that it is gone.
#[derive(Clone, Debug)]
pub(super) struct Place {
    path: PathBuf,
    identity: (u64, u64),
}

impl Place {
    /// The file at `path` as it is now.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }

    /// Whether that file is still there.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            return Ok(());
        }
        let text = "the store's file was moved, removed or replaced; put it back, or restart portcullis";
        Err(StoreError::Unavailable(text.into()))
    }
}

/// A file's device and number.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Makes the folder if need be, and claims the file for this process.
pub(super) fn claim(path: &Path) -> Result<Claimed, StoreError> {
    let path = settle(path).map_err(|error| unusable(path, "cannot reach the folder of the store", error))?;
    let lock = lock(&path)?;
    let exists = inspect(&path)?;
    Ok(Claimed { path, exists, _lock: lock })
}

/// The path with all links resolved, so that one file has one lock whatever way leads to it.
fn settle(path: &Path) -> io::Result<PathBuf> {
    if let Ok(path) = fs::canonicalize(path) {
        return Ok(path);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(fs::canonicalize(folder)?.join(name))
}

/// Locks a file of its own: SQLite's locks on the database itself would be lost if anyone here opened and closed it.
fn lock(path: &Path) -> Result<File, StoreError> {
    let beside = with_suffix(path, ".lock");
    let cannot = |error| unusable(&beside, "cannot lock the store with", error);
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&beside);
    let mut file = open.map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use(path, &mut file)),
        Err(TryLockError::Error(error)) => return Err(cannot(error)),
    }
    // Only a hint for the message above.
    let _ = file.set_len(0).and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
    Ok(file)
}

fn in_use(path: &Path, lock: &mut File) -> StoreError {
    let mut holder = String::new();
    let known = lock.take(20).read_to_string(&mut holder).is_ok() && !holder.is_empty();
    let by = if known { format!(" (process {holder})") } else { String::new() };
    let text = format!(
        "the store {} is in use by another portcullis{by}; only one process may write it. Stop that one, or give this one \
         a store.url of its own",
        path.display()
    );
    StoreError::Unusable(text, None)
}

/// Whether the file is there; one that cannot be a store is refused.
fn inspect(path: &Path) -> Result<bool, StoreError> {
    let refuse = |what: &str| Err(StoreError::Unusable(format!("the store {} {what}", path.display()), None));
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => refuse("is not a file; name a file in store.url"),
        Ok(found) if found.len() == 0 => refuse(
            "is empty: it was truncated, or another program made it. Restore it from a backup, or delete it to start anew, \
             which forgets every revocation",
        ),
        Ok(found) if !is_whole(path, found.len()) => Err(damaged(path, None)),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound && with_suffix(path, "-wal").exists() => refuse(
            "is gone, but its -wal file is there. Put the file back, or delete the -wal file to start anew, which forgets \
             every revocation",
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(unusable(path, "cannot read the store", error)),
    }
}

/// Whether the file begins as a database does and is as long as it says (<https://www.sqlite.org/fileformat.html> §1.3).
/// While there is a log beside it, its length means nothing: the log may hold the rest.
fn is_whole(path: &Path, length: u64) -> bool {
    let mut header = [0_u8; 32];
    // Opened and closed before SQLite locks it.
    if File::open(path).and_then(|mut file| file.read_exact(&mut header)).is_err() {
        return false;
    }
    let (magic, rest) = header.split_at(16);
    let [page_high, page_low, _, _, _, _, _, _, _, _, _, _, pages @ ..] = rest else { return false };
    let page_bytes = match u64::from(u16::from_be_bytes([*page_high, *page_low])) {
        1 => 65_536,
        bytes => bytes,
    };
    let pages = pages.try_into().map_or(0, u32::from_be_bytes);
    let log_bytes = fs::metadata(with_suffix(path, "-wal")).map_or(0, |found| found.len());
    magic == b"SQLite format 3\0" && page_bytes >= 512 && (log_bytes > 0 || length == u64::from(pages) * page_bytes)
}

/// An empty file beside `path`, in which a new store is prepared.
pub(super) fn cradle(path: &Path) -> Result<PathBuf, StoreError> {
    let beside = with_suffix(path, ".new");
    let cannot = |error| unusable(&beside, "cannot make the store", error);
    for stale in [beside.clone(), with_suffix(&beside, "-journal")] {
        match fs::remove_file(&stale) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot(error)),
            _ => {}
        }
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).map_err(cannot)?;
    Ok(beside)
}

/// Moves a prepared store to its place, durably.
pub(super) fn settle_in(cradle: &Path, path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let moved = fs::rename(cradle, path).and_then(|()| File::open(folder)?.sync_all());
    moved.map_err(|error| unusable(path, "cannot make the store", error))
}

/// How long the file is; nothing if nobody can tell.
pub(super) fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn unusable(path: &Path, what: &str, error: io::Error) -> StoreError {
    StoreError::Unusable(format!("{what} {}: {error}", path.display()), Some(error.into()))
}
