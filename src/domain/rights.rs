//! What a caller of the admin side may do.

use std::fmt;
use std::str::FromStr;

/// One thing a caller may do.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Right {
    /// Everything, wide revocations and bulk imports too.
    Admin,
    /// Search and show sessions, list revocations, check tokens.
    SessionsRead,
    /// Revoke and lift.
    SessionsRevoke,
    /// Read the audit trail and follow the events.
    AuditRead,
}

impl Right {
    const ALL: [Self; 4] = [Self::Admin, Self::SessionsRead, Self::SessionsRevoke, Self::AuditRead];

    /// The name in the configuration and in tokens.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::SessionsRead => "sessions:read",
            Self::SessionsRevoke => "sessions:revoke",
            Self::AuditRead => "audit:read",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no right.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unknown right {0:?}; the rights are admin, sessions:read, sessions:revoke, audit:read")]
pub struct UnknownRight(String);

impl FromStr for Right {
    type Err = UnknownRight;

    fn from_str(name: &str) -> Result<Self, UnknownRight> {
        Self::ALL.into_iter().find(|right| right.name() == name).ok_or_else(|| UnknownRight(name.to_owned()))
    }
}

/// A set of rights. `admin` holds all the others.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rights(u8);

impl Rights {
    /// No right at all.
    pub const NONE: Self = Self(0);

    /// Whether `right` is held, by itself or through `admin`.
    #[must_use]
    pub const fn allow(self, right: Right) -> bool {
        self.0 & (right.bit() | Right::Admin.bit()) != 0
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether nothing is held.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Right> for Rights {
    fn from_iter<I: IntoIterator<Item = Right>>(rights: I) -> Self {
        Self(rights.into_iter().fold(0, |bits, right| bits | right.bit()))
    }
}
