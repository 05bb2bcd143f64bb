//! One line per answer of the proxy, under the target `access`.
//!
//! It says who asked for what and what came of it, never with what: no token, no header, no query string, no path beyond the
//! route's name. Refusals and failures are always written; of forwarded answers a share, evenly spread.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::domain::TokenDigest;

/// Which answers get a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Whether any does.
    pub enabled: bool,
    /// The share of forwarded answers that does, from 0 to 1.
    pub sample: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { enabled: true, sample: 1.0 }
    }
}

/// Writes the lines.
#[derive(Debug)]
pub struct AccessLog {
    enabled: bool,
    /// The share in units of 2⁻³²; `None` for all.
    share: Option<u32>,
    /// What the shares of the answers since the last line add up to.
    owed: AtomicU32,
}

/// One answer.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// What was asked.
    pub method: &'a str,
    /// The route's name, or `-`.
    pub route: &'a str,
    /// The answer's status.
    pub status: u16,
    /// `forwarded`, `denied`, `refused`, `unavailable`, `failed`.
    pub outcome: &'static str,
    /// Until the answer's head was ready.
    pub duration: Duration,
    /// The digest of the verified token; its prefix is written.
    pub token: Option<TokenDigest>,
    /// `sub`.
    pub user: Option<&'a str>,
    /// The upstream asked last.
    pub upstream: Option<&'a str>,
    /// The request's id.
    pub request_id: &'a str,
}

impl AccessLog {
    /// A log that writes as `settings` say.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let units = settings.sample.clamp(0.0, 1.0) * (f64::from(u32::MAX) + 1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped; `as` saturates")]
        let share = (settings.sample < 1.0).then_some(units as u32);
        Self { enabled: settings.enabled, share, owed: AtomicU32::new(0) }
    }

    /// Whether an answer with this outcome gets a line. Counts a forwarded one, so ask once for each.
    #[must_use]
    pub fn wants(&self, outcome: &'static str) -> bool {
        let visible = self.enabled && tracing::enabled!(target: "access", tracing::Level::INFO);
        visible && (outcome != "forwarded" || self.share.is_none_or(|share| self.draws(share)))
    }

    fn draws(&self, share: u32) -> bool {
        // A line falls due whenever the shares add up to a whole.
        self.owed.fetch_add(share, Ordering::Relaxed).checked_add(share).is_none()
    }

    /// Writes a line.
    pub fn write(&self, line: &Line<'_>) {
        let token = line.token.map(|digest| digest.prefix());
        tracing::info!(
            target: "access",
            method = line.method,
            route = line.route,
            status = line.status,
            outcome = line.outcome,
            duration_us = u64::try_from(line.duration.as_micros()).unwrap_or(u64::MAX),
            token = token.as_deref(),
            user = line.user,
            upstream = line.upstream,
            request_id = line.request_id,
            "request answered",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(sample: f64) -> usize {
        let log = AccessLog::new(Settings { enabled: true, sample });
        (0..1000).filter(|_| log.share.is_none_or(|share| log.draws(share))).count()
    }

    #[test]
    fn the_share_asked_for_is_written() {
        assert_eq!(drawn(1.0), 1000);
        assert_eq!(drawn(0.25), 250);
        assert_eq!(drawn(0.1), 99);
        assert_eq!(drawn(0.0), 0);
    }

    #[test]
    fn what_goes_wrong_is_always_written_unless_the_log_is_off() {
        let subscriber = tracing_subscriber::fmt().with_writer(std::io::sink).finish();
        tracing::subscriber::with_default(subscriber, || {
            let quiet = AccessLog::new(Settings { enabled: true, sample: 0.0 });
            assert!(quiet.wants("denied") && quiet.wants("failed") && !quiet.wants("forwarded"));
            let off = AccessLog::new(Settings { enabled: false, sample: 1.0 });
            assert!(!off.wants("denied") && !off.wants("forwarded"));
        });
    }
}
