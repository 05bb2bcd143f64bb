//! The kinds of values a configuration has: durations, sizes, addresses, URLs, names of headers, digests, secrets, files.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hyper::header::HeaderName;
use hyper::{Method, Uri};
use ipnet::IpNet;

use super::table::{Node, Read, Shown};
use crate::admin::Fingerprint;
use crate::admission::Place;
use crate::domain::{Dialect, Right, SessionType};
use crate::gateway::token_endpoint::{EndpointPath, FieldPlace, Preset, Source};
use crate::gateway::{HostPattern, RoutePath, UpstreamUrl};
use crate::store::Backend;
use crate::telemetry::Filter;
use crate::verify::Algorithm;

impl Read for String {
    fn read(node: &Node<'_>) -> Option<Self> {
        node.text("a string")
    }
}

impl Read for bool {
    fn read(node: &Node<'_>) -> Option<Self> {
        let flag = node.value().as_bool();
        if flag.is_none() {
            node.expected("true or false");
        }
        flag
    }
}

/// The integer of a node, whatever base it is written in.
fn integer(node: &Node<'_>) -> Option<i128> {
    let number = node.value().as_integer()?;
    i128::from_str_radix(number.as_str(), number.radix()).ok()
}

macro_rules! read_integer {
    ($($number:ty),+) => {
        $(impl Read for $number {
            fn read(node: &Node<'_>) -> Option<Self> {
                let number = integer(node).and_then(|number| Self::try_from(number).ok());
                if number.is_none() {
                    node.fault("must be a whole number, zero or more");
                }
                number
            }
        })+
    };
}

read_integer!(u32, u64, usize);

impl Read for f64 {
    fn read(node: &Node<'_>) -> Option<Self> {
        let float = node.value().as_float().and_then(|float| float.as_str().parse().ok());
        let number =
            float.or_else(|| integer(node).map(|number| number as f64)).filter(|number: &f64| number.is_finite());
        if number.is_none() {
            node.fault("must be a number");
        }
        number
    }
}

impl Read for Duration {
    fn read(node: &Node<'_>) -> Option<Self> {
        if node.value().is_integer() {
            node.fault("must be a duration with its unit, such as \"30s\" or \"5m\"");
            return None;
        }
        node.parse("a duration such as \"30s\"", |text| {
            humantime::parse_duration(text)
                .map_err(|_| "is not a duration such as \"30s\", \"5m\" or \"24h\"".to_owned())
        })
    }
}

impl Shown for Duration {
    fn shown(&self) -> String {
        humantime::format_duration(*self).to_string()
    }
}

/// A size in bytes: a number, or a text with a unit.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Size(pub(super) u64);

const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Size {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "is not a size such as 4096, \"64KiB\" or \"1MiB\"".to_owned();
        let (digits, unit) =
            UNITS.into_iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes))).unwrap_or((text, 1));
        let digits = digits.trim_end();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).map(Self).ok_or_else(wrong)
    }

    /// As the size of something in memory.
    pub(super) fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Read for Size {
    fn read(node: &Node<'_>) -> Option<Self> {
        if node.value().is_integer() {
            return u64::read(node).map(Self);
        }
        node.parse("a size such as \"64KiB\"", Self::parse)
    }
}

impl Shown for Size {
    fn shown(&self) -> String {
        let unit = UNITS.into_iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        unit.map_or_else(|| self.0.to_string(), |(unit, bytes)| format!("{}{unit}", self.0 / bytes))
    }
}

impl Read for SocketAddr {
    fn read(node: &Node<'_>) -> Option<Self> {
        let wrong = |_| "is not an address with a port, such as \"0.0.0.0:8080\" or \"[::1]:8080\"".to_owned();
        node.parse("an address with a port", |text| text.parse().map_err(wrong))
    }
}

impl Read for IpNet {
    fn read(node: &Node<'_>) -> Option<Self> {
        node.parse("a network such as \"10.0.0.0/8\"", |text| {
            let address = || text.parse::<std::net::IpAddr>().map(Self::from);
            text.parse()
                .or_else(|_| address())
                .map_err(|_| "is not a network such as \"10.0.0.0/8\" or \"fd00::/8\"".into())
        })
    }
}

