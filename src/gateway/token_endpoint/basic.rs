//! The client that a request says it is by HTTP Basic (RFC 6749 §2.3.1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap};

/// The longest `client_id` that a selector can name, in bytes.
const MAX_BYTES: usize = 1_024;

/// The `client_id`; `None` for any other scheme, and for what is no text.
pub(super) fn client(headers: &HeaderMap) -> Option<Box<str>> {
    let (scheme, credentials) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (client, _) = decoded.split_once(':')?;
    let client = unescaped(client)?;
    let fits = (1..=MAX_BYTES).contains(&client.len()) && !client.contains('\0');
    fits.then(|| client.into())
}

/// `application/x-www-form-urlencoded`, as the RFC wants it encoded before Basic.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn told(authorization: &str) -> Option<String> {
        let value = HeaderValue::from_str(authorization).unwrap();
        client(&HeaderMap::from_iter([(AUTHORIZATION, value)])).map(Into::into)
    }

    #[test]
    fn the_client_is_what_stands_before_the_colon() {
        let basic = |text: &str| told(&format!("bAsic {}", STANDARD.encode(text)));
        assert_eq!(basic("web:secret").as_deref(), Some("web"));
        assert_eq!(basic("a%3Ab+c:s:t").as_deref(), Some("a:b c"));
        for none in ["web", ":secret", "%zz:s", "%:s"] {
            assert_eq!(basic(none), None, "{none}");
        }
        assert_eq!(told("Bearer d2ViOnM="), None);
        assert_eq!(told("Basic !"), None);
    }
}
