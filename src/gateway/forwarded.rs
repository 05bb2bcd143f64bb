//! What the upstream is told of the way a request came: `X-Forwarded-*`, `Forwarded` (RFC 7239), `X-Request-Id`.
//!
//! What a trusted peer said is extended; anyone else's word was dropped before this. A trusted peer that speaks only one of the
//! two dialects is answered in that one: starting the other at ourselves would show the peer as the client.

use std::cell::Cell;
use std::fmt::Write;
use std::hash::Hasher;
use std::net::IpAddr;

use hyper::body::Bytes;
use hyper::header::{FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue};
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::gateway::headers::X_REQUEST_ID;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The longest request id that is kept.
const MAX_ID_BYTES: usize = 128;

/// The hop before us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop {
    /// The peer's address.
    pub(super) address: IpAddr,
    /// Whether it came through TLS.
    pub(super) is_tls: bool,
}

/// The client's address: the nearest one in `X-Forwarded-For` that no trusted peer has, when the peer itself is trusted;
/// else the peer's own.
pub(super) fn client(headers: &HeaderMap, peer: IpAddr, trusts: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut nearest = peer.to_canonical();
    if !trusts(nearest) {
        return nearest;
    }
    let fields: Vec<_> = headers.get_all(&X_FORWARDED_FOR).iter().filter_map(|field| field.to_str().ok()).collect();
    for hop in fields.iter().rev().flat_map(|field| field.rsplit(',')) {
        let Ok(address) = hop.trim().trim_matches(['[', ']']).parse::<IpAddr>() else { return nearest };
        nearest = address.to_canonical();
        if !trusts(nearest) {
            return nearest;
        }
    }
    nearest
}

/// Tells of this hop in fields that [`Hygiene`](crate::gateway::headers::Hygiene) has cleaned.
pub(super) fn tell(headers: &mut HeaderMap, hop: Hop) {
    let (has_list, has_standard) = (headers.contains_key(X_FORWARDED_FOR), headers.contains_key(FORWARDED));
    let host = headers.get(HOST).cloned();
    let (element, address) = element(hop, host.as_ref());
    if has_list || !has_standard {
        extend(headers, X_FORWARDED_FOR, address);
    }
    if has_standard || !has_list {
        extend(headers, FORWARDED, element);
    }
    let proto = HeaderValue::from_static(if hop.is_tls { "https" } else { "http" });
    headers.entry(X_FORWARDED_PROTO).or_insert(proto);
    if let Some(host) = host {
        headers.entry(X_FORWARDED_HOST).or_insert(host);
    }
}

/// One element of `Forwarded`, and the address as it stands in it.
fn element(hop: Hop, host: Option<&HeaderValue>) -> (Bytes, Bytes) {
    let mut element = String::with_capacity(96);
    let address = hop.address.to_canonical();
    element.push_str(if address.is_ipv4() { "for=" } else { "for=\"[" });
    let start = element.len();
    push_address(&mut element, address);
    let end = element.len();
    if address.is_ipv6() {
        element.push_str("]\"");
    }
    if let Some(host) = host.and_then(|host| host.to_str().ok()) {
        element.push_str(";host=\"");
        element.push_str(host);
        element.push('"');
    }
    element.push_str(if hop.is_tls { ";proto=https" } else { ";proto=http" });
    let element = Bytes::from(element);
    let address = element.slice(start..end);
    (element, address)
}

/// As `Display` writes it; dotted quads, which most are, without the machinery of that.
fn push_address(text: &mut String, address: IpAddr) {
    let IpAddr::V4(address) = address else {
        // Writing to a string cannot fail.
        let _ = write!(text, "{address}");
        return;
    };
    for (place, octet) in address.octets().into_iter().enumerate() {
        if place > 0 {
            text.push('.');
        }
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let leading = digits.iter().take(2).take_while(|digit| **digit == 0).count();
        digits.into_iter().skip(leading).for_each(|value| text.push(char::from(digit(value))));
    }
}

