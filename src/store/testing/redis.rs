//! Real Redis servers for tests: one, a master with replicas watched by sentinels, a cluster. Each has a free port and a
//! folder of its own, and goes with the value that stands for it; a test that is killed leaves none behind.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a server may take to come up, or a fleet of them to agree.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is asked meanwhile.
const GLANCE: Duration = Duration::from_millis(10);
/// The name under which sentinels know the master.
pub(crate) const MASTER: &str = "gate";

/// What a server is to be like; by default one that keeps nothing on disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Keep what is written in an append-only file, flushed at every write.
    pub(crate) append_only: bool,
    /// The port of the master it copies.
    pub(crate) replica_of: Option<u16>,
    /// PEM files of its certificate, its key, and whom it trusts; plain connections are refused then.
    pub(crate) tls: Option<Tls>,
    /// Lines of the configuration: `user …`, `maxmemory …`.
    pub(crate) lines: Vec<String>,
}

/// The files of a server that speaks TLS.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) ca: PathBuf,
    /// Whether clients must have a certificate.
    pub(crate) asks_for_one: bool,
}

/// A `redis-server`.
#[derive(Debug)]
pub(crate) struct RedisServer {
    folder: PathBuf,
    port: u16,
    options: Options,
    sentinel: bool,
    child: Option<Child>,
}

impl RedisServer {
    /// A server that keeps nothing on disk.
    pub(crate) fn plain() -> Self {
        Self::start(Options::default())
    }

    /// A server that answers.
    pub(crate) fn start(options: Options) -> Self {
        Self::launch(options, false)
    }

    fn launch(options: Options, sentinel: bool) -> Self {
        // Somebody else may have taken the port meanwhile; then another is tried.
        for _ in 0..5 {
            let mut server =
                Self { folder: folder(), port: free_port(), options: options.clone(), sentinel, child: None };
            server.configure();
            if server.run() {
                return server;
            }
        }
        panic!("redis-server does not come up")
    }

    fn configure(&self) {
        let mut lines = vec!["bind 127.0.0.1".to_owned(), format!("dir {}", self.folder.display())];
        lines.push(format!("logfile {}", self.folder.join("log").display()));
        let plain_port = if self.options.tls.is_some() { 0 } else { self.port };
        lines.push(format!("port {plain_port}"));
        if let Some(tls) = &self.options.tls {
            let asks = if tls.asks_for_one { "yes" } else { "no" };
            lines.push(format!("tls-port {}\ntls-replication yes\ntls-auth-clients {asks}", self.port));
            lines.push(format!("tls-cert-file {}\ntls-key-file {}", tls.cert.display(), tls.key.display()));
            lines.push(format!("tls-ca-cert-file {}", tls.ca.display()));
        }
        if !self.sentinel {
            lines.push("save \"\"\nrepl-diskless-sync-delay 0\nrepl-diskless-load swapdb".to_owned());
            lines.push(
                if self.options.append_only { "appendonly yes\nappendfsync always" } else { "appendonly no" }
                    .to_owned(),
            );
        }
        if let Some(master) = self.options.replica_of {
            lines.push(format!("replicaof 127.0.0.1 {master}"));
        }
        lines.extend(self.options.lines.iter().cloned());
        fs::write(self.folder.join("redis.conf"), lines.join("\n") + "\n").expect("the folder can be written");
    }

