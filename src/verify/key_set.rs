//! A key set (RFC 7517 §5) as input: bounded, and every member checked when it is loaded. A member that is unsound, secret,
//! or meant for something else is left out; its neighbours stay.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::domain::json::{self, Object};
use crate::verify::jws::Jws;
use crate::verify::jwt::{Algorithm, Key, KeyIdentity, Material};

/// The longest document read, in bytes.
pub(super) const MAX_BYTES: usize = 256 * 1024;
/// The most members of a set.
const MAX_MEMBERS: usize = 100;
/// How many keys are tried for one token: several can have one name, and a token need not name any.
const MAX_TRIES: usize = 8;

/// Why a document is no key set.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeySetError {
    /// Not an object with `keys`.
    #[error("it is no JSON Web Key Set")]
    Form,
    /// Too many bytes or members.
    #[error("it is larger than {MAX_BYTES} bytes or {MAX_MEMBERS} keys")]
    TooLarge,
}

/// The keys of an issuer that fit its algorithms.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

impl KeySet {
    /// Reads a document and keeps what can be used with one of `algorithms`.
    pub(super) fn parse(bytes: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeySetError> {
        if bytes.len() > MAX_BYTES {
            return Err(KeySetError::TooLarge);
        }
        let document: Document<'_> = serde_json::from_slice(bytes).map_err(|_| KeySetError::Form)?;
        if document.keys.len() > MAX_MEMBERS {
            return Err(KeySetError::TooLarge);
        }
        let members = document.keys.iter().filter_map(|member| json::object(member.get().as_bytes()));
        Ok(Self { keys: members.flat_map(|member| usable(&member, algorithms)).collect() })
    }

    /// Whether no key can be used.
    pub(super) const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key whose signature a token bears.
    pub(super) fn verify(&self, jws: &Jws<'_>) -> Option<KeyIdentity> {
        let signed = jws.signed.as_bytes();
        let mut candidates = self.keys.iter().filter(|key| key.is_meant_by(jws)).take(MAX_TRIES);
        candidates.find(|key| key.verifies(signed, &jws.signature)).map(|key| key.identity)
    }

    /// Whether a newer set could know more: no key has the token's `kid`, or the token names none.
    pub(super) fn may_lack(&self, jws: &Jws<'_>) -> bool {
        jws.header.key_id.is_none() || !self.keys.iter().any(|key| key.key_id == jws.header.key_id)
    }

    /// Whether that key is still in the set.
    pub(super) fn holds(&self, identity: &KeyIdentity) -> bool {
        self.keys.iter().any(|key| key.identity == *identity)
    }
}

impl Key {
    fn is_meant_by(&self, jws: &Jws<'_>) -> bool {
        let named = jws.header.key_id.is_none() || self.key_id == jws.header.key_id;
        named && self.algorithm.name() == &*jws.header.algorithm
    }
}

/// The keys one member makes: one for each algorithm that fits it.
fn usable(member: &Object, algorithms: &[Algorithm]) -> Vec<Key> {
    let Some((key_id, material)) = signature_key(member) else { return Vec::new() };
    let named = member.get("alg").map(Value::as_str);
    let fitting = algorithms.iter().filter(|algorithm| match named {
        None => true,
        Some(name) => name.is_some_and(|name| algorithm.fits(name)),
    });
    fitting.filter_map(|algorithm| Key::new(key_id, *algorithm, &material)).collect()
}

/// The name and the numbers of a public key that is meant for verifying signatures.
fn signature_key(member: &Object) -> Option<(Option<&str>, Material)> {
    let for_signatures = member.get("use").is_none_or(|usage| usage.as_str() == Some("sig"));
    let verifies = member.get("key_ops").is_none_or(|operations| {
        operations.as_array().is_some_and(|operations| operations.iter().any(|operation| operation == "verify"))
    });
    let key_id = match member.get("kid") {
        None => None,
        Some(kid) => Some(kid.as_str()?),
    };
    (for_signatures && verifies).then_some(())?;
    Some((key_id, material(member)?))
}

/// RFC 7518 §6.2.1, §6.3.1; RFC 8037 §2. Secret keys (`oct`) and other types and curves are none of ours.
fn material(member: &Object) -> Option<Material> {
    let text = |name: &str| member.get(name).and_then(Value::as_str);
    let number = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    match (text("kty")?, text("crv")) {
        // A leading zero is forbidden (RFC 7518 §2) and written by some all the same; the number is the same one.
        ("RSA", _) => Some(Material::Rsa { n: without_leading_zeros(number("n")?), e: number("e")? }),
        ("EC", Some("P-256")) => Some(Material::P256 { x: number("x")?, y: number("y")? }),
        ("EC", Some("P-384")) => Some(Material::P384 { x: number("x")?, y: number("y")? }),
        ("OKP", Some("Ed25519")) => Some(Material::Ed25519 { x: number("x")? }),
        _ => None,
    }
}

fn without_leading_zeros(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.split_off(zeros)
}