/// Appends to the one list that all fields of this name make.
fn extend(headers: &mut HeaderMap, name: HeaderName, addition: Bytes) {
    let mut list = Vec::new();
    for value in headers.get_all(&name) {
        // What is not text came from a trusted peer, and is nothing we could quote.
        list.extend_from_slice(value.to_str().unwrap_or("unknown").as_bytes());
        list.extend_from_slice(b", ");
    }
    let value = if list.is_empty() { addition } else { Bytes::from([&list, &addition[..]].concat()) };
    if let Ok(value) = HeaderValue::from_maybe_shared(value) {
        headers.insert(name, value);
    }
}

/// Leaves in the request one id, a trusted peer's or a fresh one, and returns it.
pub(super) fn identify(headers: &mut HeaderMap) -> HeaderValue {
    if let Some(id) = headers.get(X_REQUEST_ID).filter(|id| is_sane(id)).cloned() {
        headers.insert(X_REQUEST_ID, id.clone());
        return id;
    }
    let id = fresh_id();
    headers.insert(X_REQUEST_ID, id.clone());
    id
}

fn is_sane(id: &HeaderValue) -> bool {
    let fits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/' | b'+' | b'=');
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.as_bytes().iter().all(fits)
}

/// 128 bits in hexadecimal that nobody else has: a count, hashed under a key that each thread draws for itself. It only ties
/// lines of logs together, and is worth no draw of randomness for each request.
pub(super) fn fresh_id() -> HeaderValue {
    thread_local! {
        static IDS: Cell<(SipHasher13, u64)> = Cell::new((SipHasher13::new_with_key(&key()), 0));
    }
    let (mut hasher, count) = IDS.get();
    IDS.set((hasher, count.wrapping_add(1)));
    hasher.write_u64(count);
    let bits = hasher.finish128().as_u128();
    let text: [u8; 32] = std::array::from_fn(|at| digit((bits >> (124 - 4 * at)) as u8 & 15));
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("-"))
}

fn digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

fn key() -> [u8; 16] {
    let mut key = [0; 16];
    // Without randomness nothing secret is lost.
    let _ = aws_lc_rs::rand::fill(&mut key);
    key
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_address_looks_as_everywhere(address: IpAddr) {
            let mut text = String::new();
            push_address(&mut text, address);
            prop_assert_eq!(text, address.to_string());
        }
    }

    fn told(fields: &[(&'static str, &'static str)], address: &str, is_tls: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        tell(&mut headers, Hop { address: address.parse().unwrap(), is_tls });
        headers
    }

    #[test]
    fn a_request_from_nowhere_known_starts_both_lists() {
        let headers = told(&[("host", "a.example:8080")], "192.0.2.1", false);
        assert_eq!(headers["x-forwarded-for"], "192.0.2.1");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "a.example:8080");
        assert_eq!(headers["forwarded"], "for=192.0.2.1;host=\"a.example:8080\";proto=http");
        let headers = told(&[("host", "a")], "2001:db8::1", true);
        assert_eq!(headers["forwarded"], "for=\"[2001:db8::1]\";host=\"a\";proto=https");
        assert_eq!(told(&[], "::ffff:192.0.2.1", true)["x-forwarded-for"], "192.0.2.1");
    }

    #[test]
    fn a_trusted_list_is_extended_and_its_dialect_kept() {
        let fields =
            [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "10.0.0.1"), ("x-forwarded-proto", "https")];
        let headers = told(&fields, "10.0.0.2", false);
        assert_eq!(headers.get_all("x-forwarded-for").iter().collect::<Vec<_>>(), ["203.0.113.9, 10.0.0.1, 10.0.0.2"]);
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert!(!headers.contains_key("forwarded"));
        let headers = told(&[("forwarded", "for=203.0.113.9")], "10.0.0.2", false);
        assert_eq!(headers["forwarded"], "for=203.0.113.9, for=10.0.0.2;proto=http");
        assert!(!headers.contains_key("x-forwarded-for"));
    }

    #[test]
    fn a_sane_id_is_kept_and_any_other_replaced() {
        let id = |value: &'static str| {
            identify(&mut HeaderMap::from_iter([(X_REQUEST_ID, HeaderValue::from_static(value))]))
        };
        assert_eq!(id("abc-123"), "abc-123");
        assert_eq!(id("a b").len(), 32);
        assert_eq!(id("").len(), 32);
        assert_ne!(fresh_id(), fresh_id());
    }
}