impl Read for Method {
    fn read(node: &Node<'_>) -> Option<Self> {
        node.parse("a method such as \"GET\"", |text| {
            let method = Self::from_bytes(text.as_bytes()).map_err(|_| "is not an HTTP method".to_owned())?;
            let lower = text.bytes().any(|b| b.is_ascii_lowercase());
            if lower { Err("is not an HTTP method; methods are written in capitals".to_owned()) } else { Ok(method) }
        })
    }
}

impl Read for HeaderName {
    fn read(node: &Node<'_>) -> Option<Self> {
        node.parse("the name of a header", |text| {
            // A name with an underscore is folded into one with a hyphen by CGI and its heirs.
            let name = Self::from_bytes(text.as_bytes()).ok().filter(|_| !text.contains('_'));
            name.ok_or_else(|| "is not the name of a header, such as \"X-Auth-User\"".to_owned())
        })
    }
}

/// An absolute URL of `http` or `https`, without userinfo, query or fragment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct HttpUrl(pub(super) Uri);

impl HttpUrl {
    /// Parses one whose scheme is one of `schemes`.
    pub(super) fn parse(text: &str, schemes: &[&str]) -> Result<Uri, String> {
        let wrong = || format!("is not a URL of {}", schemes.join(", "));
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        if !uri.scheme_str().is_some_and(|scheme| schemes.contains(&scheme)) {
            return Err(wrong());
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err("must not hold a user or a password".to_owned());
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err("names no host".to_owned());
        }
        // `port_u16` is silent about a port that is no number.
        let bare = authority.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
        if bare.is_some() && uri.port_u16().is_none_or(|port| port == 0) {
            return Err("has a wrong port".to_owned());
        }
        if text.contains('#') { Err("must not have a fragment".to_owned()) } else { Ok(uri) }
    }
}

impl Read for HttpUrl {
    fn read(node: &Node<'_>) -> Option<Self> {
        node.parse("a URL", |text| Self::parse(text, &["https", "http"]).map(Self))
    }
}

/// Lets types that parse themselves be read from strings; their error is the fault's text.
macro_rules! read_parsed {
    ($($type:ty: $what:literal),+ $(,)?) => {
        $(impl Read for $type {
            fn read(node: &Node<'_>) -> Option<Self> {
                node.parse($what, |text| text.parse().map_err(|error| format!("{error}")))
            }
        })+
    };
}

read_parsed! {
    Fingerprint: "a SHA-256 in hexadecimal",
    Right: "the name of a right",
    Backend: "a URL such as \"sqlite:data/portcullis.db\"",
    Filter: "a level such as \"info\"",
    UpstreamUrl: "a URL such as \"http://127.0.0.1:3000\"",
    HostPattern: "the name of a host",
    RoutePath: "a path such as \"/api\"",
    Place: "a place such as \"bearer\" or \"cookie:NAME\"",
    EndpointPath: "a path such as \"/oauth/token\"",
    FieldPlace: "a place such as \"form:refresh_token\"",
    Preset: "the name of a preset",
    Dialect: "the name of a dialect",
    Source: "a source such as \"reply:/session\"",
    SessionType: "a type of session",
}

impl Read for Algorithm {
    fn read(node: &Node<'_>) -> Option<Self> {
        node.parse("the name of an algorithm", |text| {
            if text.eq_ignore_ascii_case("none") {
                return Err("would accept tokens that nobody signed".to_owned());
            }
            if text.to_ascii_uppercase().starts_with("HS") {
                return Err(format!("{text} is an HMAC, which whoever can verify can also forge; it is not supported"));
            }
            text.parse().map_err(|error| format!("{error}"))
        })
    }
}

/// A text that must stay unseen.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Hidden(pub(super) String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

impl Read for Hidden {
    fn read(node: &Node<'_>) -> Option<Self> {
        let text = node.text("a string")?;
        if text.is_empty() {
            node.fault("is empty");
            return None;
        }
        Some(Self(text))
    }
}

