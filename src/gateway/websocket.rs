//! The handshake of RFC 6455 §4: the key a client sends, and the answer only a WebSocket server gives.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_KEY};

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The client's key, if there is exactly one and it is 16 bytes in base64.
pub(super) fn key(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let key = keys.next().filter(|_| keys.next().is_none())?;
    let bytes = STANDARD.decode(key.as_bytes()).ok()?;
    (bytes.len() == 16).then(|| key.clone())
}

/// A key of our own.
pub(super) fn fresh_key() -> HeaderValue {
    let mut bytes = [0; 16];
    // The key proves that the upstream understood, not that we are we: a constant one would do.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    HeaderValue::from_str(&STANDARD.encode(bytes)).unwrap_or(HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAA=="))
}

/// What a server answers to `key`.
pub(super) fn accept(key: &HeaderValue) -> HeaderValue {
    use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
    let mut sha1 = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    sha1.update(key.as_bytes());
    sha1.update(GUID);
    HeaderValue::from_str(&STANDARD.encode(sha1.finish())).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rfcs_own_example_holds() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_is_sixteen_bytes_and_said_once() {
        let said = |keys: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for key in keys {
                headers.append(SEC_WEBSOCKET_KEY, HeaderValue::from_static(key));
            }
            key(&headers).is_some()
        };
        assert!(said(&["dGhlIHNhbXBsZSBub25jZQ=="]));
        assert!(!said(&[]) && !said(&["x"]) && !said(&["AAAA"]));
        assert!(!said(&["dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=="]));
        assert!(key(&HeaderMap::from_iter([(SEC_WEBSOCKET_KEY, fresh_key())])).is_some());
    }
}
