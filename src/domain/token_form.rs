//! How the refresh tokens of an endpoint are written. A revocation knows a token by its text, so a text that the upstream
//! takes for another token's must not pass for a token that nobody knows.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

/// How the refresh tokens of an endpoint are written.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum TokenForm {
    /// The upstream compares texts, or verifies a JWT.
    #[default]
    Any,
    /// The upstream decodes base64 or base64url, so that only canonical texts pass.
    Base64,
    /// Elasticsearch decodes base64, skips a version in front and does not look behind the secret.
    Elasticsearch,
}

impl TokenForm {
    /// Whether a refresh token may be written so. What has three parts must be written as a JWT is (RFC 7515 §7.1): a
    /// server that decodes a signature leniently takes many texts for one token.
    #[must_use]
    pub fn admits(self, text: &str) -> bool {
        let mut parts = text.split('.');
        let is_jwt = text.split('.').count() == 3;
        if is_jwt && !parts.all(|part| URL_SAFE_NO_PAD.decode(part).is_ok_and(|bytes| !bytes.is_empty())) {
            return false;
        }
        match self {
            Self::Any => true,
            Self::Base64 | Self::Elasticsearch => is_jwt || decoded(text).is_some(),
        }
    }

    /// The text that a token is known by: its own, or what all texts of one token have in common.
    #[must_use]
    pub fn identity(self, text: &str) -> Cow<'_, str> {
        let Some(bytes) = (self != Self::Any).then(|| decoded(text)).flatten() else { return Cow::Borrowed(text) };
        match self {
            Self::Elasticsearch => {
                secret_of(&bytes).map_or(text.into(), |secret| URL_SAFE_NO_PAD.encode(secret).into())
            }
            _ => URL_SAFE_NO_PAD.encode(&bytes).into(),
        }
    }
}

/// The bytes of a canonical text in any of the alphabets, with all of its padding or none. The engines refuse spare bits.
fn decoded(text: &str) -> Option<Vec<u8>> {
    [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].iter().find_map(|engine| engine.decode(text).ok())
}

/// The bytes behind a version and a length, both of variable length (seven bits a byte, the lowest first).
fn secret_of(bytes: &[u8]) -> Option<&[u8]> {
    let (_, rest) = variable(bytes)?;
    let (length, rest) = variable(rest)?;
    // Shorter ones are not Elasticsearch's, and could be anything.
    rest.get(..length).filter(|secret| secret.len() >= 16)
}

fn variable(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let end = bytes.iter().take(5).position(|byte| byte & 0x80 == 0)?;
    let (number, rest) = bytes.split_at_checked(end + 1)?;
    let value = number.iter().rev().fold(0_usize, |value, byte| (value << 7) | usize::from(byte & 0x7f));
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn three_parts_must_be_canonical() {
        assert!(TokenForm::Any.admits("e30.e30.AA") && TokenForm::Any.admits("opaque") && TokenForm::Any.admits("a.b"));
        for text in ["e30.e30.AB", "e30.e30.AA==", "e30.e30.A!!A", "e30.e30.", "..", "e30.e3.AA", "e30.e30.A+"] {
            assert!(!TokenForm::Any.admits(text), "{text}");
        }
    }

    #[test]
    fn an_upstream_that_decodes_sees_one_text_per_token() {
        for text in ["AAEC", "AA==", "AA", "-_-_", "+/+/"] {
            assert!(TokenForm::Base64.admits(text), "{text}");
        }
        assert_eq!(TokenForm::Base64.identity("-_8="), TokenForm::Base64.identity("+/8"));
        for text in ["AB==", "AB", "AA=", "A", "-/-/", "AA==AA==", "AA==x", "A A="] {
            assert!(!TokenForm::Base64.admits(text), "{text}");
        }
    }

    #[test]
    fn elasticsearchs_secret_is_the_token_whatever_stands_around_it() {
        let form = TokenForm::Elasticsearch;
        let token = |version: &[u8], secret: &[u8], tail: &[u8]| {
            let length = u8::try_from(secret.len()).unwrap();
            STANDARD.encode([version, &[length], secret, tail].concat())
        };
        let secret = [7; 24];
        let known = form.identity(&token(&[0x83, 0xb1, 0x02], &secret, b"")).into_owned();
        assert_eq!(form.identity(&token(&[0x84, 0xb1, 0x02], &secret, b"")), known);
        assert_eq!(form.identity(&token(&[0x03], &secret, b"junk")), known);
        assert_ne!(form.identity(&token(&[0x03], &[8; 24], b"")), known);
        assert_eq!(form.identity("movUJjPGRRC0PQ7-NW0eag"), "movUJjPGRRC0PQ7-NW0eag", "of before 7.2");
    }

    proptest! {
        #[test]
        fn any_text_has_an_identity(text in "[A-Za-z0-9+/=_.-]{0,64}") {
            for form in [TokenForm::Any, TokenForm::Base64, TokenForm::Elasticsearch] {
                let _ = form.admits(&text);
                let _ = form.identity(&text);
            }
            prop_assert_eq!(&*TokenForm::Any.identity(&text), text.as_str());
        }

        #[test]
        fn only_one_text_of_the_same_bytes_is_admitted_per_alphabet(bytes in any::<Vec<u8>>()) {
            for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
                prop_assert_eq!(decoded(&engine.encode(&bytes)), Some(bytes.clone()));
            }
        }
    }
}
