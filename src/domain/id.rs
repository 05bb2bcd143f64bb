//! Names that are not claims: a revocation's id, a place in the log.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Names one revocation, for good: 128 random bits, written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RevocationId(u128);

impl RevocationId {
    /// The id made of these random bits.
    #[must_use]
    pub const fn from_random(bits: u128) -> Self {
        Self(bits)
    }

    /// Its bits.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Display for RevocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A text that is no revocation id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a revocation id has 32 lower-case hexadecimal digits")]
pub struct InvalidId;

impl FromStr for RevocationId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let canonical = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !canonical {
            return Err(InvalidId);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| InvalidId)
    }
}

impl Serialize for RevocationId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RevocationId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A place in the log. Positions only grow; zero stands before the first entry.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Position(u64);

impl Position {
    /// Before the first entry.
    pub const START: Self = Self(0);

    /// The `n`th place.
    #[must_use]
    pub const fn new(n: u64) -> Self {
        Self(n)
    }

    /// The place's number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The place after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in the log where a follower has been: the position, and the random mark that the store set there. Two logs that
/// went apart, as one that lost its end and grew a new one, have different marks at the same position.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Checkpoint {
    /// The position.
    pub position: Position,
    /// Its mark; `None` at the start, and in a log that is local to a process.
    pub mark: Option<u64>,
}

impl Checkpoint {
    /// Before the first entry.
    pub const START: Self = Self { position: Position::START, mark: None };
}

impl From<Position> for Checkpoint {
    fn from(position: Position) -> Self {
        Self { position, mark: None }
    }
}

/// That the log was read to its end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Proof {
    /// Its end.
    pub checkpoint: Checkpoint,
    /// The reading of the monotonic clock before the store was asked: what it answered may have waited in a buffer since,
    /// as when the process was stopped.
    pub as_of: Duration,
}
