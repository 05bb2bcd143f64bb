//! One caveat of a macaroon: whether this request satisfies it, as far as anybody here can tell. What is not known to be
//! satisfied grants nothing; what restricts only what the upstream does with its data is for the upstream.

use crate::domain::Timestamp;

/// A caveat, as far as it is understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Caveat<'c> {
    /// `time < N`: good before that second.
    Before(Timestamp),
    /// `service = A|B`: for these services.
    Service(&'c str),
    /// `interface = I`: over that interface.
    Interface(&'c str),
    /// `data.…`: about data, which the upstream keeps.
    Data,
    /// Something else: addresses, consumers, single calls.
    Unknown,
}

/// Whether caveats are satisfied, the worse the greater.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Verdict {
    /// They are.
    Satisfied,
    /// That cannot be told here.
    Undecided,
    /// They are not.
    Unsatisfied,
}

impl<'c> Caveat<'c> {
    pub(super) fn parse(bytes: &'c [u8]) -> Self {
        let Ok(text) = std::str::from_utf8(bytes) else { return Self::Unknown };
        if let Some(secs) = text.strip_prefix("time < ") {
            let written = |secs: &u64| secs.to_string() == text.trim_start_matches("time < ");
            return secs.parse().ok().filter(written).map_or(Self::Unknown, |secs| Self::Before(moment(secs)));
        }
        match text.split_once(" = ") {
            Some(("service", services)) => Self::Service(services),
            Some(("interface", interface)) => Self::Interface(interface),
            _ if text.starts_with("data.") => Self::Data,
            _ => Self::Unknown,
        }
    }

    /// Until when it lets the token live.
    pub(super) const fn until(self) -> Option<Timestamp> {
        match self {
            Self::Before(until) => Some(until),
            _ => None,
        }
    }

    /// Whether a request to `service` satisfies it; time is looked at elsewhere, on every request.
    pub(super) fn judge(self, service: &str) -> Verdict {
        match self {
            Self::Before(_) | Self::Data => Verdict::Satisfied,
            Self::Service(services) if services.split('|').any(|allowed| allowed == service) => Verdict::Satisfied,
            Self::Interface("rest") => Verdict::Satisfied,
            Self::Service(_) | Self::Interface(_) => Verdict::Unsatisfied,
            Self::Unknown => Verdict::Undecided,
        }
    }
}

/// The second, or the last that is counted.
fn moment(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs).min(Timestamp::MAX)
}
