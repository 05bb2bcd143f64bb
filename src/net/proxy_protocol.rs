//! The `PROXY` protocol, versions 1 and 2: a trusted load balancer says whose connection it passes on.
//!
//! Read only from peers that are trusted to speak it, and then it must be there: guessing would let a client that gets
//! through choose its own address. The parser is strict and bounded, and copies nothing. TLVs and the checksum in
//! them are passed over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The longest header that is read: version 1 needs 107 bytes, version 2 has room for TLVs.
pub const MOST_BYTES: usize = 16 + 4096;

const V1_MOST_BYTES: usize = 107;
const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What the bytes at hand are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parsed {
    /// The beginning of a header.
    Partial,
    /// A whole header of so many bytes. `None` when the balancer speaks for itself or does not say for whom.
    Whole(Option<SocketAddr>, usize),
}

/// The bytes are no `PROXY` header.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("malformed PROXY header: {0}")]
pub struct Malformed(&'static str);

/// Reads a header at the beginning of `bytes`.
///
/// # Errors
///
/// [`Malformed`], as soon as no further byte could mend it.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    if starts(bytes, V2_START) {
        v2(bytes)
    } else if starts(bytes, V1_START) {
        v1(bytes)
    } else {
        Err(Malformed("no signature"))
    }
}

/// Whether `bytes` begins with `start`, as far as it goes.
fn starts(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(a, b)| a == b)
}

fn v1(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let within = bytes.get(..V1_MOST_BYTES).unwrap_or(bytes);
    let Some(end) = within.iter().position(|b| *b == b'\n') else {
        return if within.len() == V1_MOST_BYTES { Err(Malformed("line too long")) } else { Ok(Parsed::Partial) };
    };
    let line = within.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(Malformed("bare LF"))?;
    let line = std::str::from_utf8(line).map_err(|_| Malformed("not ASCII"))?;
    Ok(Parsed::Whole(v1_line(line)?, end + 1))
}

fn v1_line(line: &str) -> Result<Option<SocketAddr>, Malformed> {
    let mut words = line.split(' ').skip(1);
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        return Ok(None);
    }
    let (Some(source), Some(target), Some(source_port), Some(target_port), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Malformed("wrong number of words"));
    };
    let source = match family {
        "TCP4" => IpAddr::V4(address::<Ipv4Addr>(source, target)?),
        "TCP6" => IpAddr::V6(address::<Ipv6Addr>(source, target)?),
        _ => return Err(Malformed("unknown family")),
    };
    port(target_port)?;
    Ok(Some(SocketAddr::new(source, port(source_port)?)))
}

/// The source, when the target is an address of the same family.
fn address<A: FromStr>(source: &str, target: &str) -> Result<A, Malformed> {
    target.parse::<A>().and_then(|_| source.parse()).map_err(|_| Malformed("not an address"))
}

fn port(text: &str) -> Result<u16, Malformed> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(Malformed("not a port"))
}

fn v2(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let Some((_, rest)) = bytes.split_at_checked(V2_START.len()) else { return Ok(Parsed::Partial) };
    let [version_command, family, high, low, body @ ..] = rest else { return Ok(Parsed::Partial) };
    if version_command >> 4 != 2 {
        return Err(Malformed("unknown version"));
    }
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let whole = V2_START.len() + 4 + length;
    if whole > MOST_BYTES {
        return Err(Malformed("too long"));
    }
    let source = match version_command & 0x0f {
        0 => Command::Local,
        1 => Command::Proxy,
        _ => return Err(Malformed("unknown command")),
    };
    let Some(body) = body.get(..length) else { return Ok(Parsed::Partial) };
    let source = match source {
        Command::Local => None,
        Command::Proxy => v2_source(*family, body)?,
    };
    Ok(Parsed::Whole(source, whole))
}

enum Command {
    Local,
    Proxy,
}

fn v2_source(family: u8, body: &[u8]) -> Result<Option<SocketAddr>, Malformed> {
    match family {
        // Unspecified, or the balancer's own socket file: nobody we could name.
        0x00 | 0x31 => Ok(None),
        0x11 => Ok(Some(v2_address::<4>(body)?)),
        0x21 => Ok(Some(v2_address::<16>(body)?)),
        _ => Err(Malformed("unknown family")),
    }
}

/// Source and target address of `N` bytes each, then their ports, then TLVs.
fn v2_address<const N: usize>(body: &[u8]) -> Result<SocketAddr, Malformed>
where
    IpAddr: From<[u8; N]>,
{
    let short = Malformed("too short");
    let (source, rest) = body.split_first_chunk::<N>().ok_or(short)?;
    let (_target, rest) = rest.split_first_chunk::<N>().ok_or(short)?;
    let [high, low, _, _, ..] = rest else { return Err(short) };
    Ok(SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes([*high, *low])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v2_header(source: SocketAddr, tlvs: &[u8]) -> Vec<u8> {
        let (family, addresses) = match source.ip() {
            IpAddr::V4(ip) => (0x11, [ip.octets().to_vec(), vec![127, 0, 0, 1]].concat()),
            IpAddr::V6(ip) => (0x21, [ip.octets().to_vec(), vec![0; 16]].concat()),
        };
        let body = [addresses, source.port().to_be_bytes().to_vec(), vec![0, 80], tlvs.to_vec()].concat();
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2_START, &[0x21, family], &length, &body].concat()
    }

    fn v1_header(source: SocketAddr) -> Vec<u8> {
        let (family, target) = if source.is_ipv4() { ("TCP4", "127.0.0.1") } else { ("TCP6", "::1") };
        format!("PROXY {family} {} {target} {} 443\r\n", source.ip(), source.port()).into_bytes()
    }

    #[test]
    fn malformed_headers_are_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
        let bad: [&[u8]; 15] = [
            b"GET / HTTP/1.1\r\n",
            b"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n",
            b"PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
            b"PROXY TCP4 1.1.1.01 2.2.2.2 1 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
            long.as_bytes(),
        ];
        for bytes in bad {
            assert!(parse(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_balancer_may_speak_for_itself() {
        assert_eq!(parse(b"PROXY UNKNOWN\r\nGET"), Ok(Parsed::Whole(None, 15)));
        let local = [V2_START, &[0x20, 0, 0, 0]].concat();
        assert_eq!(parse(&local), Ok(Parsed::Whole(None, 16)));
    }

    proptest! {
        #[test]
        fn the_named_source_is_read_and_nothing_of_what_follows(
            source in any::<SocketAddr>(),
            tlvs in proptest::collection::vec(any::<u8>(), 0..64),
            after in proptest::collection::vec(any::<u8>(), 0..64),
            second in any::<bool>(),
        ) {
            let source = SocketAddr::new(source.ip(), source.port());
            let header = if second { v2_header(source, &tlvs) } else { v1_header(source) };
            let whole = Parsed::Whole(Some(source), header.len());
            prop_assert_eq!(parse(&[header.clone(), after].concat()), Ok(whole));
            for cut in 0..header.len() {
                prop_assert_eq!(parse(&header[..cut]), Ok(Parsed::Partial));
            }
        }

        #[test]
        fn noise_is_never_read_past_its_end(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0..3) {
            let start: &[u8] = [b"".as_slice(), V1_START, V2_START][version as usize];
            let bytes = [start, &bytes].concat();
            if let Ok(Parsed::Whole(_, length)) = parse(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
