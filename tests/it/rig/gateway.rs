//! The gateway as operators run it: the binary, a configuration file, signals.
//!
//! Dropping it kills it, and holds what is true of every story: nothing panicked, and no secret is in the log.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::rig::log::Log;
use crate::rig::within;

/// Where the binary under test is: the one that was built with the tests, or the one they were told of.
pub(crate) const BINARY: &str = match option_env!("PORTCULLIS_BINARY") {
    Some(told) => told,
    None => env!("CARGO_BIN_EXE_portcullis"),
};

/// A running gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    child: Child,
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) log: Log,
    secrets: Vec<String>,
}

/// A gateway that did not start.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: ExitStatus,
    pub(crate) log: String,
}

impl Gateway {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    ///
    /// What it said when it ended instead.
    pub(crate) async fn start(config: &Path) -> Result<Self, Refused> {
        Self::spawn(Command::new(BINARY).args(["serve", "--config"]).arg(config)).await
    }

    /// The same by a command of the story's own making.
    pub(crate) async fn spawn(command: &mut Command) -> Result<Self, Refused> {
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.expect("the gateway's binary can be run");
        let log = Log::of(child.stderr.take().expect("standard error is piped"));
        let Some(ready) = within("the gateway's start", log.line("portcullis is ready")).await else {
            return Err(Refused { status: child.wait().expect("the gateway can be awaited"), log: log.text() });
        };
        let (proxy, admin) = (address(&ready, "proxy="), address(&ready, "admin="));
        Ok(Self { child, proxy, admin, log, secrets: Vec::new() })
    }

    /// Makes sure that `secret` is not in the log in the end.
    pub(crate) fn keeps_secret(&mut self, secret: &str) {
        self.secrets.push(secret.to_owned());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, as `kill` knows it.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(sent.expect("kill can be run").success(), "SIG{name} was not sent");
    }

    /// `kill -9`, and nothing of it is left when this returns.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for it to end by itself.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        within("the gateway's end", self.log.ended()).await;
        self.child.wait().expect("the gateway can be awaited")
    }

    /// The memory it holds now, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most memory it ever held, in bytes.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the gateway runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the kernel tells memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("memory is a number") * 1024
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the gateway's last lines:\n{}", self.log.tail());
            return;
        }
        let log = self.log.text();
        assert!(!log.contains("panicked at"), "the gateway panicked:\n{}", self.log.tail());
        for secret in &self.secrets {
            assert!(!log.contains(secret.as_str()), "the log holds a secret: {secret}");
        }
        assert!(!holds_a_token(&log), "the log holds a token:\n{log}");
    }
}

/// Whether a text holds the start of a JWT's header or payload in base64url: `{"` is spelled `eyJ`.
pub(crate) fn holds_a_token(text: &str) -> bool {
    let coded = |rest: &str| rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || b"-_".contains(b)).count();
    text.match_indices("eyJ").any(|(at, _)| coded(&text[at..]) >= 16)
}

fn address(line: &str, field: &str) -> SocketAddr {
    let text = line.split(field).nth(1).and_then(|rest| rest.split_whitespace().next());
    let text = text.unwrap_or_else(|| panic!("no {field} in {line:?}"));
    text.trim_matches('"').parse().unwrap_or_else(|fault| panic!("{fault} in {line:?}"))
}
