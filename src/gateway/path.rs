//! A path is normalised once, and what is matched is what is forwarded.
//!
//! An upstream may decode more, or merge more, than a gate expects, and then serves another resource than the gate judged. So
//! there are two lines of defence. A path that no honest client sends is refused: encoded slashes, backslashes, controls, dot
//! segments, at any depth of encoding. A path that is honest but could be read in several ways (`//`, `;parameters`, `%25`) passes
//! only when every reading leads to the same route: [`Path::readings`] lists the others.
//!
//! Pure functions of the text: no I/O, no configuration.

use std::borrow::Cow;

/// How often a path may be encoded over and over before nobody can mean it.
const MAX_DECODINGS: usize = 4;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum PathFault {
    /// It does not begin with a slash: asterisk-form, authority-form, nothing.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// It begins with two slashes, which reads as another host (RFC 3986 §4.2).
    #[error("the path begins with two slashes")]
    Authority,
    /// A byte that no path may have raw: backslash, fragment, control, not ASCII.
    #[error("the path has a character that may not stand in it")]
    Character,
    /// `%` without two hexadecimal digits.
    #[error("the path has a broken percent-escape")]
    Escape,
    /// An escape for a slash, a backslash, NUL or another control.
    #[error("the path hides a slash, a backslash or a control character")]
    Hidden,
    /// `.` or `..` as a segment, also with parameters.
    #[error("the path has a dot segment")]
    DotSegment,
    /// Its bytes are no UTF-8: overlong or broken.
    #[error("the path is not UTF-8")]
    Encoding,
    /// It is encoded again and again.
    #[error("the path is encoded over and over")]
    Depth,
    /// Two servers could find two routes in it.
    #[error("the path can be read in more than one way")]
    Ambiguous,
}

/// A path that has one meaning, or says which others it might have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Path<'a> {
    forwarded: Cow<'a, str>,
    decoded: Cow<'a, str>,
    deeper: Option<String>,
}

impl<'a> Path<'a> {
    /// What goes upstream: unreserved characters decoded, other escapes in upper case (RFC 3986 §6.2.2).
    #[must_use]
    pub fn forwarded(&self) -> &str {
        &self.forwarded
    }

    /// Whether that differs from what came.
    #[must_use]
    pub fn is_rewritten(&self) -> bool {
        matches!(self.forwarded, Cow::Owned(_))
    }

    /// What is matched: all escapes decoded, so that no spelling escapes its route.
    #[must_use]
    pub fn decoded(&self) -> &str {
        &self.decoded
    }

    /// The other ways an upstream might read it: parameters dropped, slashes merged, decoded once more.
    pub fn readings(&self) -> impl Iterator<Item = String> {
        let plain = [Some(&*self.decoded), self.deeper.as_deref()];
        let deeper = self.deeper.clone();
        deeper.into_iter().chain(plain.into_iter().flatten().flat_map(other_readings).collect::<Vec<_>>())
    }
}

fn other_readings(path: &str) -> Vec<String> {
    let mut readings = Vec::new();
    if path.contains("//") {
        readings.push(merged(path));
    }
    if path.contains(';') {
        let bare: Vec<&str> = path.split('/').map(without_parameters).collect();
        let bare = bare.join("/");
        readings.push(merged(&bare));
        readings.push(bare);
    }
    readings
}

fn without_parameters(segment: &str) -> &str {
    segment.split(';').next().unwrap_or(segment)
}

fn merged(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !merged.ends_with('/') {
            merged.push(c);
        }
    }
    merged
}

/// Normalises the path of a request target, without its query.
///
/// # Errors
///
/// See [`PathFault`]; nothing is repaired that could be meant otherwise.
pub fn normalise(raw: &str) -> Result<Path<'_>, PathFault> {
    if !raw.starts_with('/') {
        return Err(PathFault::NotAbsolute);
    }
    if raw.starts_with("//") {
        return Err(PathFault::Authority);
    }
    if raw.bytes().any(|b| !b.is_ascii_graphic() || matches!(b, b'\\' | b'#' | b'?')) {
        return Err(PathFault::Character);
    }
    if !raw.contains('%') {
        refuse_dot_segments(raw)?;
        return Ok(Path { forwarded: Cow::Borrowed(raw), decoded: Cow::Borrowed(raw), deeper: None });
    }
    let (forwarded, decoded) = decode_once(raw)?;
    refuse_dot_segments(&decoded)?;
    let deeper = decode_to_the_end(&decoded)?;
    let forwarded = if forwarded == raw { Cow::Borrowed(raw) } else { Cow::Owned(forwarded) };
    Ok(Path { forwarded, decoded: Cow::Owned(decoded), deeper })
}

