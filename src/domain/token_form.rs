//! How the tokens of an issuer that are no JWTs are written. A revocation knows a token by its text, so a text that the upstream
//! takes for another token's must not pass for a token that nobody knows.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

/// The length of Elasticsearch's secrets that are texts, in characters; later ones are bytes and longer.
const TEXT_SECRET: usize = 22;

/// How the tokens of an issuer that are no JWTs are written.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum TokenForm {
    /// The upstream compares texts, or verifies a JWT.
    #[default]
    Any,
    /// The upstream decodes hexadecimal digits, in either case; other texts it compares.
    Hexadecimal,
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
            Self::Any | Self::Hexadecimal => true,
            Self::Base64 => is_jwt || decoded(text).is_some(),
            Self::Elasticsearch => is_jwt || decoded(text).is_some_and(|bytes| is_plain(&bytes)),
        }
    }

    /// The text that a token is known by: its own, or what all texts of one token have in common.
    #[must_use]
    pub fn identity(self, text: &str) -> Cow<'_, str> {
        let own = Cow::Borrowed(text);
        match self {
            Self::Any => own,
            Self::Hexadecimal if text.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
                text.to_ascii_lowercase().into()
            }
            Self::Hexadecimal => own,
            Self::Base64 => decoded(text).map_or(own, |bytes| URL_SAFE_NO_PAD.encode(bytes).into()),
            Self::Elasticsearch => {
                let bytes = decoded(text).unwrap_or_default();
                secret_of(&bytes).map_or(own, |secret| URL_SAFE_NO_PAD.encode(secret).into())
            }
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
    rest.get(..usize::try_from(length).ok()?).filter(|secret| secret.len() >= 16)
}

/// As its reader does: a number of 32 bits, over whose end the upper bits of a fifth byte run.
fn variable(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let end = bytes.iter().take(5).position(|byte| byte & 0x80 == 0)?;
    let (number, rest) = bytes.split_at_checked(end + 1)?;
    let value = number.iter().rev().fold(0_u32, |value, byte| (value << 7) | u32::from(byte & 0x7f));
    Some((value, rest))
}

/// Whether a secret is written in the one way it has. Where it is a text, its characters are counted and not its bytes, so
/// that one written in more bytes than it needs would be read as the same.
fn is_plain(bytes: &[u8]) -> bool {
    secret_of(bytes).is_none_or(|secret| secret.len() != TEXT_SECRET || secret.is_ascii())
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

    #[test]
    fn a_length_in_more_bytes_than_it_needs_is_the_same_length() {
        let form = TokenForm::Elasticsearch;
        let secret = [7; 24];
        let written = |length: &[u8]| STANDARD.encode([&[0x83, 0xb1, 0x02], length, &secret[..]].concat());
        let known = form.identity(&written(&[24])).into_owned();
        for length in [&[0x98, 0][..], &[0x98, 0x80, 0x80, 0x80, 0x10], &[0x98, 0x80, 0x80, 0x80, 0x70]] {
            assert_eq!(form.identity(&written(length)), known, "{length:x?}");
        }
    }

    #[test]
    fn a_secret_that_is_a_text_has_one_byte_a_character() {
        let written = |secret: &[u8]| STANDARD.encode([&[3, 22][..], secret].concat());
        assert!(TokenForm::Elasticsearch.admits(&written(b"abcdefghijklmnopqrstuv")));
        assert!(!TokenForm::Elasticsearch.admits(&written(b"\xc1\xa1bcdefghijklmnopqrstuv")), "an overlong a");
    }

    #[test]
    fn hexadecimal_digits_are_one_token_in_either_case() {
        let form = TokenForm::Hexadecimal;
        assert_eq!(form.identity("00FFaB"), "00ffab");
        for text in ["00FFaG", "Ab-1", "e30.e30.AA", ""] {
            assert_eq!(form.identity(text), text, "compared as it is");
        }
        assert!(form.admits("00FF") && form.admits("a-secret") && form.admits("e30.e30.AA"));
        assert!(!form.admits("e30.e30.AB"));
    }

    proptest! {
        #[test]
        fn every_spelling_of_a_hexadecimal_token_is_that_token(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            upper in prop::collection::vec(any::<bool>(), 80),
            other in "[0-9a-fA-F]{0,80}",
        ) {
            let known: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let spell = |(digit, upper): (char, &bool)| if *upper { digit.to_ascii_uppercase() } else { digit };
            let spelled: String = known.chars().zip(&upper).map(spell).collect();
            prop_assert_eq!(&*TokenForm::Hexadecimal.identity(&spelled), known.as_str());
            let same = other.eq_ignore_ascii_case(&known);
            prop_assert_eq!(TokenForm::Hexadecimal.identity(&other) == known.as_str(), same);
        }

        #[test]
        fn any_text_has_an_identity(text in "[A-Za-z0-9+/=_.-]{0,64}") {
            for form in [TokenForm::Any, TokenForm::Hexadecimal, TokenForm::Base64, TokenForm::Elasticsearch] {
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
