//! The form of a JWT: compact serialisation (RFC 7515 §7.1), read so that one text has one meaning.
//!
//! A pure function of the text. It knows no key and believes nothing; it refuses what another reader might read in another
//! way: base64url that is not canonical, members named twice, more or fewer than three parts, a header that asks for
//! anything to be understood (`crit`, `b64`, `zip`, a nested or an encrypted token). Keys that a header offers (`jwk`,
//! `jku`, `x5u`, `x5c`) are not looked at.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::domain::json::{self, Object};
use crate::domain::{BearerToken, TokenDigest};

/// The longest `kid`, in bytes.
const MAX_KEY_ID_BYTES: usize = 256;
/// Header members that change what the rest means (RFC 7515 §4.1.11, RFC 7797 §3, RFC 7516 §4.1).
const UNSUPPORTED: [&str; 4] = ["crit", "b64", "zip", "enc"];

/// The parts of a JWT, decoded and not verified.
#[derive(Debug)]
pub(super) struct Jws<'t> {
    /// Header and payload as they were signed: the text up to the second dot.
    pub(super) signed: &'t str,
    /// The header.
    pub(super) header: Header,
    /// The payload.
    pub(super) claims: Object,
    /// The signature's bytes.
    pub(super) signature: Vec<u8>,
    /// Whether any part ended in `=`, which RFC 7515 §2 forbids and some load balancers write.
    pub(super) padded: bool,
}

/// What a JOSE header says that we look at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Header {
    /// `alg`, not yet believed.
    pub(super) algorithm: Box<str>,
    /// `kid`: an opaque name to look a key up by, and nothing else.
    pub(super) key_id: Option<Box<str>>,
    /// `typ`.
    pub(super) media_type: Option<Box<str>>,
}

impl<'t> Jws<'t> {
    /// Takes a token apart; `None` when it is no JWT in the strict sense above.
    pub(super) fn parse(text: &'t str) -> Option<Self> {
        if text.len() > BearerToken::MAX_BYTES {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        if payload.contains('.') || signature.is_empty() {
            return None;
        }
        let padded = [header, payload, signature].iter().any(|part| part.ends_with('='));
        Some(Self {
            signed,
            header: Header::parse(&decode(header)?)?,
            claims: json::object(&decode(payload)?)?,
            signature: decode(signature)?,
            padded,
        })
    }

    /// `iss`, when it is a text.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// The token's own identity where it has no `jti`: SHA-256 of what was signed. The signature is left out, since it can
    /// be written in several ways, and so is padding: with it and without it, it is the same token.
    pub(super) fn digest(&self) -> TokenDigest {
        if self.padded { sha256(&self.signed.replace('=', "")) } else { sha256(self.signed) }
    }
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let members = json::object(bytes)?;
        let nested = members.get("cty").is_some_and(|cty| cty.as_str().is_none_or(is_jwt));
        if nested || UNSUPPORTED.iter().any(|name| members.contains_key(*name)) {
            return None;
        }
        let key_id = optional_text(&members, "kid")?;
        if key_id.as_ref().is_some_and(|kid| kid.len() > MAX_KEY_ID_BYTES) {
            return None;
        }
        let algorithm = members.get("alg")?.as_str()?.into();
        Some(Self { algorithm, key_id, media_type: optional_text(&members, "typ")? })
    }
}

/// `JWT` as a content type says that the payload is a token itself (RFC 7519 §5.2).
fn is_jwt(content_type: &str) -> bool {
    content_type.eq_ignore_ascii_case("jwt") || content_type.eq_ignore_ascii_case("application/jwt")
}

/// A member that may be missing, but must be a text when it is there.
fn optional_text(members: &Object, name: &str) -> Option<Option<Box<str>>> {
    members.get(name).map_or(Some(None), |value| value.as_str().map(|text| Some(text.into())))
}

/// Decodes one part. Spare bits of the last character must be zero, else fifteen texts would name one signature (RFC 4648
/// §3.5).
fn decode(part: &str) -> Option<Vec<u8>> {
    let engine = if part.ends_with('=') { &URL_SAFE } else { &URL_SAFE_NO_PAD };
    engine.decode(part).ok()
}

