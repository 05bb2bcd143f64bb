//! Signs of life: what this replica's index shows, told to the store for the others to read.
//!
//! A beat goes out at once when the index has got further, and otherwise three times in the time for which others believe
//! one. It is told to the index when it was acknowledged, as of the moment it was sent: a replica whose beats do not arrive
//! is not waited for by others, so it must not go on serving for longer than they may believe it does. And the first beat
//! after a silence counts only once the log was read since: what was revoked meanwhile was answered without waiting for us.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::clock::SharedClock;
use crate::domain::{Checkpoint, ReplicaIdentity, Timestamp};
use crate::index::{Index, Progress, Standing};
use crate::store::{Backoff, Beat, SharedReplicas, StoreError};
use crate::sync::until;

/// The least time between two beats: what happens within it is told by the second.
const SPACING: Duration = Duration::from_millis(5);
/// How often an index that loads is looked at.
const LOADING: Duration = Duration::from_millis(20);
/// How long the farewell may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a replica says of itself, and how often.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeartbeatSettings {
    /// Who it is.
    pub replica: ReplicaIdentity,
    /// For how long it goes on serving without another beat: the index's `max_staleness`.
    pub lease: Duration,
    /// When the process was started.
    pub started_at: Timestamp,
}

/// Beats as long as it is not stopped.
pub struct Heartbeat {
    table: SharedReplicas,
    id: Arc<str>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heartbeat").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Heartbeat {
    /// Starts to beat for `index`, from when it is loaded: before that there is nothing to tell. `doubt` is told when the
    /// store does not know what the index shows: it lost data.
    #[must_use]
    pub fn start(
        table: SharedReplicas,
        (index, doubt): (Arc<Index>, Arc<Notify>),
        clock: SharedClock,
        settings: HeartbeatSettings,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let id = settings.replica.id.clone();
        let (failing, said) = (false, index.standing());
        let beating = Beating { table: table.clone(), index, doubt, clock, settings, failing, said, last: None };
        let task = tokio::spawn(until(stopped, beating.run()));
        Self { table, id, stop, task: Mutex::new(Some(task)) }
    }

    /// Stops, and has the replica struck out, so that nobody waits for it. To be called once it serves nothing any more.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(task) = task else { return };
        // It ends at its next await; a panic in it was reported when it happened.
        let _ = task.await;
        match timeout(FAREWELL, self.table.leave(&self.id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "others will wait for this replica until its lease is over"),
            Err(_) => tracing::warn!("others will wait for this replica until its lease is over"),
        }
    }
}

struct Beating {
    table: SharedReplicas,
    index: Arc<Index>,
    /// Has the follower read the log at once.
    doubt: Arc<Notify>,
    clock: SharedClock,
    settings: HeartbeatSettings,
    failing: bool,
    /// When the last beat that was taken was sent.
    last: Option<Duration>,
    /// What the last beat said of the index.
    said: Standing,
}

impl Beating {
    async fn run(mut self) {
        let every = self.settings.lease / 3;
        let mut checkpoints = self.index.checkpoints();
        while self.index.standing() == Standing::Loading {
            let _ = timeout(LOADING, checkpoints.changed()).await;
        }
        let mut backoff = Backoff::new(Duration::from_millis(50), every);
        let mut namesakes_due = Some(Instant::now() + self.settings.lease + every);
        loop {
            let checkpoint = *checkpoints.borrow_and_update();
            if self.beat(checkpoint, every).await {
                backoff.reset();
                sleep(SPACING).await;
                // In vain after `every`: then it is time to repeat oneself.
                let news = checkpoints.wait_for(|reached| *reached != checkpoint);
                let _ = timeout(self.pause(every), news).await;
            } else {
                sleep(backoff.pause()).await;
            }
            // Whoever was this replica before a crash is silent by then.
            if namesakes_due.take_if(|due| *due <= Instant::now()).is_some() {
                self.look_for_namesakes(every).await;
            }
        }
    }

