//! A real PostgreSQL server of a test's own: on a free port of loopback, with its data in a temporary folder, gone with the
//! value, and with the process however that ends. Needs the standard library alone, so that other test programs can
//! include this file.

use std::fs;
use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Settings under which tests are quick and what a server keeps is small; `fsync` is off.
const QUICK: [&str; 8] = [
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=32MB",
    "max_connections=100",
    "min_wal_size=4MB",
    "max_wal_size=256MB",
    "autovacuum_naptime=10s",
    "log_min_messages=warning",
];

/// A running server. Who may connect: everybody, as `postgres`, from this machine.
#[derive(Debug)]
pub(crate) struct PostgresServer {
    folder: PathBuf,
    port: u16,
    settings: Vec<String>,
    running: Option<Running>,
    /// The number of the next database.
    databases: AtomicU64,
}

/// The process, owned by a thread that lives as long as it: the kernel kills the child when the thread that made it ends.
#[derive(Debug)]
struct Running {
    pid: u32,
    stop: mpsc::Sender<()>,
    ended: mpsc::Receiver<()>,
    owner: JoinHandle<()>,
}

impl PostgresServer {
    /// A server with an empty database `postgres`, quick, and careless of power cuts.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more settings, `name=value` each; `fsync=on` makes it careful.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        sweep();
        let folder = new_folder();
        copy(&template(), &folder.join("data"));
        own(&folder);
        Self::on(folder, settings.iter().map(|one| (*one).to_owned()).collect())
    }

    fn on(folder: PathBuf, settings: Vec<String>) -> Self {
        let mut server = Self { folder, port: 0, settings, running: None, databases: AtomicU64::new(1) };
        for attempt in 1.. {
            server.port = free_port();
            match server.launch() {
                Ok(()) => break,
                Err(log) if attempt == 3 => panic!("PostgreSQL does not start: {log}"),
                Err(_) => {}
            }
        }
        server
    }

    /// Where `database` is, over TCP.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port())
    }

    /// The port of loopback.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The folder of data, logs and sockets.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A database of its own, made now, `p1` first; returns its URL.
    pub(crate) fn database(&self) -> String {
        let name = format!("p{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} STRATEGY file_copy"));
        self.url(&name)
    }

    /// What `psql` answers, a line a row, columns parted by `|`.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        let output = self.psql(database, sql);
        assert!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// What `psql` answers, or why it does not.
    pub(crate) fn psql(&self, database: &str, sql: &str) -> Output {
        let port = self.port.to_string();
        let arguments = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres"];
        let mut psql = program("psql");
        psql.args(arguments).args(["-p", &port, "-d", database, "-c", sql]);
        psql.output().unwrap_or_else(|error| panic!("psql: {error}"))
    }

    /// Ends it as `kill -9` does, children and all.
    pub(crate) fn kill(&mut self) {
        let Some(running) = self.running.take() else { return };
        let _ = running.stop.send(());
        let _ = running.owner.join();
    }

    /// Ends it as an administrator does who is in a hurry: connections are cut, all is written.
    pub(crate) fn stop(&mut self) {
        let Some(running) = self.running.take() else { return };
        signal(running.pid, "INT");
        let _ = running.ended.recv_timeout(PATIENCE);
        let _ = running.stop.send(());
        let _ = running.owner.join();
    }

    /// Starts it again on the same port, with what its folder holds.
    pub(crate) fn restart(&mut self) {
        self.kill();
        if let Err(log) = self.launch() {
            panic!("PostgreSQL does not start again: {log}");
        }
    }

    /// Holds all its processes: connections stay open, nobody answers.
    pub(crate) fn pause(&self) {
        self.each_process("STOP");
    }

    /// Lets them go on.
    pub(crate) fn resume(&self) {
        self.each_process("CONT");
    }

    /// A copy of its data as of now; it is stopped for that, and runs again afterwards.
    pub(crate) fn backup(&mut self) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let backup = self.folder.join(format!("backup-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        self.stop();
        copy(&self.folder.join("data"), &backup);
        self.restart();
        backup
    }

    /// Goes back to what was copied: the server is killed, its data are replaced, and it runs again.
    pub(crate) fn restore(&mut self, backup: &Path) {
        self.kill();
        let data = self.folder.join("data");
        fs::remove_dir_all(&data).unwrap();
        copy(backup, &data);
        self.restart();
    }

    /// A pooler before `database` that hands each transaction to any of three connections.
    pub(crate) fn pooler(&self, database: &str) -> Pooler {
        let port = free_port();
        let settings = format!(
            "[databases]\n{database} = host=127.0.0.1 port={} dbname={database} user=postgres\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 3\n",
            self.port
        );
        let file = self.folder.join("pgbouncer.ini");
        fs::write(&file, settings).unwrap();
        let program = Path::new("/usr/sbin/pgbouncer");
        assert!(program.exists(), "pgbouncer is missing; install the package pgbouncer");
        let mut pgbouncer = as_postgres(program);
        pgbouncer.arg("-q").arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let running = own_process(pgbouncer);
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < PATIENCE, "pgbouncer does not start");
            thread::sleep(Duration::from_millis(10));
        }
        Pooler { running: Some(running), url: format!("postgres://postgres@127.0.0.1:{port}/{database}") }
    }

    fn launch(&mut self) -> Result<(), String> {
        let log = self.folder.join("log");
        let mut postgres = as_postgres(&tool("postgres"));
        postgres.arg("-D").arg(self.folder.join("data")).args(["-p", &self.port.to_string()]);
        postgres.arg("-c").arg(format!("unix_socket_directories={}", self.folder.display()));
        postgres.args(["-c", "listen_addresses=127.0.0.1"]);
        for setting in QUICK.iter().copied().chain(self.settings.iter().map(String::as_str)) {
            postgres.args(["-c", setting]);
        }
        let file = fs::File::create(&log).unwrap();
        postgres.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let running = own_process(postgres);
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if running.ended.try_recv().is_ok() {
                break;
            }
            if self.answers() {
                self.running = Some(running);
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = running.stop.send(());
        let _ = running.owner.join();
        Err(fs::read_to_string(&log).unwrap_or_default())
    }

    /// Whether it is past its start and its recovery: a connection is let in as far as the question who it is.
    fn answers(&self) -> bool {
        let ready = || -> io::Result<bool> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            let mut message = vec![0, 0, 0, 0, 0, 3, 0, 0];
            message.extend_from_slice(b"user\0postgres\0database\0postgres\0\0");
            let length = u32::try_from(message.len()).unwrap_or_default().to_be_bytes();
            message.splice(0..4, length);
            io::Write::write_all(&mut stream, &message)?;
            let mut kind = [0];
            stream.read_exact(&mut kind)?;
            // `R`: authentication; `E`: still starting.
            Ok(&kind == b"R")
        };
        ready().unwrap_or(false)
    }

    fn each_process(&self, name: &str) {
        let Some(running) = &self.running else { return };
        signal(running.pid, name);
        let children = Command::new("ps").args(["-o", "pid=", "--ppid", &running.pid.to_string()]).output();
        let children = children.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).for_each(|pid| signal(pid, name));
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.resume();
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A running pgbouncer.
#[derive(Debug)]
pub(crate) struct Pooler {
    running: Option<Running>,
    url: String,
}

