//! What the most forgiving of servers would understand: a gateway that lets a dead refresh token through in any disguise
//! is found out, because here every disguise works. Of a field that is there twice, every value counts.

use serde_json::Value;

use serde::Deserializer;
use serde::de::{MapAccess, Visitor};

/// The fields of a request, from its query, its body and whatever is nested in it.
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(super) fn read(query: &str, media: &str, body: &[u8]) -> Self {
        let text = text(body);
        let mut fields = form(query);
        if media.to_ascii_lowercase().contains("multipart") {
            fields.extend(multipart(&text));
        } else if let Some(members) = json(text.trim()) {
            fields.extend(members);
        } else {
            fields.extend(form(&text));
        }
        Self(fields)
    }

    /// All values of a field, however its name is dressed up.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let same = |given: &str| given.trim().trim_end_matches("[]").eq_ignore_ascii_case(name);
        self.0.iter().filter(|(given, _)| same(given)).map(|(_, value)| value.trim()).collect()
    }

    pub(super) fn last(&self, name: &str) -> Option<&str> {
        self.all(name).last().copied()
    }
}

/// Whether a path means the token endpoint to somebody.
pub(super) fn is_token_path(path: &str) -> bool {
    let mut path = path.replace('\\', "/");
    while path.contains('%') {
        let decoded = decoded(&path, false).replace('\\', "/");
        if decoded == path {
            break;
        }
        path = decoded;
    }
    let segments = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default().trim());
    let mut named = Vec::new();
    for segment in segments {
        match segment {
            "" | "." => {}
            ".." => drop(named.pop()),
            segment => named.push(segment),
        }
    }
    named.last().is_some_and(|last| last.eq_ignore_ascii_case("token"))
}

/// A body as text: by its byte-order mark, by where its zeros are, or as UTF-8.
fn text(body: &[u8]) -> String {
    let wide = |body: &[u8], read: fn([u8; 2]) -> u16| {
        let units = body.chunks_exact(2).map(|pair| read([pair[0], pair[1]]));
        String::from_utf16_lossy(&units.collect::<Vec<_>>())
    };
    match body {
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        [0, _, ..] => wide(body, u16::from_be_bytes),
        [_, 0, ..] => wide(body, u16::from_le_bytes),
        _ => String::from_utf8_lossy(body).into_owned(),
    }
}

fn form(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(['&', ';']).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(n, v)| (decoded(n, true), decoded(v, true)))
        .collect()
}

fn multipart(text: &str) -> Vec<(String, String)> {
    let part = |part: &str| {
        let (head, content) = part.split_once("\r\n\r\n").or_else(|| part.split_once("\n\n"))?;
        let name = head.split("name=").nth(1)?.split([';', '\r', '\n']).next()?;
        Some((name.trim().trim_matches('"').to_owned(), content.trim().to_owned()))
    };
    // A token may have two dashes in it, but no line of its own.
    format!("\r\n{text}").split("\r\n--").filter_map(part).collect()
}

/// The texts in an object and in whatever it holds, each under its own name, doubles and all.
fn json(text: &str) -> Option<Vec<(String, String)>> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let members = reader.deserialize_map(Members).ok()?;
    let mut found = Vec::new();
    members.into_iter().for_each(|(name, value)| leaves(&name, &value, &mut found));
    Some(found)
}

fn leaves(name: &str, value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) => found.push((name.to_owned(), text.clone())),
        Value::Array(values) => values.iter().for_each(|value| leaves(name, value, found)),
        Value::Object(members) => members.iter().for_each(|(name, value)| leaves(name, value, found)),
        _ => {}
    }
}

/// All members of an object, those of the same name too.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, Value)>;

    fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = object.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

/// A text with its percent-encoding undone where it is one, and left alone where it is not.
fn decoded(text: &str, plus_is_blank: bool) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let coded = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let byte = coded.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| *first == b'%');
        rest = if byte.is_some() { &after[2..] } else { after };
        bytes.push(byte.unwrap_or(if plus_is_blank && *first == b'+' { b' ' } else { *first }));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn every_spelling_of_the_path_is_understood() {
    for path in [
        "/token",
        "/TOKEN",
        "/token/",
        "//token",
        "/%74oken",
        "/%2574oken",
        "/a/../token",
        "/json/token;v=1",
        "/a%2Ftoken",
    ] {
        assert!(is_token_path(path), "{path}");
    }
    assert!(!["/", "/tokens", "/token/introspection", "/%zz"].into_iter().any(is_token_path));
}

#[test]
fn every_dress_of_a_field_is_seen_through() {
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let bodies: [(&str, Vec<u8>); 9] = [
        ("application/x-www-form-urlencoded", b"refresh_token=R".into()),
        ("text/plain", b"a=b&refresh%5Ftoken=x&refresh_token=%52".into()),
        ("application/json", br#"{"refresh_token":"x","refresh\u005ftoken":"R"}"#.into()),
        ("application/json", br#"{"refresh_token":"R","refresh_token":"x"}"#.into()),
        ("application/json", b"\xef\xbb\xbf{\"auth\":{\"refresh_token\":\"R\"}}".into()),
        ("application/json", utf16(r#"{"refresh_token":"R"}"#)),
        ("application/json", [b"\xff\xfe".to_vec(), utf16(r#"{"refresh_token":"R"}"#)].concat()),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: form-data; name=\"refresh_token\"\r\n\r\nR\r\n--b--\r\n".into(),
        ),
        ("", b"refresh_token[]=R".into()),
    ];
    for (media, body) in bodies {
        let fields = Fields::read("", media, &body);
        assert!(fields.all("refresh_token").contains(&"R"), "{media} {}", String::from_utf8_lossy(&body));
    }
    assert_eq!(Fields::read("refresh_token=R", "", b"").last("refresh_token"), Some("R"));
}
