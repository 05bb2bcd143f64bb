//! An answer kept for whoever asks again with the same refresh token, and for nobody else.
//!
//! A token endpoint's answer holds tokens, which no store may hold. So it is encrypted (AES-256-GCM) under a key derived
//! from the refresh token that brought it (HKDF-SHA-256, RFC 5869): the store has the token's digest and the sealed answer,
//! and neither opens the other. Whoever holds the token could have had the answer anyway.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};

use crate::domain::BearerToken;

/// Which way it was sealed, for later versions.
const VERSION: u8 = 1;
/// Keeps these keys apart from any other use of a token.
const SALT: &[u8] = b"portcullis sealed answer";

/// Seals `answer`; `None` when the machine gives no randomness.
#[must_use]
pub(super) fn seal(token: &BearerToken, answer: &[u8]) -> Option<Box<[u8]>> {
    let mut sealed = answer.to_vec();
    let nonce = key(token)?.seal_in_place_append_tag(Aad::from([VERSION]), &mut sealed).ok()?;
    let mut whole = Vec::with_capacity(1 + NONCE_LEN + sealed.len());
    whole.push(VERSION);
    whole.extend_from_slice(nonce.as_ref());
    whole.append(&mut sealed);
    Some(whole.into())
}

/// Opens what was sealed with the same token; `None` for any other, and for what was tampered with.
#[must_use]
pub(super) fn open(token: &BearerToken, sealed: &[u8]) -> Option<Vec<u8>> {
    let (version, rest) = sealed.split_first().filter(|(version, _)| **version == VERSION)?;
    let (nonce, text) = rest.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = text.to_vec();
    let length = key(token)?.open_in_place(nonce, Aad::from([*version]), &mut text).ok()?.len();
    text.truncate(length);
    Some(text)
}

fn key(token: &BearerToken) -> Option<RandomizedNonceKey> {
    let mut bytes = [0; 32];
    let secret = Salt::new(HKDF_SHA256, SALT).extract(token.expose().as_bytes());
    secret.expand(&[b"aes-256-gcm"], HKDF_SHA256).ok()?.fill(&mut bytes).ok()?;
    RandomizedNonceKey::new(&AES_256_GCM, &bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> BearerToken {
        BearerToken::parse(text).unwrap()
    }

    #[test]
    fn only_the_same_token_opens_it() {
        let sealed = seal(&token("refresh-1"), b"{\"access_token\":\"secret\"}").unwrap();
        assert_eq!(open(&token("refresh-1"), &sealed).unwrap(), b"{\"access_token\":\"secret\"}");
        assert!(open(&token("refresh-2"), &sealed).is_none());
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
    }

    #[test]
    fn what_was_changed_or_cut_short_does_not_open() {
        let sealed = seal(&token("t"), b"answer").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open(&token("t"), &changed).is_none(), "byte {at}");
            assert!(open(&token("t"), &sealed[..at]).is_none(), "cut at {at}");
        }
    }
}