impl Pooler {
    /// Where the database is, by way of the pooler.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            let _ = running.stop.send(());
            let _ = running.owner.join();
        }
    }
}

/// Starts `command` in a thread that owns it until it is told to stop.
fn own_process(mut command: Command) -> Running {
    let (stop, stopping) = mpsc::channel();
    let (tell_ended, ended) = mpsc::channel();
    let (tell_pid, pid) = mpsc::channel();
    let owner = thread::spawn(move || {
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let _ = tell_pid.send(child.id());
        loop {
            if matches!(child.try_wait(), Ok(Some(_))) {
                let _ = tell_ended.send(());
                let _ = stopping.recv();
                return;
            }
            match stopping.recv_timeout(Duration::from_millis(20)) {
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                _ => break,
            }
        }
        let children = children_of(child.id());
        let _ = child.kill();
        children.iter().for_each(|pid| signal(*pid, "KILL"));
        let _ = child.wait();
        // What a killed server leaves: processes that hold its memory until they notice.
        let began = Instant::now();
        while children.iter().any(|pid| is_alive(*pid)) && began.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
    });
    let pid = pid.recv_timeout(PATIENCE).expect("the server was started");
    Running { pid, stop, ended, owner }
}

fn children_of(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether a process is there and no zombie, which its parent's heir will bury.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).stderr(Stdio::null()).status();
}

/// The folder of a freshly made cluster, made once for all tests of this machine.
fn template() -> PathBuf {
    let place = std::env::temp_dir().join(format!("portcullis-postgres-{}", user()));
    fs::create_dir_all(&place).unwrap();
    own(&place);
    let lock = fs::File::create(place.join("lock")).unwrap();
    lock.lock().unwrap();
    let version = tool("postgres");
    let name = version.components().rev().nth(2).map(|part| part.as_os_str().to_string_lossy().into_owned());
    let made = place.join(format!("template-{}", name.unwrap_or_default()));
    if made.exists() {
        return made;
    }
    let beside = place.join("unfinished");
    let _ = fs::remove_dir_all(&beside);
    let mut initdb = as_postgres(&tool("initdb"));
    initdb.args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--wal-segsize=1", "-N", "-D"]);
    let output = initdb.arg(&beside).output().unwrap();
    assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&beside, &made).unwrap();
    made
}

/// Removes what killed tests have left.
fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("portcullis-pg-").and_then(|rest| rest.split('-').next()) else { continue };
        let ours = entry.metadata().is_ok_and(|found| found.uid() == server_user().unwrap_or_else(user));
        if ours && !Path::new("/proc").join(pid).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn new_folder() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("portcullis-pg-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "cannot copy {}", from.display());
}

/// Gives a folder to who the server runs as.
fn own(folder: &Path) {
    if let Some(uid) = server_user() {
        chown(folder, Some(uid), None).unwrap();
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
}

/// PostgreSQL refuses to run as root; then it runs as the user of Debian's package.
fn server_user() -> Option<u32> {
    if user() != 0 {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = passwd.lines().find(|line| line.starts_with("postgres:"));
    let uid = line.and_then(|line| line.split(':').nth(2)).and_then(|uid| uid.parse().ok());
    Some(uid.expect("there is no user postgres; install the package postgresql"))
}

fn user() -> u32 {
    fs::metadata("/proc/self").map_or(0, |found| found.uid())
}

/// A command that dies with the thread that starts it, as a user whom PostgreSQL accepts.
fn as_postgres(tool: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if user() == 0 {
        command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
    }
    command.arg(tool).current_dir("/").env_remove("PGDATA").env_remove("PGPORT");
    command
}

fn program(name: &str) -> Command {
    Command::new(tool(name))
}

/// One of PostgreSQL's programs, the newest version installed.
fn tool(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin").join(name))))
        .filter(|(_, path)| path.exists())
        .collect();
    found.sort();
    found.pop().map(|(_, path)| path).expect("PostgreSQL is missing; install the package postgresql")
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).map(|own| own.port()).unwrap()
}
