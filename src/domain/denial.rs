//! Why a token may not pass. A denial is an outcome, not an error: counted, never logged as a failure.

use std::fmt;

/// Why a token may not pass. Callers outside learn only which of three: no token, a bad token, too little scope.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Denial {
    /// The route demands a token and the request has none.
    Missing,
    /// The text is no token: wrong form, too long, duplicate members, an unknown `crit`.
    Malformed,
    /// No issuer this route accepts answers for it.
    UnknownIssuer,
    /// The signature does not fit, or no key does.
    Signature,
    /// `exp` has passed.
    Expired,
    /// `nbf` or `iat` lies ahead of us by more than the leeway.
    NotYetValid,
    /// `aud` names none of ours.
    Audience,
    /// It is a token of another type: an ID token, a logout token, a refresh token.
    Type,
    /// It would live longer than revocations are kept.
    Lifetime,
    /// A required claim is missing or of the wrong type.
    Claim,
    /// The issuer says it is not active (RFC 7662 §2.2).
    Inactive,
    /// It was taken back.
    Revoked,
    /// It is good, but lacks a scope the route demands.
    Scope,
}

impl Denial {
    /// All of them, for the metrics.
    pub const ALL: [Self; 13] = [
        Self::Missing,
        Self::Malformed,
        Self::UnknownIssuer,
        Self::Signature,
        Self::Expired,
        Self::NotYetValid,
        Self::Audience,
        Self::Type,
        Self::Lifetime,
        Self::Claim,
        Self::Inactive,
        Self::Revoked,
        Self::Scope,
    ];

    /// The reason's name in logs, metrics and `/v1/check`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::UnknownIssuer => "unknown_issuer",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Audience => "audience",
            Self::Type => "type",
            Self::Lifetime => "lifetime",
            Self::Claim => "claim",
            Self::Inactive => "inactive",
            Self::Revoked => "revoked",
            Self::Scope => "scope",
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
