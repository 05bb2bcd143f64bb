//! Session ids that are UUIDs. Tokens write them without dashes, answers with them, and people as they please: what is
//! compared is the number, never its spelling.
//!
//! Read as Python's `uuid.UUID` reads them, which is what decides at the servers that have such ids: `urn:` and `uuid:`
//! count for nothing wherever they stand, nor do braces around it and dashes anywhere. What Python reads beyond that only
//! because it reads numbers (a sign, `0x`, blanks, underscores, digits of other scripts) is nobody's id and is refused.

use std::fmt;
use std::str::FromStr;

/// The longest text that is looked at, in bytes.
const MAX_TEXT_BYTES: usize = 1024;

/// 128 bits that name a session.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Uuid(u128);

impl Uuid {
    /// 32 lower-case hexadecimal digits: how tokens spell it.
    #[must_use]
    pub fn undashed(self) -> String {
        format!("{:032x}", self.0)
    }
}

impl fmt::Display for Uuid {
    /// In the five groups of RFC 9562 §4.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = |shift: u32, digits: u32| (self.0 >> shift) & ((1 << (4 * digits)) - 1);
        let (time, node) = ((group(96, 8), group(80, 4), group(64, 4)), (group(48, 4), group(0, 12)));
        write!(f, "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", time.0, time.1, time.2, node.0, node.1)
    }
}

/// A text that is no UUID.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a UUID has 32 hexadecimal digits")]
pub struct InvalidUuid;

impl FromStr for Uuid {
    type Err = InvalidUuid;

    fn from_str(text: &str) -> Result<Self, InvalidUuid> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(InvalidUuid);
        }
        // One after the other, as Python does it: what is left of `uurn:uid:` is `uuid:`.
        let bare = text.replace("urn:", "").replace("uuid:", "");
        let digits = bare.trim_matches(['{', '}']).replace('-', "");
        let is_number = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = is_number.then(|| u128::from_str_radix(&digits, 16).ok()).flatten();
        number.map(Self).ok_or(InvalidUuid)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID: &str = "f47ac10b58cc4372a5670e02b2c3d479";

    #[test]
    fn every_spelling_is_one_id() {
        for text in [
            UUID,
            "f47ac10b-58cc-4372-a567-0e02b2c3d479",
            "F47AC10B-58CC-4372-A567-0E02B2C3D479",
            "{f47ac10b-58cc-4372-a567-0e02b2c3d479}",
            "urn:uuid:f47ac10b-58cc-4372-a567-0e02b2c3d479",
            "uuid:f47ac10b58cc4372a5670e02b2c3d479",
            "f-4-7-a-c10b58cc4372a5670e02b2c3d479---",
            "{{f47ac10b58cc4372a567urn:0e02b2c3d479",
            "uurn:uid:f47ac10b58cc4372a5670e02b2c3d479",
        ] {
            let read = text.parse::<Uuid>().unwrap_or_else(|_| panic!("{text}"));
            assert_eq!(read.undashed(), UUID, "{text}");
            assert_eq!(read.to_string(), "f47ac10b-58cc-4372-a567-0e02b2c3d479");
        }
    }

    #[test]
    fn what_is_no_uuid_is_refused() {
        let signed = format!("+{}", &UUID[1..]);
        let hexadecimal = format!("0x{}", &UUID[2..]);
        let grouped = format!("{}_{}", &UUID[..15], &UUID[16..]);
        let blank = format!(" {}", &UUID[1..]);
        let wide = UUID.replace('1', "１");
        let long = format!("{}{UUID}", "-".repeat(MAX_TEXT_BYTES));
        for text in
            ["", "-", &UUID[1..], "g47ac10b58cc4372a5670e02b2c3d479", "URN:UUID:f47ac10b58cc4372a5670e02b2c3d479"]
                .into_iter()
                .chain([&*signed, &hexadecimal, &grouped, &blank, &wide, &long])
        {
            assert_eq!(text.parse::<Uuid>(), Err(InvalidUuid), "{text}");
        }
        assert!("f47ac10b{58cc4372a5670e02b2c3d479}".parse::<Uuid>().is_err(), "a brace within");
    }

    proptest! {
        #[test]
        fn dashes_case_braces_and_prefixes_mean_nothing(
            bits in any::<u128>(),
            dashes in prop::collection::vec(0_usize..=32, 0..12),
            upper in any::<bool>(),
            (open, close) in ("\\{{0,2}", "\\}{0,2}"),
            prefix in "(urn:)?(uuid:)?",
        ) {
            let mut text = format!("{bits:032x}");
            if upper {
                text = text.to_uppercase();
            }
            for at in dashes {
                text.insert(at.min(text.len()), '-');
            }
            prop_assert_eq!(format!("{prefix}{open}{text}{close}").parse(), Ok(Uuid(bits)));
            let dashed = Uuid(bits).to_string();
            prop_assert_eq!(dashed.parse(), Ok(Uuid(bits)));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}") {
            let _ = text.parse::<Uuid>();
        }
    }
}