/// The path as it is forwarded, and as it is matched.
fn decode_once(raw: &str) -> Result<(String, String), PathFault> {
    let mut forwarded = String::with_capacity(raw.len());
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            forwarded.push(char::from(byte));
            decoded.push(byte);
            continue;
        }
        let (hidden, after) = escape(after).ok_or(PathFault::Escape)?;
        rest = after;
        refuse_hidden(hidden)?;
        decoded.push(hidden);
        if is_unreserved(hidden) {
            forwarded.push(char::from(hidden));
        } else {
            push_escaped(&mut forwarded, hidden);
        }
    }
    let decoded = String::from_utf8(decoded).map_err(|_| PathFault::Encoding)?;
    Ok((forwarded, decoded))
}

/// Decodes what still looks encoded, as a chain of careless servers would; `None` when nothing does.
fn decode_to_the_end(decoded: &str) -> Result<Option<String>, PathFault> {
    let mut deeper = None;
    for _ in 0..MAX_DECODINGS {
        let current = deeper.as_deref().unwrap_or(decoded);
        let Some(next) = decode_leniently(current)? else { return Ok(deeper) };
        refuse_dot_segments(&next)?;
        deeper = Some(next);
    }
    Err(PathFault::Depth)
}

/// Decodes whole escapes and leaves broken ones; `None` when there is no whole one.
fn decode_leniently(text: &str) -> Result<Option<String>, PathFault> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut changed = false;
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte == b'%').then(|| escape(after)).flatten() {
            Some((hidden, after)) => {
                refuse_hidden(hidden)?;
                decoded.push(hidden);
                rest = after;
                changed = true;
            }
            None => decoded.push(byte),
        }
    }
    let decoded = String::from_utf8(decoded).map_err(|_| PathFault::Encoding)?;
    Ok(changed.then_some(decoded))
}

/// The byte an escape stands for, and what follows its two digits.
fn escape(after_percent: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, rest) = after_percent.split_first_chunk::<2>()?;
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    let byte = high? * 16 + low?;
    Some((u8::try_from(byte).ok()?, rest))
}

fn refuse_hidden(byte: u8) -> Result<(), PathFault> {
    let hidden = matches!(byte, b'/' | b'\\') || byte.is_ascii_control();
    if hidden { Err(PathFault::Hidden) } else { Ok(()) }
}

fn refuse_dot_segments(path: &str) -> Result<(), PathFault> {
    // Most paths have no segment that begins with a dot; only those are looked at closely.
    let dotted = path.contains("/.") && path.split('/').any(|s| matches!(without_parameters(s), "." | ".."));
    if dotted { Err(PathFault::DotSegment) } else { Ok(()) }
}

