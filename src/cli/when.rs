//! Moments as people type them: seconds since the epoch, a date of RFC 3339, or a time from now.

use std::time::{Duration, UNIX_EPOCH};

use crate::domain::Timestamp;

/// A moment, fixed or counted from now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum When {
    At(Timestamp),
    Away(Duration),
}

impl When {
    /// Reads `1767225600`, `2026-01-01T00:00:00Z` or `30m`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(secs) = text.parse() {
            return Ok(Self::At(Timestamp::from_secs(secs)));
        }
        if let Ok(length) = humantime::parse_duration(text) {
            return Ok(Self::Away(length));
        }
        let date = humantime::parse_rfc3339_weak(text).ok().and_then(|date| date.duration_since(UNIX_EPOCH).ok());
        let date = date.map(|since| Self::At(Timestamp::from_secs(since.as_secs())));
        date.ok_or_else(|| {
            "is neither seconds since 1970, nor a date such as 2026-01-31T12:00:00Z, nor a time such as 30m".into()
        })
    }

    /// The moment, with times from now counted back.
    pub(super) const fn ago(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Away(length) => now.before(length),
        }
    }

    /// The moment, with times from now counted on.
    pub(super) const fn ahead(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Away(length) => now.after(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_three_spellings() {
        let now = Timestamp::from_secs(1_000);
        let ahead = |text: &str| When::parse(text).unwrap().ahead(now).as_secs();
        assert_eq!(ahead("1767225600"), 1_767_225_600);
        assert_eq!(ahead("2026-01-01T00:00:00Z"), 1_767_225_600);
        assert_eq!(ahead("2026-01-01 00:00:00"), 1_767_225_600);
        assert_eq!(ahead("2m"), 1_120);
        assert_eq!(When::parse("2m").unwrap().ago(now).as_secs(), 880);
        assert!(When::parse("soon").is_err());
        assert!(When::parse("1960-01-01T00:00:00Z").is_err());
    }
}
