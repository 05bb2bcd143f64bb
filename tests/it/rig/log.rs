//! What the gateway writes to standard error, line by line, as it comes: stories wait for lines instead of sleeping.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

/// Everything written so far, and whether more may come.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    grown: watch::Receiver<usize>,
}

impl Log {
    /// Reads `source` to its end in a thread of its own.
    pub(crate) fn of(source: impl Read + Send + 'static) -> Self {
        let (growing, grown) = watch::channel(0);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                kept.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
                growing.send_modify(|count| *count += 1);
            }
        });
        Self { lines, grown }
    }

    /// The first line that contains `text`, waiting for it; `None` when the process ended without one.
    pub(crate) async fn line(&self, text: &str) -> Option<String> {
        let mut grown = self.grown.clone();
        loop {
            let ended = grown.has_changed().is_err();
            grown.mark_unchanged();
            if let Some(line) = self.lines.lock().unwrap().iter().find(|line| line.contains(text)) {
                return Some(line.clone());
            }
            if ended {
                return None;
            }
            let _ = grown.changed().await;
        }
    }

    /// Waits until the process has closed its standard error.
    pub(crate) async fn ended(&self) {
        let mut grown = self.grown.clone();
        while grown.changed().await.is_ok() {}
    }

    pub(crate) fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// The last lines, to be shown with a failure.
    pub(crate) fn tail(&self) -> String {
        let lines = self.lines.lock().unwrap();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}