/// RFC 3986 §2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Appends the escape of a byte, in upper case.
pub(super) fn push_escaped(text: &mut String, byte: u8) {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase();
    text.extend(['%', digit(byte >> 4), digit(byte & 15)]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn forwarded(raw: &str) -> Result<String, PathFault> {
        normalise(raw).map(|path| path.forwarded().to_owned())
    }

    #[test]
    fn unreserved_escapes_are_decoded_and_others_kept() {
        assert_eq!(forwarded("/%61dmin/%7euser"), Ok("/admin/~user".into()));
        assert_eq!(forwarded("/a%2cb%c3%a9"), Ok("/a%2Cb%C3%A9".into()));
        assert_eq!(normalise("/a%3Ab").unwrap().decoded(), "/a:b");
        assert!(!normalise("/a%2Cb").unwrap().is_rewritten());
    }

    #[test]
    fn what_could_be_another_path_is_refused() {
        let cases = [
            ("*", PathFault::NotAbsolute),
            ("", PathFault::NotAbsolute),
            ("//evil.example", PathFault::Authority),
            ("/a\\b", PathFault::Character),
            ("/a#b", PathFault::Character),
            ("/a b", PathFault::Character),
            ("/é", PathFault::Character),
            ("/a%", PathFault::Escape),
            ("/a%4", PathFault::Escape),
            ("/a%zz", PathFault::Escape),
            ("/a%2fb", PathFault::Hidden),
            ("/a%2Fb", PathFault::Hidden),
            ("/a%5cb", PathFault::Hidden),
            ("/a%00", PathFault::Hidden),
            ("/a%0d%0a", PathFault::Hidden),
            ("/a%7f", PathFault::Hidden),
            ("/a/../b", PathFault::DotSegment),
            ("/a/./b", PathFault::DotSegment),
            ("/a/..", PathFault::DotSegment),
            ("/a/%2e%2e/b", PathFault::DotSegment),
            ("/a/.%2E/b", PathFault::DotSegment),
            ("/a/..;x=1/b", PathFault::DotSegment),
            ("/a/.;/b", PathFault::DotSegment),
            ("/a/..%3bx/b", PathFault::DotSegment),
            ("/a/%252e%252e/b", PathFault::DotSegment),
            ("/a%252fb", PathFault::Hidden),
            ("/a%255cb", PathFault::Hidden),
            ("/a%25252fb", PathFault::Hidden),
            ("/a%2525252525252525", PathFault::Depth),
            ("/a%c0%af", PathFault::Encoding),
            ("/a%c0%ae%c0%ae", PathFault::Encoding),
            ("/a%25c0%25af", PathFault::Encoding),
            ("/a%ff", PathFault::Encoding),
        ];
        for (raw, fault) in cases {
            assert_eq!(forwarded(raw), Err(fault), "{raw}");
        }
    }

    #[test]
    fn honest_paths_pass_as_they_are() {
        for raw in
            ["/", "/a/b.c", "/.well-known/x", "/a/...", "/a/..b", "/a//b", "/a;v=1", "/100%25", "/a@b:c!$&'()*+,="]
        {
            assert_eq!(forwarded(raw), Ok(raw.into()), "{raw}");
        }
    }

    #[test]
    fn other_readings_are_told() {
        let readings = |raw: &str| normalise(raw).unwrap().readings().collect::<Vec<_>>();
        assert!(readings("/a/b").is_empty() && readings("/100%25").is_empty());
        assert_eq!(readings("/a//b"), ["/a/b"]);
        assert!(readings("/;x/admin").contains(&"/admin".into()));
        assert!(readings("/a;x/b").contains(&"/a/b".into()));
        assert_eq!(readings("/%2561dmin"), ["/admin"]);
    }

    fn fully_decoded(text: &str) -> Vec<String> {
        let mut forms = vec![text.to_owned()];
        while let Ok(Some(next)) = decode_leniently(forms.last().unwrap()) {
            forms.push(next);
        }
        forms
    }

    proptest! {
        #[test]
        fn normalising_twice_is_normalising_once(raw in "/([a-z.;%/]|%2[0-9a-f]|%25|%6[1-5]|%c3%a9){0,20}") {
            if let Ok(once) = normalise(&raw) {
                let again = normalise(once.forwarded()).unwrap();
                prop_assert_eq!(again.forwarded(), once.forwarded());
                prop_assert_eq!(again.decoded(), once.decoded());
            }
        }

        #[test]
        fn no_decoding_of_what_passes_has_a_dot_segment(raw in "/([a-z./;]|%(25){0,3}2[efEF]|%5c|\\.\\.|%00){0,20}") {
            if let Ok(path) = normalise(&raw) {
                for form in fully_decoded(path.forwarded()) {
                    prop_assert!(!form.contains(['\\', '\0']));
                    for segment in form.split('/') {
                        prop_assert!(!matches!(without_parameters(segment), "." | ".."), "{}", form);
                    }
                }
            }
        }

        #[test]
        fn no_text_makes_it_panic(raw in "\\PC{0,60}") {
            let _ = normalise(&raw).map(|path| path.readings().count());
        }
    }
}