/// A file that can be read. Paths start from the working directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct File(pub(super) PathBuf);

/// The largest file a configuration may name, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

impl File {
    fn check(path: &PathBuf) -> Result<(), String> {
        let metadata = std::fs::metadata(path).map_err(|error| cannot_read(path, &error))?;
        if !metadata.is_file() {
            return Err(format!("{} is not a file", path.display()));
        }
        if metadata.len() > MAX_FILE_BYTES {
            return Err(format!("{} is larger than 4MiB", path.display()));
        }
        std::fs::File::open(path).map(drop).map_err(|error| cannot_read(path, &error))
    }
}

fn cannot_read(path: &std::path::Path, error: &std::io::Error) -> String {
    format!("{} cannot be read: {}", path.display(), error.kind())
}

impl Read for File {
    fn read(node: &Node<'_>) -> Option<Self> {
        node.parse("the path of a file", |text| {
            let path = PathBuf::from(text);
            Self::check(&path)?;
            Ok(Self(path))
        })
    }
}

/// The content of a file that holds a secret: its text without the line's end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SecretFile(pub(super) Hidden);

impl Read for SecretFile {
    fn read(node: &Node<'_>) -> Option<Self> {
        let file = File::read(node)?;
        let text = std::fs::read_to_string(&file.0).map_err(|error| node.fault(cannot_read(&file.0, &error))).ok()?;
        let secret = text.trim_end_matches(['\r', '\n']);
        if secret.is_empty() {
            node.fault(format!("{} is empty", file.0.display()));
            return None;
        }
        Some(Self(Hidden(secret.to_owned())))
    }
}

/// One value or an array of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Several<T>(pub(super) Vec<T>);

impl<T: Read> Read for Several<T> {
    fn read(node: &Node<'_>) -> Option<Self> {
        let several = if node.value().is_array() { Vec::read(node) } else { T::read(node).map(|one| vec![one]) };
        several.map(Self)
    }
}

/// Reads one of a few words.
pub(super) fn choice<T: Clone>(node: &Node<'_>, choices: &[(&str, T)]) -> Option<T> {
    let known = || choices.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    node.parse("a string", |text| {
        let found = choices.iter().find(|(name, _)| *name == text);
        found.map(|(_, value)| value.clone()).ok_or_else(|| format!("must be one of {}", known()))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(Size::parse("64KiB"), Ok(Size(65536)));
        assert_eq!(Size::parse("1 MiB"), Ok(Size(1 << 20)));
        assert_eq!(Size::parse("10"), Ok(Size(10)));
        assert!(
            ["", "KiB", "-1", "1.5MiB", "1KB", "+1", "99999999999GiB"].iter().all(|text| Size::parse(text).is_err())
        );
        assert_eq!(Size(65536).shown(), "64KiB");
        assert_eq!(Size(1000).shown(), "1000B");
    }

    #[test]
    fn urls_are_absolute_and_bare() {
        let parse = |text: &str| HttpUrl::parse(text, &["http", "https"]);
        assert!(parse("http://127.0.0.1:3000").is_ok());
        assert!(parse("https://id.example.com/jwks").is_ok());
        assert!(parse("http://[::1]:80/").is_ok());
        assert!(parse("http://[::1]/").is_ok());
        for wrong in
            ["", "/x", "ftp://x", "http://", "http://u:p@x/", "http://x:0/", "http://x:99999/", "http://x/#f", "x:y"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_hidden_text_is_not_shown() {
        assert_eq!(format!("{:?}", Hidden("s3cret".into())), "Hidden");
    }

    proptest! {
        #[test]
        fn no_text_upsets_a_parser(text in "\\PC*") {
            let _ = Size::parse(&text);
            let _ = HttpUrl::parse(&text, &["http"]);
        }

        #[test]
        fn a_size_is_shown_as_it_is_read(bytes in 0..u64::MAX) {
            prop_assert_eq!(Size::parse(&Size(bytes).shown()), Ok(Size(bytes)));
        }
    }
}