    /// Beats once; whether it was taken.
    async fn beat(&mut self, checkpoint: Checkpoint, patience: Duration) -> bool {
        let as_of = self.clock.elapsed();
        self.said = self.index.standing();
        let answer = timeout(patience, self.table.beat(self.words(checkpoint))).await;
        match answer.unwrap_or_else(|_| Err(StoreError::Unavailable("the store took too long".into()))) {
            Ok(()) => {
                if !self.counted_on_since(as_of, patience).await {
                    return false;
                }
                self.last = Some(as_of);
                self.index.note(Progress::Beaten { as_of });
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the store takes signs of life again");
                }
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, cause = error.source_text(), "the store takes no sign of life; trying again");
                }
                if matches!(error, StoreError::Lost(_)) {
                    self.doubt.notify_one();
                }
                false
            }
        }
    }

    /// Whether others have counted on us without a break, or else the log was read since they do.
    async fn counted_on_since(&self, as_of: Duration, patience: Duration) -> bool {
        let taken = self.clock.elapsed();
        if self.last.is_some_and(|last| taken.saturating_sub(last) < self.settings.lease) {
            return true;
        }
        let mut checkpoints = self.index.checkpoints();
        self.doubt.notify_one();
        while self.index.freshness().read.is_none_or(|read| read < taken) {
            let read = timeout(patience, checkpoints.changed()).await.is_ok_and(|read| read.is_ok());
            if !read || self.clock.elapsed().saturating_sub(as_of) >= self.settings.lease {
                return false;
            }
        }
        true
    }

    /// How long it goes without saying. The first beat to be taken makes the index be in step, which it could not know.
    fn pause(&self, every: Duration) -> Duration {
        if self.index.standing() == self.said { every } else { Duration::ZERO }
    }

    fn words(&self, checkpoint: Checkpoint) -> Beat {
        let HeartbeatSettings { replica, lease, started_at } = &self.settings;
        Beat {
            id: (*replica.id).into(),
            name: (*replica.name).into(),
            version: env!("CARGO_PKG_VERSION").into(),
            checkpoint,
            standing: self.said.name().into(),
            lease: *lease,
            started_at: *started_at,
        }
    }

    /// Warns of a live replica with our name: answers that speak of it leave open which is meant.
    async fn look_for_namesakes(&self, patience: Duration) {
        let own = &self.settings.replica;
        let Ok(Ok(replicas)) = timeout(patience, self.table.replicas()).await else { return };
        let namesake = |beat: &Beat| *beat.name == *own.name && *beat.id != *own.id;
        if let Some(other) = replicas.iter().find(|replica| replica.is_live() && namesake(&replica.beat)) {
            let other = &other.beat.id;
            tracing::warn!(replica = %own.name, id = %own.id, %other, "two live replicas have one name; set store.replica");
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::clock::ManualClock;
    use crate::domain::{Position, Proof};
    use crate::store::Replica;

    const LEASE: Duration = Duration::from_secs(9);

    /// What was said, and when by tokio's clock.
    #[derive(Debug, Default)]
    struct Said {
        beats: Mutex<Vec<(Beat, Instant)>>,
        left: Mutex<Vec<String>>,
        failures: Mutex<Vec<StoreError>>,
        doubt: Arc<Notify>,
    }

    impl Said {
        fn beats(&self) -> Vec<(Beat, Instant)> {
            self.beats.lock().unwrap().clone()
        }
    }

    #[async_trait]
    impl crate::store::ReplicaTable for Said {
        async fn beat(&self, beat: Beat) -> Result<(), StoreError> {
            if let Some(failure) = self.failures.lock().unwrap().pop() {
                return Err(failure);
            }
            self.beats.lock().unwrap().push((beat, Instant::now()));
            Ok(())
        }

        async fn replicas(&self) -> Result<Vec<Replica>, StoreError> {
            Ok(Vec::new())
        }

        async fn leave(&self, id: &str) -> Result<(), StoreError> {
            self.left.lock().unwrap().push(id.to_owned());
            Ok(())
        }
    }

    fn index() -> (Arc<Index>, Arc<ManualClock>) {
        let clock = ManualClock::at(Timestamp::from_secs(1_000));
        (Index::new(clock.clone(), LEASE, [7; 16]), clock)
    }

    fn reach(index: &Index, position: u64) {
        let checkpoint = Checkpoint { position: Position::new(position), mark: Some(position) };
        index.caught_up(Proof { checkpoint, as_of: Duration::from_secs(1_000) });
    }

    fn start(said: &Arc<Said>, index: &Arc<Index>, clock: &Arc<ManualClock>) -> Heartbeat {
        let settings = HeartbeatSettings {
            replica: ReplicaIdentity::new("a", 1),
            lease: LEASE,
            started_at: Timestamp::from_secs(5),
        };
        Heartbeat::start(said.clone(), (index.clone(), said.doubt.clone()), clock.clone(), settings)
    }

    #[tokio::test(start_paused = true)]
    async fn an_index_that_was_never_loaded_has_nothing_to_say() {
        let (said, (index, clock)) = (Arc::new(Said::default()), index());
        let heartbeat = start(&said, &index, &clock);
        sleep(LEASE * 3).await;
        assert!(said.beats().is_empty());
        reach(&index, 0);
        sleep(Duration::from_secs(1)).await;
        let (beat, _) = said.beats().remove(0);
        assert_eq!((&*beat.name, beat.lease, beat.started_at), ("a", LEASE, Timestamp::from_secs(5)));
        heartbeat.stop().await;
        assert_eq!(*said.left.lock().unwrap(), [format!("{:032x}", 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn three_beats_go_out_in_a_lease_and_one_at_once_when_the_index_moves() {
        let (said, (index, clock)) = (Arc::new(Said::default()), index());
        reach(&index, 1);
        let heartbeat = start(&said, &index, &clock);
        sleep(LEASE * 2).await;
        let at: Vec<Instant> = said.beats().iter().map(|(_, at)| *at).collect();
        assert!((6..=8).contains(&at.len()), "{at:?}");
        assert!(at.windows(2).all(|two| two[1] - two[0] <= LEASE / 3 + SPACING * 2), "{at:?}");
        let moved = Instant::now();
        for position in 2..50 {
            reach(&index, position);
            sleep(Duration::from_millis(1)).await;
        }
        sleep(SPACING * 2).await;
        let since: Vec<_> = said.beats().into_iter().filter(|(_, at)| *at >= moved).collect();
        assert!(since[0].1 - moved <= SPACING, "it did not wait for its turn");
        assert!((5..=12).contains(&since.len()), "{} beats for 48 steps in as many milliseconds", since.len());
        assert_eq!(since.last().unwrap().0.checkpoint, Checkpoint { position: Position::new(49), mark: Some(49) });
        heartbeat.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_beat_counts_once_the_log_was_read_since() {
        let (said, (index, clock)) = (Arc::new(Said::default()), index());
        reach(&index, 1);
        clock.advance(Duration::from_secs(1));
        let doubt = Arc::new(Notify::new());
        let settings = HeartbeatSettings {
            replica: ReplicaIdentity::new("a", 1),
            lease: LEASE,
            started_at: Timestamp::from_secs(5),
        };
        let heartbeat = Heartbeat::start(said.clone(), (index.clone(), doubt.clone()), clock.clone(), settings);
        doubt.notified().await;
        assert_eq!((said.beats().len(), index.freshness().beat), (1, None), "what was read before says too little");
        let checkpoint = Checkpoint { position: Position::new(2), mark: Some(2) };
        index.caught_up(Proof { checkpoint, as_of: Duration::from_secs(1_001) });
        sleep(Duration::from_millis(1)).await;
        assert_eq!(index.freshness().beat, Some(Duration::from_secs(1_001)));
        heartbeat.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_store_does_not_take_is_said_again() {
        let (said, (index, clock)) = (Arc::new(Said::default()), index());
        let dead = || StoreError::Unavailable("the line went dead".into());
        said.failures.lock().unwrap().extend([dead(), StoreError::Lost("emptied".into()), dead()]);
        reach(&index, 1);
        let heartbeat = start(&said, &index, &clock);
        sleep(LEASE / 3).await;
        assert!(!said.beats().is_empty());
        timeout(SPACING, said.doubt.notified()).await.expect("the follower hears of the loss");
        heartbeat.stop().await;
    }
}
