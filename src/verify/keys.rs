//! The keys of one issuer, kept current.
//!
//! One task fetches, and nobody else: so there is never more than one fetch at a time, it ends with its owner, and the time
//! between two fetches has a lower bound however many tokens with unknown keys come in. Requests read the set without a
//! lock; one that meets an unknown key asks the task for a newer set and waits for it, within a bound. When the issuer
//! cannot be reached, the last good set stays; when it answers, its answer holds, also when it withdraws every key.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::rand;
use hyper::Uri;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::clock::SharedClock;
use crate::domain::json;
use crate::telemetry::Metrics;
use crate::verify::fetch::{Fetch, is_safe};
use crate::verify::key_set::{self, KeySet, KeySetError};
use crate::verify::settings::{KeySource, SignatureSettings};

/// How long a fetch may take, and how long a request waits for one.
const FETCH_BOUND: Duration = Duration::from_secs(10);
/// How soon a failed fetch is tried again while there are no keys at all; doubled from failure to failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest discovery document read, in bytes.
const MAX_DISCOVERY_BYTES: usize = 64 * 1024;

/// The keys of one issuer. Dropping it ends the task that fetches them.
#[derive(Debug)]
pub(super) struct Keys {
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    name: Arc<str>,
    issuer: Arc<str>,
    settings: SignatureSettings,
    fetch: Arc<dyn Fetch>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    set: ArcSwapOption<KeySet>,
    progress: watch::Sender<Progress>,
    demand: Notify,
}

/// How far the task is.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    started: u64,
    finished: u64,
    started_at: Option<Duration>,
    demanded_at: Option<Duration>,
    failed: bool,
}

/// What came of asking for a newer set.
#[derive(Clone, Debug)]
pub(super) enum Renewal {
    /// This is the newest.
    Fetched(Arc<KeySet>),
    /// The newest is that which is known: it was fetched a moment ago, or is read from a file.
    Current,
    /// The issuer could not be reached.
    Failed,
}

