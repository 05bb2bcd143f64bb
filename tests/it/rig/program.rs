//! Programs that are not ours: Python clients, node, nginx, openssl. A missing one fails the test and says what to do.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::rig::within;

/// A file of the project.
pub(crate) fn project(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Where a program is; the test ends here when it is nowhere.
pub(crate) fn find(name: &str, install: &str) -> PathBuf {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&paths).chain(usual).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: run tests/run, or install it with `{install}`"))
}

/// Runs a command to its end beside the test's own runtime.
pub(crate) async fn run(mut command: Command) -> Output {
    let said = format!("{command:?}");
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("the command was awaited");
    output.unwrap_or_else(|fault| panic!("{said}: {fault}"))
}

/// Runs a command that must succeed, and returns what it wrote to standard output.
pub(crate) async fn succeed(command: Command) -> String {
    let said = format!("{command:?}");
    let output = run(command).await;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}: {}\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}

/// The Python that has the libraries real clients are written with.
pub(crate) fn python() -> PathBuf {
    let python = project("tests/env/py/bin/python");
    assert!(python.is_file(), "the clients' Python is missing: run `tests/run --setup`");
    python
}

/// A command that runs one of the project's Python clients.
pub(crate) fn client(name: &str) -> Command {
    let mut command = Command::new(python());
    command.arg(project("tests/clients/gate").join(name));
    command
}

/// A program that runs beside the test: it says where it is in one line of JSON, may say more in others, and ends when its
/// standard input closes, or by itself.
#[derive(Debug)]
pub(crate) struct Companion {
    child: Child,
    /// What it said of itself.
    pub(crate) about: Value,
    lines: UnboundedReceiver<String>,
}

impl Companion {
    pub(crate) async fn start(mut command: Command) -> Self {
        let said = format!("{command:?}");
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|fault| panic!("{said}: {fault}"));
        let stdout = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let (say, mut lines) = unbounded_channel();
        // Whatever it says is read at once, so that it is never held back by a full pipe.
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
        let line = within(&said, lines.recv()).await.unwrap_or_default();
        let about = serde_json::from_str(&line).unwrap_or_else(|fault| panic!("{said}: {fault} in {line:?}"));
        Self { child, about, lines }
    }

    /// The next line it says.
    pub(crate) async fn says(&mut self) -> Value {
        let line = within("what a companion says", self.lines.recv()).await.expect("it has more to say");
        serde_json::from_str(&line).unwrap_or_else(|fault| panic!("{fault} in {line:?}"))
    }

    /// The next line it says of that event.
    pub(crate) async fn says_of(&mut self, event: &str) -> Value {
        loop {
            let line = self.says().await;
            if line["event"] == event {
                return line;
            }
        }
    }

    /// One of the texts it said of itself.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.about[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.about))
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        for _ in 0..100 {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
