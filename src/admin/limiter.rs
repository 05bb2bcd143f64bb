//! How often a source address may fail: a bucket for each, refilled evenly, in a map of bounded size.
//!
//! When the map is full, addresses whose bucket has filled up again are forgotten, since a full bucket is like none; if that
//! makes no room, newcomers share one bucket. So a flood of addresses costs no memory and gains no attempts.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Sources remembered at once.
const MAX_SOURCES: usize = 4096;
const MINUTE: Duration = Duration::from_secs(60);

/// Who is counted: an IPv4 address, or the /64 that one IPv6 host can pick addresses from at will.
type Source = Option<IpAddr>;

/// Counts failures by source. For each it keeps one moment: when the bucket will be full again.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    // Held for a look-up, or a sweep over at most `MAX_SOURCES` entries; never while anything waits.
    full_at: Mutex<HashMap<Source, Duration>>,
}

impl Limiter {
    /// How long this source must wait before it may try again; `None` when it may now.
    pub(crate) fn blocked(&self, address: Source, per_minute: u32, now: Duration) -> Option<Duration> {
        let full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let source = source(address);
        let full_at = full_at.get(&source).or_else(|| overflow(&full_at))?;
        full_at.saturating_sub(now).checked_sub(MINUTE - interval(per_minute)).filter(|wait| !wait.is_zero())
    }

    /// Counts one failure.
    pub(crate) fn count(&self, address: Source, per_minute: u32, now: Duration) {
        let mut sources = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let mut source = source(address);
        if sources.len() >= MAX_SOURCES && !sources.contains_key(&source) {
            sources.retain(|_, full_at| *full_at > now);
            if sources.len() >= MAX_SOURCES {
                source = None;
            }
        }
        let full_at = sources.entry(source).or_default();
        *full_at = (*full_at).max(now) + interval(per_minute);
    }

    /// Counts one more unless this source is blocked already; says whether it did.
    pub(crate) fn admit(&self, address: Source, per_minute: u32, now: Duration) -> bool {
        let admitted = self.blocked(address, per_minute, now).is_none();
        if admitted {
            self.count(address, per_minute, now);
        }
        admitted
    }
}

/// The shared bucket, for a source that is not remembered while the map is full.
fn overflow(sources: &HashMap<Source, Duration>) -> Option<&Duration> {
    (sources.len() >= MAX_SOURCES).then(|| sources.get(&None)).flatten()
}

fn interval(per_minute: u32) -> Duration {
    MINUTE / per_minute.max(1)
}

fn source(address: Source) -> Source {
    match address?.to_canonical() {
        IpAddr::V6(v6) => Some(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into()),
        v4 @ IpAddr::V4(_) => Some(v4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn v4(n: u32) -> Source {
        Some(IpAddr::V4(n.into()))
    }

    #[test]
    fn ten_a_minute_means_ten_and_then_one_every_six_seconds() {
        let limiter = Limiter::default();
        for _ in 0..10 {
            assert_eq!(limiter.blocked(v4(1), 10, NOW), None);
            limiter.count(v4(1), 10, NOW);
        }
        assert_eq!(limiter.blocked(v4(1), 10, NOW), Some(Duration::from_secs(6)));
        assert_eq!(limiter.blocked(v4(1), 10, NOW + Duration::from_secs(6)), None);
        assert_eq!(limiter.blocked(v4(2), 10, NOW), None, "another address is not blocked");
    }

    #[test]
    fn one_ipv6_host_cannot_dodge_by_picking_addresses() {
        let limiter = Limiter::default();
        limiter.count("2001:db8::1".parse().ok(), 1, NOW);
        assert!(limiter.blocked("2001:db8::2".parse().ok(), 1, NOW).is_some());
        assert!(limiter.blocked("2001:db8:0:1::2".parse().ok(), 1, NOW).is_none());
    }

    #[test]
    fn an_ipv4_address_mapped_to_ipv6_is_the_same_source() {
        let limiter = Limiter::default();
        limiter.count("::ffff:192.0.2.1".parse().ok(), 1, NOW);
        assert!(limiter.blocked("192.0.2.1".parse().ok(), 1, NOW).is_some());
        assert!(limiter.blocked("192.0.2.2".parse().ok(), 1, NOW).is_none());
    }

    #[test]
    fn a_flood_of_addresses_stays_bounded_and_shares_one_bucket() {
        let limiter = Limiter::default();
        for n in 0..20_000 {
            limiter.count(v4(n), 1, NOW);
        }
        assert!(limiter.full_at.lock().unwrap().len() <= MAX_SOURCES + 1);
        assert!(limiter.blocked(v4(1_000_000), 1, NOW).is_some(), "newcomers share the bucket");
        limiter.count(v4(1_000_000), 1, NOW + MINUTE);
        assert!(limiter.full_at.lock().unwrap().len() <= 2, "those who may try again are forgotten");
        assert!(limiter.blocked(v4(1_000_001), 1, NOW + MINUTE).is_none(), "and newcomers have a bucket each");
    }
}