/// Why an issuer's keys could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("the key set cannot be read")]
    File(#[source] std::io::Error),
    /// What was read is no key set.
    #[error("the key set is unusable: {0}")]
    Set(#[from] KeySetError),
    /// The file has no key for any of the configured algorithms.
    #[error("the key set has no key that fits the configured algorithms")]
    NoKey,
    /// The issuer cannot be reached.
    #[error("the issuer cannot be reached")]
    Call(#[from] crate::net::client::CallError),
    /// The issuer did not answer in time.
    #[error("the issuer did not answer in time")]
    TimedOut,
    /// The issuer answered with something else.
    #[error("the issuer answered with status {0}")]
    Status(u16),
    /// The discovery document is none, is another issuer's, or names no URL that may be fetched.
    #[error("the discovery document is unusable: {0}")]
    Discovery(&'static str),
}

/// Reads a key set from a file.
pub(super) fn from_file(path: &Path, settings: &SignatureSettings) -> Result<Arc<KeySet>, KeysError> {
    let size = std::fs::metadata(path).map_err(KeysError::File)?.len();
    if size > key_set::MAX_BYTES as u64 {
        return Err(KeySetError::TooLarge.into());
    }
    let bytes = std::fs::read(path).map_err(KeysError::File)?;
    let set = KeySet::parse(&bytes, &settings.algorithms)?;
    if set.is_empty() { Err(KeysError::NoKey) } else { Ok(Arc::new(set)) }
}

/// What the keys of an issuer need from outside.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    pub(super) fetch: Arc<dyn Fetch>,
    pub(super) clock: SharedClock,
    pub(super) metrics: Arc<Metrics>,
}

impl Keys {
    /// Starts to keep the keys of an issuer: reads its file, or starts the task that fetches. Needs a runtime.
    pub(super) fn start(
        name: Arc<str>,
        issuer: Arc<str>,
        settings: SignatureSettings,
        around: Surroundings,
    ) -> Result<Self, KeysError> {
        let Surroundings { fetch, clock, metrics } = around;
        let file = match &settings.keys {
            KeySource::File(path) => Some(from_file(path, &settings)?),
            KeySource::Url(_) | KeySource::Discovery => None,
        };
        let fetched = file.is_none();
        let set = ArcSwapOption::from(file);
        let (progress, demand) = (watch::Sender::default(), Notify::new());
        let shared = Arc::new(Shared { name, issuer, settings, fetch, clock, metrics, set, progress, demand });
        let task = fetched.then(|| tokio::spawn(shared.clone().keep()));
        Ok(Self { shared, task })
    }

    /// Takes over a set that was read from the file anew.
    pub(super) fn replace(&self, set: Arc<KeySet>) {
        self.shared.set.store(Some(set));
    }

    /// The set, if there is one.
    pub(super) fn current(&self) -> Option<Arc<KeySet>> {
        self.shared.set.load_full()
    }

    /// The set; waits for the first fetch, within a bound. `None` when the issuer cannot be reached.
    pub(super) async fn first(&self) -> Option<Arc<KeySet>> {
        if let Some(set) = self.current() {
            return Some(set);
        }
        match self.renew().await {
            Renewal::Fetched(set) => Some(set),
            Renewal::Current | Renewal::Failed => self.current(),
        }
    }

    /// Asks for a newer set, and waits for it within a bound. Many may ask at once; one fetch answers all.
    pub(super) async fn renew(&self) -> Renewal {
        if self.task.is_none() {
            return Renewal::Current;
        }
        let mut progress = self.shared.progress.subscribe();
        let before = *progress.borrow();
        // One that is under way, or is the first, answers whoever asks meanwhile.
        if before.started == before.finished && before.started > 0 {
            if !self.shared.may_fetch() {
                return if before.failed { Renewal::Failed } else { Renewal::Current };
            }
            self.shared.demand.notify_one();
        }
        let done = timeout(FETCH_BOUND, progress.wait_for(|progress| progress.finished > before.finished)).await;
        let failed = done.map_or(true, |progress| progress.map_or(true, |progress| progress.failed));
        match self.current() {
            Some(set) if !failed => Renewal::Fetched(set),
            _ => Renewal::Failed,
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Shared {
    /// Fetches at once, and then whenever the set has become old or is asked for.
    async fn keep(self: Arc<Self>) {
        let mut failures = 0;
        loop {
            let pause = match self.fetch_once().await {
                Ok(max_age) => {
                    failures = 0;
                    age(max_age, &self.settings)
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(issuer = %self.name, %error, failures, "an issuer's keys could not be fetched");
                    self.retry(failures)
                }
            };
            self.rest(jittered(pause)).await;
        }
    }

    /// Waits until the set is old, or somebody asks for a newer one and may have it.
    async fn rest(&self, pause: Duration) {
        let old = sleep(pause);
        tokio::pin!(old);
        loop {
            tokio::select! {
                () = &mut old => return,
                () = self.demand.notified() => if self.may_fetch() {
                    self.progress.send_modify(|progress| progress.demanded_at = Some(self.clock.elapsed()));
                    return;
                },
            }
        }
    }

    /// Whether the last fetch that was asked for is long enough ago. Those made by the timetable do not count: a key that
    /// is new a moment after one of them need not wait.
    fn may_fetch(&self) -> bool {
        let progress = *self.progress.borrow();
        let (last, pause) = match self.set.load().is_some() {
            true => (progress.demanded_at, self.settings.cooldown),
            false => (progress.started_at, self.retry(1)),
        };
        last.is_none_or(|last| self.clock.elapsed() >= last + pause)
    }

    /// How long to wait after so many failures.
    fn retry(&self, failures: u32) -> Duration {
        let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled.min(self.settings.cooldown.max(FIRST_RETRY))
    }

    /// One fetch, noted from start to finish.
    async fn fetch_once(&self) -> Result<Option<Duration>, KeysError> {
        self.progress.send_modify(|progress| {
            progress.started += 1;
            progress.started_at = Some(self.clock.elapsed());
        });
        let fetched = timeout(FETCH_BOUND, self.fetch()).await.unwrap_or(Err(KeysError::TimedOut));
        let fetched = fetched.map(|(set, max_age)| {
            self.note(&set);
            self.set.store(Some(Arc::new(set)));
            max_age
        });
        self.metrics.key_fetch(&self.name, fetched.is_ok());
        self.progress.send_modify(|progress| {
            progress.finished = progress.started;
            progress.failed = fetched.is_err();
        });
        fetched
    }

    fn note(&self, set: &KeySet) {
        if set.is_empty() {
            tracing::error!(issuer = %self.name, "the issuer's key set has no key that fits the configured algorithms");
        }
    }

    async fn fetch(&self) -> Result<(KeySet, Option<Duration>), KeysError> {
        let discovered;
        let url = match &self.settings.keys {
            KeySource::Url(url) => url,
            KeySource::Discovery | KeySource::File(_) => {
                discovered = self.discover().await?;
                &discovered
            }
        };
        let answer = self.fetch.get(url, key_set::MAX_BYTES).await?;
        if answer.status != 200 {
            return Err(KeysError::Status(answer.status));
        }
        Ok((KeySet::parse(&answer.body, &self.settings.algorithms)?, answer.max_age))
    }

    /// Where the discovery document says the keys are (OpenID Connect Discovery §4). The document must be the issuer's own:
    /// its `issuer` is compared exactly (§4.3).
    async fn discover(&self) -> Result<Uri, KeysError> {
        let base = self.issuer.trim_end_matches('/');
        let url: Uri = format!("{base}/.well-known/openid-configuration")
            .parse()
            .map_err(|_| KeysError::Discovery("the issuer is no URL"))?;
        if !is_safe(&url) {
            return Err(KeysError::Discovery("the issuer is no https URL"));
        }
        let answer = self.fetch.get(&url, MAX_DISCOVERY_BYTES).await?;
        if answer.status != 200 {
            return Err(KeysError::Status(answer.status));
        }
        let document = json::object(&answer.body).ok_or(KeysError::Discovery("it is no JSON object"))?;
        if document.get("issuer").and_then(Value::as_str) != Some(&*self.issuer) {
            return Err(KeysError::Discovery("it is another issuer's"));
        }
        let jwks_uri = document.get("jwks_uri").and_then(Value::as_str).and_then(|uri| uri.parse().ok());
        jwks_uri.filter(is_safe).ok_or(KeysError::Discovery("its jwks_uri is no https URL"))
    }
}

/// How old a set may become: what its server says, within our bounds.
fn age(max_age: Option<Duration>, settings: &SignatureSettings) -> Duration {
    let shortest = settings.cooldown.max(FIRST_RETRY);
    max_age.unwrap_or(settings.refresh).clamp(shortest, settings.refresh.max(shortest))
}

/// Up to a tenth less, so that replicas do not fetch in step.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0_u8; 1];
    // Without randomness there is no jitter, which does no harm.
    let _ = rand::fill(&mut random);
    pause - pause.mul_f64(f64::from(u8::from_be_bytes(random)) / 2560.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Algorithm;

    #[test]
    fn a_set_becomes_as_old_as_its_server_says_within_our_bounds() {
        let settings = SignatureSettings::new(KeySource::Discovery, vec![Algorithm::Es256]);
        let secs = |max_age: Option<u64>| age(max_age.map(Duration::from_secs), &settings).as_secs();
        assert_eq!([None, Some(0), Some(300), Some(86_400)].map(secs), [900, 30, 300, 900]);
        let odd = SignatureSettings { cooldown: Duration::from_secs(60), refresh: Duration::ZERO, ..settings };
        assert_eq!(age(None, &odd), Duration::from_secs(60), "never sooner than the cooldown");
    }

    #[test]
    fn jitter_takes_a_tenth_at_most() {
        let pause = Duration::from_secs(100);
        assert!((0..1000).map(|_| jittered(pause)).all(|pause| (90..=100).contains(&pause.as_secs())));
    }
}