    /// Starts the program and waits until it answers; false when it ended at once.
    fn run(&mut self) -> bool {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "redis-server"]).arg(self.folder.join("redis.conf"));
        if self.sentinel {
            command.arg("--sentinel");
        }
        let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = silent.spawn().expect("setpriv is missing: apt-get install util-linux");
        let child = self.child.insert(child);
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if let Ok(Some(status)) = child.try_wait() {
                assert_ne!(status.code(), Some(127), "redis-server is missing: apt-get install redis-server");
                return false;
            }
            if answers(self.port, self.options.tls.is_some()) {
                return true;
            }
            sleep(GLANCE);
        }
        false
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `HOST:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL of the store in it.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.options.tls.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://{}", self.address())
    }

    /// What the server answers to a command, as `redis-cli` prints it.
    pub(crate) fn cli(&self, args: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        if let Some(tls) = &self.options.tls {
            command.args(["--tls", "--cacert"]).arg(&tls.ca).arg("--cert").arg(&tls.cert).arg("--key").arg(&tls.key);
        }
        let output = command.args(args).output().expect("redis-cli is missing: apt-get install redis-tools");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Ends it as a crash would; its files stay.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again, on its port and its files.
    pub(crate) fn restart(&mut self) {
        self.kill();
        // The port may be in use for a moment by connections that are being closed.
        let since = Instant::now();
        while !self.run() {
            assert!(since.elapsed() < PATIENCE, "redis-server does not come up again");
        }
    }

    /// Removes what it kept on disk, while it is down.
    pub(crate) fn forget_files(&self) {
        for name in ["appendonlydir", "dump.rdb"] {
            let path = self.folder.join(name);
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
    }

    /// Stops it where it is (SIGSTOP).
    pub(crate) fn stop(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("kill is there").success());
    }

    /// Waits until the answer to a command holds `text`.
    pub(crate) fn until(&self, args: &[&str], text: &str) {
        let since = Instant::now();
        loop {
            let answer = self.cli(args);
            if answer.contains(text) {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "{args:?} never answered {text:?}; last: {answer}");
            sleep(GLANCE);
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A master and its replicas, and three sentinels that watch them.
#[derive(Debug)]
pub(crate) struct Watched {
    /// The master first, as long as nothing failed.
    pub(crate) servers: Vec<RedisServer>,
    pub(crate) sentinels: Vec<RedisServer>,
}

impl Watched {
    /// A master with so many replicas, which are in step.
    pub(crate) fn start(replicas: usize, options: &Options) -> Self {
        let master = RedisServer::start(options.clone());
        let mut servers = vec![master];
        for _ in 0..replicas {
            let replica_of = Some(servers.first().expect("the master").port());
            let replica = RedisServer::start(Options { replica_of, ..options.clone() });
            replica.until(&["INFO", "replication"], "master_link_status:up");
            servers.push(replica);
        }
        let master = servers.first().expect("the master").port();
        let watch = vec![
            format!("sentinel monitor {MASTER} 127.0.0.1 {master} 2"),
            format!("sentinel down-after-milliseconds {MASTER} 500"),
            format!("sentinel failover-timeout {MASTER} 3000"),
        ];
        let start = |_| RedisServer::launch(Options { lines: watch.clone(), ..Options::default() }, true);
        let sentinels: Vec<_> = (0..3).map(start).collect();
        for sentinel in &sentinels {
            sentinel.until(&["SENTINEL", "MASTER", MASTER], "num-other-sentinels\n2");
            sentinel.until(&["SENTINEL", "MASTER", MASTER], &format!("num-slaves\n{replicas}"));
        }
        Self { servers, sentinels }
    }

    /// The URL of the store in it.
    pub(crate) fn url(&self) -> String {
        format!("redis+sentinel://{}/{MASTER}", addresses(&self.sentinels))
    }

    /// Waits until the sentinels have made another server than `old` the master; its port.
    pub(crate) fn until_another_leads(&self, old: u16) -> u16 {
        let since = Instant::now();
        loop {
            let answer = self.sentinels.first().expect("three").cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
            let port = answer.lines().nth(1).and_then(|port| port.parse().ok()).unwrap_or(old);
            if port != old {
                return port;
            }
            assert!(since.elapsed() < PATIENCE, "the sentinels chose no other master");
            sleep(GLANCE);
        }
    }
}

/// A cluster of three masters, each with a third of the slots.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<RedisServer>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let lines = |bus: u16| {
            vec![
                "cluster-enabled yes".to_owned(),
                "cluster-config-file nodes.conf".to_owned(),
                "cluster-node-timeout 2000".to_owned(),
                format!("cluster-port {bus}"),
            ]
        };
        let start = |_| RedisServer::start(Options { lines: lines(free_port()), ..Options::default() });
        let nodes: Vec<_> = (0..3).map(start).collect();
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(nodes.iter().map(RedisServer::address)).arg("--cluster-yes");
        let output = create.output().expect("redis-cli is missing: apt-get install redis-tools");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        nodes.iter().for_each(|node| node.until(&["CLUSTER", "INFO"], "cluster_state:ok"));
        Self { nodes }
    }

    /// The URL of the store in it.
    pub(crate) fn url(&self) -> String {
        format!("redis+cluster://{}", addresses(&self.nodes))
    }
}

fn addresses(servers: &[RedisServer]) -> String {
    servers.iter().map(RedisServer::address).collect::<Vec<_>>().join(",")
}

/// Whether a server is there and done loading; of one that speaks TLS, whether it takes connections.
fn answers(port: u16, tls: bool) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    if tls {
        return true;
    }
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let mut answer = [0; 16];
    let asked = stream.write_all(b"PING\r\n").and_then(|()| stream.read(&mut answer));
    asked.is_ok_and(|read| {
        answer.get(..read).is_some_and(|text| text.starts_with(b"+PONG") || text.starts_with(b"-NOAUTH"))
    })
}

/// A port nobody listens at; low enough for a cluster's second port.
fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there are free ports");
        let port = listener.local_addr().expect("it is bound").port();
        if port < 55_000 {
            return port;
        }
    }
}

fn folder() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("portcullis-redis-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    fs::create_dir_all(&path).expect("a temporary folder can be made");
    path
}
