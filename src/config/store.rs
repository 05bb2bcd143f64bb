//! `[store]`: where revocations are kept, how a server that keeps them is reached, and what to do when it cannot be read.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::range::{DAY, HOUR, MILLI, MINUTE, SECOND, YEAR};
use super::table::{Read, Table};
use super::value::{File, SecretFile, choice};
use crate::admission::WhenStale;
use crate::store::{Backend, Password, Remote, Settings};

/// What may follow when the index is out of step, everywhere or on a route.
pub(super) const STALE: [(&str, WhenStale); 2] = [("reject", WhenStale::Reject), ("allow", WhenStale::Allow)];

/// How long the index may go without proof of being in step, and what follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Staleness {
    /// How long it is believed.
    pub max: Duration,
    /// What follows.
    pub then: WhenStale,
}

/// What is kept here for a start while the store is down.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Snapshot {
    /// The file.
    pub path: PathBuf,
    /// An older one is not believed.
    pub max_age: Duration,
}

/// What the section says.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) settings: Settings,
    pub(super) staleness: Staleness,
    pub(super) snapshot: Option<Snapshot>,
    /// The name of this replica, where it is given.
    pub(super) replica: Option<Arc<str>>,
    pub(super) warnings: Vec<String>,
}

/// The keys that mean something only for a store on a server.
const FOR_SERVERS: [&str; 10] = [
    "connections",
    "poll",
    "password_file",
    "ca",
    "client_cert",
    "client_key",
    "wait_replicas",
    "wait_timeout",
    "snapshot",
    "snapshot_max_age",
];
/// The longest name of a replica, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// Reads the section.
pub(super) fn settle(table: &mut Table<'_>) -> Option<Section> {
    let backend = match table.node("url") {
        Some(node) => Backend::read(&node),
        None => Some(Backend::Sqlite("data/portcullis.db".into())),
    };
    // Followers prove themselves every second; less than two would make every hiccup an outage.
    let max = table.within("max_staleness", 10 * SECOND, 2 * SECOND..=HOUR);
    let then = match table.node("when_stale") {
        Some(node) => choice(&node, &STALE).unwrap_or_default(),
        None => WhenStale::default(),
    };
    let timeout = table.within("timeout", 10 * SECOND, 100 * MILLI..=MINUTE);
    let remote = remote(table, max, timeout);
    let snapshot = snapshot(table);
    let replica = table.node("replica").and_then(|node| node.parse("a name", name));
    let backend = backend?;
    judge(table, &backend);
    let warnings = warnings(&backend);
    let settings = Settings { timeout, remote, ..Settings::new(backend) };
    Some(Section { settings, staleness: Staleness { max, then }, snapshot, replica, warnings })
}

fn remote(table: &mut Table<'_>, max_staleness: Duration, timeout: Duration) -> Remote {
    let usual = Remote::default();
    let poll = table.within("poll", usual.poll, 50 * MILLI..=MINUTE);
    if poll > max_staleness / 2 {
        table.fault("poll", "must be at most half of store.max_staleness: each poll proves to be in step");
    }
    let wait_timeout = table.within("wait_timeout", usual.wait_timeout, MILLI..=30 * SECOND);
    if wait_timeout >= timeout {
        table.fault("wait_timeout", "must be less than store.timeout, which bounds the whole call");
    }
    Remote {
        poll,
        connections: table.within("connections", usual.connections, 2..=1_000),
        password: table.optional::<SecretFile>("password_file").map(|secret| Password::new(&secret.0.0)),
        ca: table.optional::<File>("ca").map(|file| file.0),
        identity: identity(table),
        wait_replicas: table.within("wait_replicas", usual.wait_replicas, 0..=100),
        wait_timeout,
    }
}

/// Our certificate and its key, which come together.
fn identity(table: &mut Table<'_>) -> Option<(PathBuf, PathBuf)> {
    let (cert, key) = (table.optional::<File>("client_cert"), table.optional::<File>("client_key"));
    match (table.was_given("client_cert"), table.was_given("client_key")) {
        (true, false) => table.fault("client_cert", "needs client_key, its key"),
        (false, true) => table.fault("client_key", "needs client_cert, its certificate"),
        _ => {}
    }
    Some((cert?.0, key?.0))
}

fn snapshot(table: &mut Table<'_>) -> Option<Snapshot> {
    let max_age = table.within("snapshot_max_age", 7 * DAY, MINUTE..=YEAR);
    let path = table.node("snapshot").and_then(|node| {
        node.parse("the path of a file", |text| {
            let path = PathBuf::from(text);
            if path.file_name().is_none() || path.is_dir() {
                return Err("must name a file; it is made when it is not there".to_owned());
            }
            Ok(path)
        })
    });
    if table.was_given("snapshot_max_age") && !table.was_given("snapshot") {
        table.fault("snapshot_max_age", "needs snapshot, the file it is about");
    }
    Some(Snapshot { path: path?, max_age })
}

/// A name that fits into a line of a table and into a row of a store.
fn name(text: &str) -> Result<Arc<str>, String> {
    if text.is_empty() || text.len() > MAX_NAME_BYTES || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("must have 1 to {MAX_NAME_BYTES} bytes, without spaces"));
    }
    Ok(text.into())
}

/// What does not go together with this kind of store.
fn judge(table: &Table<'_>, backend: &Backend) {
    if !backend.is_shared() {
        for key in FOR_SERVERS.iter().filter(|key| table.was_given(key)) {
            table.fault(key, "is for a store on a server: postgres://… or redis://…");
        }
        return;
    }
    if !matches!(backend, Backend::Redis(_)) {
        for key in ["wait_replicas", "wait_timeout"].iter().filter(|key| table.was_given(key)) {
            table.fault(key, "is for Redis; PostgreSQL waits as its synchronous_commit says");
        }
    }
    let (Backend::Postgres(url) | Backend::Redis(url)) = backend else { return };
    if url.has_password() && table.was_given("password_file") {
        table.fault("password_file", "is a second password: store.url holds one");
    }
    for key in ["ca", "client_cert", "client_key"].iter().filter(|key| table.was_given(key)) {
        if !url.may_encrypt() {
            table.fault(key, "is for TLS, which store.url does not ask for");
        }
    }
}

/// Who could listen in.
fn warnings(backend: &Backend) -> Vec<String> {
    let open = match backend {
        Backend::Postgres(url) if !url.is_private() => {
            "store: the server's certificate is not verified; add sslmode=verify-full to url"
        }
        Backend::Redis(url) if !url.is_private() => "store: the connection is not encrypted; write rediss:// in url",
        _ => return Vec::new(),
    };
    vec![open.to_owned()]
}
