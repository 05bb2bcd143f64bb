//! How a macaroon is written (libmacaroons' format 1, in Onezone's alphabet), read so that one token and its caveats have
//! one text: letters and digits that stand for base64url without padding, which stands for packets of four hexadecimal
//! digits of length, a name, a blank, a value and a line's end.
//!
//! Pure, total and bounded by the length of the text. What only a lenient reader would take for a macaroon is told apart
//! from what nobody would, so that it can be refused rather than handed to whoever takes any text.

use base64::Engine;
use base64::alphabet::URL_SAFE as ALPHABET;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig as Config, URL_SAFE_NO_PAD};

/// Which service of a provider speaks; stands before the token and is no part of it.
const SPOKEN_BY: [&str; 2] = ["opw-", "opp-"];
/// The length of a packet's length, in digits.
const LENGTH_DIGITS: usize = 4;

/// Reads what nobody should write.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    Config::new().with_decode_allow_trailing_bits(true).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What the packets say.
#[derive(Debug)]
pub(super) struct Packets {
    pub(super) location: Box<str>,
    pub(super) identifier: Box<str>,
    pub(super) caveats: Vec<Box<[u8]>>,
    pub(super) signature: [u8; 32],
}

/// Reads a text; `None` when it is not written exactly as it must be, and for caveats of third parties, which nobody here
/// could discharge.
pub(super) fn read(text: &str) -> Option<Packets> {
    let token = SPOKEN_BY.iter().find_map(|service| text.strip_prefix(service)).unwrap_or(text);
    let bytes = URL_SAFE_NO_PAD.decode(unescaped(token)?).ok()?;
    let (location, rest) = packet(&bytes, "location")?;
    let (identifier, mut rest) = packet(rest, "identifier")?;
    let mut caveats = Vec::new();
    while let Some((caveat, after)) = packet(rest, "cid") {
        caveats.push(caveat.into());
        rest = after;
    }
    let (signature, rest) = packet(rest, "signature")?;
    if !rest.is_empty() {
        return None;
    }
    Some(Packets {
        location: std::str::from_utf8(location).ok()?.into(),
        identifier: std::str::from_utf8(identifier).ok()?.into(),
        caveats,
        signature: signature.try_into().ok()?,
    })
}

/// The value of the first packet, which must have that name, and what follows it.
fn packet<'b>(bytes: &'b [u8], name: &str) -> Option<(&'b [u8], &'b [u8])> {
    let (digits, _) = bytes.split_at_checked(LENGTH_DIGITS)?;
    let digit = |digit: &u8| if digit.is_ascii_uppercase() { None } else { char::from(*digit).to_digit(16) };
    let length = digits.iter().try_fold(0, |length, byte| Some(length * 16 + digit(byte)?))?;
    let (packet, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    let value = packet.get(LENGTH_DIGITS..)?.strip_prefix(name.as_bytes())?.strip_prefix(b" ")?.strip_suffix(b"\n")?;
    Some((value, rest))
}

/// The base64url that a text stands for: `0` and one of `0` to `5` are what has no letter or digit of its own.
fn unescaped(token: &str) -> Option<String> {
    let mut text = String::with_capacity(token.len());
    let mut characters = token.chars();
    while let Some(character) = characters.next() {
        match character {
            '0' => text.push(escaped(characters.next()?)?),
            letter if letter.is_ascii_alphanumeric() => text.push(letter),
            _ => return None,
        }
    }
    Some(text)
}

const fn escaped(digit: char) -> Option<char> {
    Some(match digit {
        '0' => '0',
        '1' => '_',
        '2' => '-',
        '3' => '/',
        '4' => '+',
        '5' => '=',
        _ => return None,
    })
}

/// Whether somebody might read a text as a macaroon: escaped or not, behind whatever prefix, in either alphabet, with or
/// without padding. One has its identifier in it.
pub(super) fn resembles(text: &str) -> bool {
    let behind_prefix = text.split_once('-').map(|(_, token)| token);
    [Some(text), behind_prefix].into_iter().flatten().any(|token| {
        let unescaped = leniently_unescaped(token);
        [token, &unescaped]
            .into_iter()
            .any(|text| leniently_decoded(text).windows(11).any(|part| part == b"identifier "))
    })
}

fn leniently_unescaped(token: &str) -> String {
    let mut text = String::with_capacity(token.len());
    let mut characters = token.chars().peekable();
    while let Some(character) = characters.next() {
        let meant = if character == '0' { characters.peek().copied().and_then(escaped) } else { None };
        if meant.is_some() {
            characters.next();
        }
        text.push(meant.unwrap_or(character));
    }
    text
}

/// As much as can be decoded, with the other alphabet's letters in this one's and everything foreign left out.
fn leniently_decoded(text: &str) -> Vec<u8> {
    let meant = text.chars().filter_map(|character| match character {
        '+' => Some('-'),
        '/' => Some('_'),
        letter if letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_') => Some(letter),
        _ => None,
    });
    let mut meant: String = meant.collect();
    // A single character of a group says nothing.
    if meant.len() % 4 == 1 {
        meant.pop();
    }
    LENIENT.decode(meant).unwrap_or_default()
}
