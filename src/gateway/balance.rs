//! Which of a route's upstreams gets the next request: the one with the least to do among the healthy, ties in turn.
//!
//! Health is passive: so many failures in a row to connect or to answer in time leave an upstream out for a while. When all are
//! left out they are asked all the same, since a wrong guess costs less than refusing everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::gateway::pool::Pool;
use crate::telemetry::Latency;

/// One upstream, shared by all routes that name it.
#[derive(Debug)]
pub(super) struct Upstream {
    label: Arc<str>,
    pool: Pool,
    load: AtomicUsize,
    health: Health,
    latency: Latency,
}

impl Upstream {
    /// An upstream that is thought well.
    pub(super) fn new(label: Arc<str>, pool: Pool, health: Health, latency: Latency) -> Arc<Self> {
        Arc::new(Self { label, pool, load: AtomicUsize::new(0), health, latency })
    }

    /// Its name in logs and metrics.
    pub(super) const fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// Its connections.
    pub(super) const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// How long it takes to answer.
    pub(super) const fn latency(&self) -> &Latency {
        &self.latency
    }

    /// What is known of how it does.
    pub(super) const fn health(&self) -> &Health {
        &self.health
    }
}

/// One exchange under way at an upstream, as long as this lives.
#[derive(Debug)]
pub(super) struct Load(Arc<Upstream>);

impl Load {
    /// Counts one more.
    pub(super) fn on(upstream: &Arc<Upstream>) -> Self {
        upstream.load.fetch_add(1, Ordering::Relaxed);
        Self(upstream.clone())
    }

    /// Where.
    pub(super) const fn upstream(&self) -> &Arc<Upstream> {
        &self.0
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Failures in a row, and until when they leave an upstream out.
#[derive(Debug)]
pub(super) struct Health {
    most_failures: u32,
    eject: Duration,
    failures: AtomicU32,
    /// In milliseconds of the clock that only grows.
    out_until: AtomicU64,
}

impl Health {
    /// Leaves an upstream out for `eject` after `most_failures` in a row; never, when that is zero.
    pub(super) const fn new(most_failures: u32, eject: Duration) -> Self {
        Self { most_failures, eject, failures: AtomicU32::new(0), out_until: AtomicU64::new(0) }
    }

    /// Whether it may be asked at `now`.
    pub(super) fn is_well(&self, now: Duration) -> bool {
        millis(now) >= self.out_until.load(Ordering::Relaxed)
    }

    /// It answered.
    pub(super) fn note_success(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// It did not. `chance` lengthens the time it is left out by up to a quarter, so that replicas do not come back in step.
    /// Returns whether it is left out from now on.
    pub(super) fn note_failure(&self, now: Duration, chance: u8) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if self.most_failures == 0 || failures < self.most_failures || !self.is_well(now) {
            return false;
        }
        let jitter = self.eject.mul_f64(f64::from(chance) / 1020.0);
        self.out_until.store(millis(now + self.eject + jitter), Ordering::Relaxed);
        // One failure after it is let in again leaves it out again.
        self.failures.store(self.most_failures - 1, Ordering::Relaxed);
        true
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Which of a route's upstreams one request has met.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried(u64);

impl Tried {
    const fn bit(at: usize) -> u64 {
        if at < 64 { 1 << at } else { 0 }
    }

    const fn has(self, at: usize) -> bool {
        self.0 & Self::bit(at) != 0
    }
}

/// A route's upstreams.
#[derive(Debug)]
pub(super) struct Upstreams {
    members: Box<[Arc<Upstream>]>,
    turn: AtomicUsize,
}

impl Upstreams {
    /// These.
    pub(super) fn new(members: Vec<Arc<Upstream>>) -> Self {
        Self { members: members.into(), turn: AtomicUsize::new(0) }
    }

    /// The next to ask, one not tried before if there is any; `None` only when there are none at all.
    pub(super) fn choose(&self, now: Duration, tried: &mut Tried) -> Option<&Arc<Upstream>> {
        if let [only] = &*self.members {
            return Some(only);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(self.members.len())?;
        let in_turn = self.members.iter().enumerate().cycle().skip(turn).take(self.members.len());
        let (at, chosen) = in_turn.min_by_key(|(at, upstream)| {
            (tried.has(*at), !upstream.health.is_well(now), upstream.load.load(Ordering::Relaxed))
        })?;
        tried.0 |= Tried::bit(at);
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::gateway::connect::Connector;

    const EJECT: Duration = Duration::from_secs(8);

    fn upstream(name: &str) -> Arc<Upstream> {
        let url = "http://127.0.0.1:1".parse().unwrap();
        let connector = Connector { url, tls: None, bound: EJECT, head_bytes: 8192 };
        let pool = Pool::new(connector, 1, EJECT, SystemClock::shared());
        Upstream::new(name.into(), pool, Health::new(2, EJECT), Latency::default())
    }

    fn three() -> Upstreams {
        Upstreams::new(["a", "b", "c"].map(upstream).into())
    }

    fn choose(upstreams: &Upstreams, now: Duration) -> Arc<Upstream> {
        upstreams.choose(now, &mut Tried::default()).unwrap().clone()
    }

    #[test]
    fn ties_go_in_turn() {
        let upstreams = three();
        let chosen: Vec<_> = (0..6).map(|_| choose(&upstreams, Duration::ZERO).label().to_string()).collect();
        assert_eq!(chosen, ["a", "b", "c", "a", "b", "c"]);
    }

    #[test]
    fn the_least_loaded_is_chosen() {
        let upstreams = three();
        let _busy: Vec<Load> = upstreams.members.iter().take(2).map(Load::on).collect();
        for _ in 0..3 {
            assert_eq!(&**choose(&upstreams, Duration::ZERO).label(), "c");
        }
    }

    #[test]
    fn what_was_tried_is_tried_last() {
        let upstreams = three();
        let mut tried = Tried::default();
        let mut chosen: Vec<_> =
            (0..3).map(|_| upstreams.choose(Duration::ZERO, &mut tried).unwrap().label().to_string()).collect();
        chosen.sort();
        assert_eq!(chosen, ["a", "b", "c"]);
        assert!(upstreams.choose(Duration::ZERO, &mut tried).is_some());
    }

    #[test]
    fn the_ill_are_left_out_for_a_while_and_asked_when_all_are() {
        let upstreams = three();
        let (start, later) = (Duration::from_secs(1), Duration::from_secs(20));
        let ill = |upstream: &Arc<Upstream>| {
            assert!(!upstream.health().note_failure(start, 255));
            assert!(upstream.health().note_failure(start, 255));
        };
        upstreams.members.iter().take(2).for_each(ill);
        assert!((0..4).all(|_| &**choose(&upstreams, start).label() == "c"));
        upstreams.members.iter().skip(2).for_each(ill);
        assert!(upstreams.choose(start, &mut Tried::default()).is_some());
        let back = &upstreams.members[0];
        assert!(back.health().is_well(start + EJECT.mul_f64(1.25)) && !back.health().is_well(start + EJECT));
        assert!(back.health().note_failure(later, 0), "one more failure leaves it out again");
        back.health().note_success();
        assert!(!back.health().note_failure(later + EJECT, 0));
    }

    #[test]
    fn no_upstream_is_none() {
        assert!(Upstreams::new(Vec::new()).choose(Duration::ZERO, &mut Tried::default()).is_none());
    }
}
