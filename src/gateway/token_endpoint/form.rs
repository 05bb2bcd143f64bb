//! `application/x-www-form-urlencoded`, read so that one body has one meaning. What two decoders could split or decode
//! differently is refused: `;`, broken escapes, bytes that are no UTF-8, controls, names that come twice.

use std::collections::HashSet;

use crate::gateway::token_endpoint::request::RequestFault;

/// The most fields a form may have: servers drop those beyond a bound of their own.
const MAX_FIELDS: usize = 256;
/// The fields that may come more than once (RFC 8707 §2, RFC 8693 §2.1).
const REPEATABLE: [&str; 2] = ["resource", "audience"];

const FORM: RequestFault = RequestFault::Malformed("the form cannot be read for certain");
const TWICE: RequestFault = RequestFault::Malformed("the form has a field twice");

/// The fields of a form, in their order.
pub(super) fn fields(body: &[u8]) -> Result<Vec<(String, String)>, RequestFault> {
    let text = std::str::from_utf8(body).map_err(|_| FORM)?;
    // What looks like JSON is JSON to a server that looks at the body rather than at its type.
    let json = text.trim_start().starts_with(['{', '[']);
    if json || text.contains(|c: char| c == ';' || c.is_control()) {
        return Err(FORM);
    }
    let pieces = text.split('&').filter(|piece| !piece.is_empty());
    let fields = pieces.map(|piece| field(piece).ok_or(FORM)).collect::<Result<Vec<_>, _>>()?;
    let mut seen = HashSet::new();
    let repeated = |name: &str| !REPEATABLE.contains(&name) && !seen.insert(name.to_owned());
    if fields.len() > MAX_FIELDS {
        return Err(FORM);
    }
    if fields.iter().map(|(name, _)| name.as_str()).any(repeated) { Err(TWICE) } else { Ok(fields) }
}

fn field(piece: &str) -> Option<(String, String)> {
    let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
    Some((decode(name)?, decode(value)?))
}

/// A name or a value; `None` for a broken escape, bytes that are no UTF-8, and NUL.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => {
                let (digits, after) = after.split_first_chunk::<2>()?;
                let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
                decoded.push(u8::try_from(high? * 16 + low?).ok().filter(|byte| *byte != 0)?);
                rest = after;
            }
            byte => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(body: &str) -> Result<Vec<(String, String)>, RequestFault> {
        fields(body.as_bytes())
    }

    #[test]
    fn a_form_is_its_fields() {
        let read = pairs("a=b+c&&d%5f=%c3%a9&e&f=g=h&=&resource=1&resource=2&").unwrap();
        let read: Vec<_> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected =
            [("a", "b c"), ("d_", "é"), ("e", ""), ("f", "g=h"), ("", ""), ("resource", "1"), ("resource", "2")];
        assert_eq!(read, expected);
        assert_eq!(pairs(""), Ok(Vec::new()));
    }

    #[test]
    fn what_two_decoders_could_read_differently_is_refused() {
        for body in [
            "a=1;b=2",
            "a=%",
            "a=%4",
            "a=%zz",
            "%u0061=1",
            "a=%00",
            "a=%ff",
            "a=%c0%af",
            "a=1\r\n",
            "a=\t",
            "a=\u{7f}",
            "{\"a\":1}",
            " {}",
            "[a]=1",
            "a=%+1",
            "a=\u{85}",
        ] {
            assert_eq!(pairs(body), Err(FORM), "{body}");
        }
        assert_eq!(fields(b"a=\xff"), Err(FORM));
        assert_eq!(fields(b"a\0=1"), Err(FORM));
        assert_eq!(pairs(&"a&".repeat(2)), Err(TWICE));
        assert_eq!(pairs("a=1&%61=2"), Err(TWICE));
        let many: String = (0..=MAX_FIELDS).map(|n| format!("{n}=&")).collect();
        assert_eq!(pairs(&many), Err(FORM));
    }

    fn encoded(text: &str) -> String {
        text.bytes()
            .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
            .collect()
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_read(values in prop::collection::vec("[^\0]{0,20}", 0..8)) {
            let body: Vec<String> = values.iter().enumerate().map(|(n, value)| format!("n{n}={}", encoded(value))).collect();
            let read = pairs(&body.join("&")).unwrap();
            prop_assert_eq!(read.into_iter().map(|(_, value)| value).collect::<Vec<_>>(), values);
        }

        #[test]
        fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(fields) = fields(&body) {
                prop_assert!(fields.iter().all(|(name, value)| !name.contains('\0') && !value.contains('\0')));
            }
        }
    }
}
