//! The store that a fleet shares: a real PostgreSQL or a real Redis, with everything that may happen to one.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::rig::fleet::SOON;
use crate::rig::within;

#[expect(dead_code, reason = "the store's own tests need more of it")]
#[path = "../../../src/store/testing/postgres.rs"]
mod postgres;
#[expect(dead_code, reason = "the store's own tests need more of it")]
#[path = "../../../src/store/testing/redis.rs"]
mod redis;

use postgres::PostgresServer;
use redis::RedisServer;
pub(crate) use redis::{Cluster, Options, Watched};

/// The database that stories use.
const DATABASE: &str = "postgres";

/// Which of the two.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Postgres,
    Redis,
}

/// Tells each of these stories on both stores: a test `NAME::postgres` and a test `NAME::redis` for each.
macro_rules! on_both_stores {
    ($($story:ident),+ $(,)?) => { $(
        mod $story {
            use crate::rig::shared_store::Kind;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                Box::pin(super::$story(Kind::Postgres)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn redis() {
                Box::pin(super::$story(Kind::Redis)).await;
            }
        }
    )+ };
}
pub(crate) use on_both_stores;

/// A server; it keeps its address for life.
#[derive(Debug)]
pub(crate) struct SharedStore {
    pub(crate) kind: Kind,
    server: Mutex<Server>,
}

#[derive(Debug)]
enum Server {
    Postgres(PostgresServer),
    Redis(RedisServer),
}

impl SharedStore {
    /// A fresh one that survives its own death: the machine has what it acknowledges. Stories kill servers, not machines, so
    /// PostgreSQL may leave it to the machine when that is on the disk.
    pub(crate) fn start(kind: Kind) -> Self {
        let server = match kind {
            Kind::Postgres => Server::Postgres(PostgresServer::start()),
            Kind::Redis => Server::Redis(RedisServer::start(Options { append_only: true, ..Options::default() })),
        };
        Self { kind, server: Mutex::new(server) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        let port = match &*self.server.lock().unwrap() {
            Server::Postgres(server) => server.port(),
            Server::Redis(server) => server.port(),
        };
        (Ipv4Addr::LOCALHOST, port).into()
    }

    /// The URL of the store for who reaches it through `via`.
    pub(crate) fn url(&self, via: SocketAddr) -> String {
        match self.kind {
            Kind::Postgres => format!("postgres://postgres@{via}/{DATABASE}"),
            Kind::Redis => format!("redis://{via}"),
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(&self) {
        match &mut *self.server.lock().unwrap() {
            Server::Postgres(server) => server.kill(),
            Server::Redis(server) => server.kill(),
        }
    }

    /// On the same port, with what it had on disk.
    pub(crate) fn start_again(&self) {
        match &mut *self.server.lock().unwrap() {
            Server::Postgres(server) => server.restart(),
            Server::Redis(server) => server.restart(),
        }
    }

    /// SIGSTOP: connections stay open and nobody answers.
    pub(crate) fn stop(&self) {
        match &mut *self.server.lock().unwrap() {
            Server::Postgres(server) => server.pause(),
            Server::Redis(server) => server.stop(),
        }
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        match &mut *self.server.lock().unwrap() {
            Server::Postgres(server) => server.resume(),
            Server::Redis(server) => server.go_on(),
        }
    }

    /// What `psql` answers.
    pub(crate) fn sql(&self, text: &str) -> String {
        match &*self.server.lock().unwrap() {
            Server::Postgres(server) => server.sql(DATABASE, text),
            Server::Redis(_) => panic!("Redis knows no SQL"),
        }
    }

    /// What `redis-cli` answers.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        match &*self.server.lock().unwrap() {
            Server::Postgres(_) => panic!("PostgreSQL knows no such command"),
            Server::Redis(server) => server.cli(words),
        }
    }

    /// Redis is killed and comes back with nothing on disk.
    pub(crate) fn start_without_files(&self) {
        let Server::Redis(server) = &mut *self.server.lock().unwrap() else { panic!("that is Redis's") };
        let folder = server.cli(&["CONFIG", "GET", "dir"]).lines().nth(1).map(PathBuf::from).unwrap();
        server.kill();
        for name in ["appendonlydir", "dump.rdb"] {
            let path = folder.join(name);
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
        server.restart();
    }

    /// Copies what PostgreSQL has on disk; it is away for a moment.
    pub(crate) fn back_up(&self) -> PathBuf {
        let Server::Postgres(server) = &mut *self.server.lock().unwrap() else { panic!("that is PostgreSQL's") };
        server.backup()
    }

    /// PostgreSQL goes back to what was copied.
    pub(crate) fn restore(&self, backup: &Path) {
        let Server::Postgres(server) = &mut *self.server.lock().unwrap() else { panic!("that is PostgreSQL's") };
        server.restore(backup);
    }
}

/// A Redis that copies another one.
#[derive(Debug)]
pub(crate) struct RedisCopy(RedisServer);

impl RedisCopy {
    /// Copies the master that is reached at `master`.
    pub(crate) fn of(master: SocketAddr) -> Self {
        let options = Options { append_only: true, replica_of: Some(master.port()), ..Options::default() };
        let copy = RedisServer::start(options);
        copy.until(&["INFO", "replication"], "master_link_status:up");
        Self(copy)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.0.port()).into()
    }

    /// Waits until it has all that `master` has.
    pub(crate) async fn in_step_with(&self, master: &SharedStore) {
        let offset = |info: &str, name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("-1");
            line.trim().parse::<i64>().unwrap()
        };
        let written = offset(&master.command(&["INFO", "replication"]), "master_repl_offset:");
        within("the copy", async {
            while offset(&self.0.cli(&["INFO", "replication"]), "slave_repl_offset:") < written {
                tokio::time::sleep(SOON).await;
            }
        })
        .await;
    }

    /// Makes it a master.
    pub(crate) fn promote(&self) {
        assert_eq!(self.0.cli(&["REPLICAOF", "NO", "ONE"]), "OK");
    }
}
