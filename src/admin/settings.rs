//! What the configuration says of the admin side, as plain values.
//!
//! A secret is here only as its SHA-256, and even that has no `Debug`: a short secret could be guessed from it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use crate::admin::Dialects;
use crate::domain::Rights;

/// What the admin side needs to know. The `Default` knows no caller, so it serves health and nothing else.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Callers who bring a secret.
    pub credentials: Vec<Credential>,
    /// Callers who bring a client certificate.
    pub certificates: Vec<Certificate>,
    /// Callers who bring a token of a configured issuer.
    pub tokens: Vec<TokenRule>,
    /// Wrong credentials a source address may show each minute, at least 1; after that it gets 429.
    pub failures_per_minute: u32,
    /// This replica's name.
    pub replica: Arc<str>,
    /// The product's version.
    pub version: Arc<str>,
    /// The kind of store, as its URL's scheme names it: `sqlite`, `memory`…
    pub store: Arc<str>,
    /// Whose APIs are spoken beside our own.
    pub dialects: Dialects,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            credentials: Vec::new(),
            certificates: Vec::new(),
            tokens: Vec::new(),
            failures_per_minute: 10,
            replica: Arc::from("portcullis"),
            version: Arc::from(env!("CARGO_PKG_VERSION")),
            store: Arc::from("sqlite"),
            dialects: Dialects::default(),
        }
    }
}

/// A caller known by a secret in `Authorization: Bearer`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credential {
    /// The name in the audit trail.
    pub name: Arc<str>,
    /// Of the secret.
    pub sha256: Fingerprint,
    /// What it may do.
    pub rights: Rights,
}

/// A caller known by a verified client certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    /// The name in the audit trail.
    pub name: Arc<str>,
    /// Of the certificate's DER.
    pub sha256: Fingerprint,
    /// What it may do.
    pub rights: Rights,
}

/// Which tokens have which rights.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenRule {
    /// The issuer's configured name.
    pub issuer: Arc<str>,
    /// The claim that must have the value. `scope`, `user` or `sub`, `username`, `client` or `azp` or `client_id`, `session`
    /// or `sid` mean what the issuer's section reads them from; any other name is that claim of the token.
    pub claim: Arc<str>,
    /// The value; of an array claim, one member.
    pub value: Arc<str>,
    /// What such a token may do.
    pub rights: Rights,
}

/// A SHA-256, of a secret or of a certificate. Compared in constant time.
#[derive(Clone, Copy)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(sha256)
    }

    /// 64 lower-case hexadecimal digits: what goes into the configuration.
    #[must_use]
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Eq for Fingerprint {}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(..)")
    }
}

/// A text that is no fingerprint.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a SHA-256 has 64 hexadecimal digits")]
pub struct InvalidFingerprint;

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(hex: &str) -> Result<Self, InvalidFingerprint> {
        let digits: Option<Vec<u8>> = hex.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
        let digits = digits.filter(|digits| digits.len() == 64).ok_or(InvalidFingerprint)?;
        let mut sha256 = [0; 32];
        for (byte, pair) in sha256.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair.iter().fold(0, |byte, digit| byte << 4 | digit);
        }
        Ok(Self(sha256))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_survives_its_hexadecimal_form() {
        let fingerprint = Fingerprint::of(b"secret");
        assert_eq!(fingerprint.to_hex().parse(), Ok(fingerprint));
        assert_eq!(fingerprint.to_hex().to_uppercase().parse(), Ok(fingerprint));
        assert_eq!(Fingerprint::of(b"").to_hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn what_is_not_64_digits_is_no_fingerprint() {
        for text in ["", "ab", &"g".repeat(64), &"a".repeat(63), &"a".repeat(65), &"é".repeat(32)] {
            assert_eq!(text.parse::<Fingerprint>(), Err(InvalidFingerprint), "{text}");
        }
    }

    #[test]
    fn debug_shows_no_fingerprint() {
        let shown = format!("{:?}", Fingerprint::of(b"secret"));
        assert!(!shown.contains("2bb8"), "{shown}");
    }
}