/// SHA-256 of a text.
pub(super) fn sha256(text: &str) -> TokenDigest {
    let digest = digest(&SHA256, text.as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    TokenDigest::new(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(header: &str, payload: &str) -> String {
        format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload), "c2ln")
    }

    #[test]
    fn a_plain_token_is_taken_apart() {
        let text = token(r#"{"alg":"ES256","kid":"k","typ":"at+jwt","jwk":{"kty":"oct"}}"#, r#"{"iss":"i"}"#);
        let jws = Jws::parse(&text).unwrap();
        assert_eq!(&*jws.header.algorithm, "ES256");
        assert_eq!(jws.header.key_id.as_deref(), Some("k"));
        assert_eq!(jws.header.media_type.as_deref(), Some("at+jwt"));
        assert_eq!(jws.issuer(), Some("i"));
        assert_eq!(jws.signature, b"sig");
        assert!(!jws.padded);
    }

    #[test]
    fn the_digest_does_not_see_the_signature() {
        let text = token(r#"{"alg":"ES256"}"#, "{}");
        let twin = format!("{}.{}", text.rsplit_once('.').unwrap().0, "dHdpbg");
        assert_eq!(Jws::parse(&text).unwrap().digest(), Jws::parse(&twin).unwrap().digest());
    }

    #[test]
    fn the_digest_does_not_see_padding() {
        let text = r#"{"alg":"Ed25519"}"#;
        let plain = format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(text), URL_SAFE_NO_PAD.encode(r#"{"a":12}"#));
        let spellings = [
            format!("{}.{}.c2ln", URL_SAFE.encode(text), URL_SAFE.encode(r#"{"a":12}"#)),
            format!("{}.{}.AA==", URL_SAFE_NO_PAD.encode(text), URL_SAFE.encode(r#"{"a":12}"#)),
            format!("{}.{}.AA==", URL_SAFE.encode(text), URL_SAFE_NO_PAD.encode(r#"{"a":12}"#)),
        ];
        for spelling in spellings {
            let jws = Jws::parse(&spelling).unwrap();
            assert!(jws.padded && spelling.contains('='), "{spelling}");
            assert_eq!(jws.digest(), Jws::parse(&plain).unwrap().digest(), "{spelling}");
        }
    }

    #[test]
    fn headers_that_ask_for_more_are_refused() {
        let headers = [
            r#"{"alg":"ES256","crit":[]}"#,
            r#"{"alg":"ES256","crit":["exp"],"exp":1}"#,
            r#"{"alg":"ES256","b64":false}"#,
            r#"{"alg":"ES256","b64":true}"#,
            r#"{"alg":"ES256","zip":"DEF"}"#,
            r#"{"alg":"dir","enc":"A128GCM"}"#,
            r#"{"alg":"ES256","cty":"JWT"}"#,
            r#"{"alg":"ES256","alg":"ES256"}"#,
            r#"{"alg":"ES256","kid":1}"#,
            r#"{"alg":"ES256","kid":null}"#,
            r#"{"alg":"ES256","typ":[]}"#,
            r#"{"alg":1}"#,
            r#"{"alg":null}"#,
            r#"{}"#,
            r#"[]"#,
        ];
        for header in headers {
            assert!(Jws::parse(&token(header, "{}")).is_none(), "{header}");
        }
        let long = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(MAX_KEY_ID_BYTES + 1));
        assert!(Jws::parse(&token(&long, "{}")).is_none());
    }

    #[test]
    fn anything_but_three_canonical_parts_is_refused() {
        let good = token(r#"{"alg":"ES256"}"#, r#"{"a":1}"#);
        assert!(Jws::parse(&good).is_some());
        let (signed, _) = good.rsplit_once('.').unwrap();
        let spellings = [
            signed.to_owned(),
            format!("{signed}."),
            format!("{signed}.c2ln.c2ln"),
            format!("{signed}..c2ln"),
            format!(".{good}"),
            format!("{good}."),
            format!("{good} "),
            format!("{good}\n"),
            format!("{signed}.c2lnA"),
            format!("{signed}.c2k+"),
            format!("{signed}.c2k/"),
            format!("{signed}.c2lu="),
            format!("{signed}.c2l=="),
            format!("{signed}.c2ln===="),
            format!("{signed}.c2 ln"),
            good.replace('.', ".."),
        ];
        for spelling in spellings {
            assert!(Jws::parse(&spelling).is_none(), "{spelling}");
        }
    }

    #[test]
    fn spare_bits_of_the_last_character_must_be_zero() {
        let signed = format!("{}.e30", URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256"}"#));
        assert!(Jws::parse(&format!("{signed}.AA")).is_some());
        for twin in ["AB", "AP", "A_", "AAB", "AAD"] {
            assert!(Jws::parse(&format!("{signed}.{twin}")).is_none(), "{twin}");
        }
    }

    #[test]
    fn padding_is_noted() {
        let text = token(r#"{"alg":"ES256"}"#, r#"{"a":1}"#);
        let (signed, _) = text.rsplit_once('.').unwrap();
        assert!(Jws::parse(&format!("{signed}.AA==")).unwrap().padded);
        assert!(Jws::parse(&format!("{signed}.AA=")).is_none());
        assert!(Jws::parse(&format!("{signed}.AB==")).is_none());
    }

    #[test]
    fn a_token_beyond_the_bound_is_not_parsed() {
        let text = token(r#"{"alg":"ES256"}"#, &format!(r#"{{"a":"{}"}}"#, "x".repeat(BearerToken::MAX_BYTES)));
        assert!(Jws::parse(&text).is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = Jws::parse(&text);
        }

        #[test]
        fn any_parts_are_read_or_refused(header in any::<Vec<u8>>(), payload in any::<Vec<u8>>()) {
            let text = format!("{}.{}.AA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
            let _ = Jws::parse(&text);
        }
    }
}
