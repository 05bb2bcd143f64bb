//! Signatures. The algorithm belongs to the key, which was checked against it when the key set was loaded; a token's `alg`
//! only chooses among the keys that are there. HMAC and `none` have no name here, so they cannot be configured by mistake.
//!
//! Keys are parsed once by aws-lc-rs and used directly. jsonwebtoken verifies with the same library, but parses and copies
//! the key anew for each token, and what it checks beyond the signature is checked here more strictly (`jws`, `claims`);
//! it is the independent signer of the tests instead.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
};

/// An algorithm a token may be signed with (RFC 7518 §3.1, RFC 8037 §3.1, RFC 9864 §2.2).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519, by its name in RFC 8037.
    EdDsa,
    /// Ed25519, by its name in RFC 9864.
    Ed25519,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
        Self::Ed25519,
    ];

    /// The name in `alg`, compared exactly.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
            Self::Ed25519 => "Ed25519",
        }
    }

    /// Whether a key whose own `alg` says `named` may be used: the same, or the other name of Ed25519.
    pub(super) fn fits(self, named: &str) -> bool {
        let ed25519 = [Self::EdDsa.name(), Self::Ed25519.name()];
        named == self.name() || (ed25519.contains(&named) && ed25519.contains(&self.name()))
    }

    const fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
            Self::Es256 | Self::Es384 | Self::EdDsa | Self::Ed25519 => None,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no algorithm of ours.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unknown algorithm {0:?}; known are RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA, Ed25519")]
pub struct UnknownAlgorithm(String);

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL.into_iter().find(|known| known.name() == name).ok_or_else(|| UnknownAlgorithm(name.to_owned()))
    }
}

/// The public numbers of a key, as a JWK gives them.
#[derive(Clone, Debug)]
pub(super) enum Material {
    /// Modulus and exponent, big-endian.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// A point on P-256.
    P256 { x: Vec<u8>, y: Vec<u8> },
    /// A point on P-384.
    P384 { x: Vec<u8>, y: Vec<u8> },
    /// A point of Ed25519.
    Ed25519 { x: Vec<u8> },
}

/// What tells one key from another for as long as it is in the set: its name, its algorithm and its numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct KeyIdentity([u8; 32]);

/// A key for one algorithm.
#[derive(Debug)]
pub(super) struct Key {
    /// What tells it from others.
    pub(super) identity: KeyIdentity,
    /// Its name in the set.
    pub(super) key_id: Option<Box<str>>,
    /// The one algorithm it is used with.
    pub(super) algorithm: Algorithm,
    public: ParsedPublicKey,
}

impl Key {
    /// A key of these numbers for that algorithm; `None` when they do not fit, or are no sound key.
    pub(super) fn new(key_id: Option<&str>, algorithm: Algorithm, material: &Material) -> Option<Self> {
        let public = parse(algorithm, material)?;
        let identity = identify(key_id, algorithm, public.as_ref());
        Some(Self { identity, key_id: key_id.map(Into::into), algorithm, public })
    }

    /// Whether `signature` is this key's signature of `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.public.verify_sig(message, signature).is_ok()
    }
}

fn parse(algorithm: Algorithm, material: &Material) -> Option<ParsedPublicKey> {
    match (algorithm, material) {
        (Algorithm::Es256, Material::P256 { x, y }) => {
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point(x, y, 32)?).ok()
        }
        (Algorithm::Es384, Material::P384 { x, y }) => {
            ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point(x, y, 48)?).ok()
        }
        (Algorithm::EdDsa | Algorithm::Ed25519, Material::Ed25519 { x }) if x.len() == 32 => {
            ParsedPublicKey::new(&ED25519, x).ok()
        }
        (rsa, Material::Rsa { n, e }) => {
            let parameters = rsa.rsa().filter(|_| sound_rsa(n, e))?;
            RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters).ok()
        }
        _ => None,
    }
}

/// The uncompressed form of a point (SEC 1 §2.3.3); coordinates have their full length (RFC 7518 §6.2.1.2).
fn point(x: &[u8], y: &[u8], coordinate_bytes: usize) -> Option<Vec<u8>> {
    let full = x.len() == coordinate_bytes && y.len() == coordinate_bytes;
    full.then(|| [&[4], x, y].concat())
}

/// 2,048 to 8,192 bits (RFC 7518 §3.3), and an odd exponent over 1: with 1 every message is its own signature.
fn sound_rsa(n: &[u8], e: &[u8]) -> bool {
    let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    let minimal = n.first().is_some_and(|byte| *byte != 0) && e.first().is_some_and(|byte| *byte != 0);
    let odd = n.last().is_some_and(|byte| byte & 1 == 1) && e.last().is_some_and(|byte| byte & 1 == 1);
    minimal && odd && e != [1] && e.len() <= 5 && (2048..=8192).contains(&bits)
}

fn identify(key_id: Option<&str>, algorithm: Algorithm, public: &[u8]) -> KeyIdentity {
    let mut context = Context::new(&SHA256);
    context.update(algorithm.name().as_bytes());
    context.update(if key_id.is_some() { b"\x01" } else { b"\x00" });
    context.update(&key_id.map_or(0, str::len).to_be_bytes());
    context.update(key_id.unwrap_or_default().as_bytes());
    context.update(public);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    KeyIdentity(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_and_none_have_no_name() {
        for name in ["none", "None", "NONE", "nOnE", "HS256", "HS384", "HS512", "", "rs256", "ES512"] {
            assert!(name.parse::<Algorithm>().is_err(), "{name}");
        }
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
        }
    }

    #[test]
    fn ed25519_has_two_names() {
        assert!(Algorithm::EdDsa.fits("Ed25519") && Algorithm::Ed25519.fits("EdDSA"));
        assert!(!Algorithm::Es256.fits("EdDSA") && !Algorithm::EdDsa.fits("ES256"));
    }

    #[test]
    fn a_key_of_another_type_curve_or_size_is_no_key() {
        let p256 = Material::P256 { x: vec![1; 32], y: vec![1; 32] };
        assert!(Key::new(None, Algorithm::Es256, &p256).is_none(), "off the curve");
        assert!(Key::new(None, Algorithm::Rs256, &p256).is_none());
        let short = Material::Rsa { n: [&[0xff; 127][..], &[1]].concat(), e: vec![1, 0, 1] };
        assert!(Key::new(None, Algorithm::Rs256, &short).is_none(), "1,024 bits");
        let modulus = [&[0xff; 255][..], &[1]].concat();
        assert!(Key::new(None, Algorithm::Rs256, &Material::Rsa { n: modulus.clone(), e: vec![1] }).is_none());
        assert!(Key::new(None, Algorithm::Rs256, &Material::Rsa { n: modulus.clone(), e: vec![2] }).is_none());
        assert!(Key::new(None, Algorithm::Es256, &Material::Rsa { n: modulus.clone(), e: vec![3] }).is_none());
        assert!(Key::new(None, Algorithm::Rs256, &Material::Rsa { n: modulus, e: vec![1, 0, 1] }).is_some());
        assert!(Key::new(None, Algorithm::EdDsa, &Material::Ed25519 { x: vec![1; 31] }).is_none());
    }
}
