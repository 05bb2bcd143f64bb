//! The lines of a request's head and trailers, and what they say of its framing (RFC 9112 §3, §5, §6).
//!
//! Each line is judged as soon as it is whole, and once: a head that trickles in byte by byte costs no more than one
//! that comes at once. Only what decides where a message ends is remembered.

use memchr::memchr;

use super::framing::Fault;

/// Finds the lines of a section that grows at its end.
#[derive(Debug)]
pub(super) struct Lines {
    /// Where the line begins that is not whole yet.
    consumed: usize,
    /// Up to where that line is known to hold no LF.
    searched: usize,
    seen: usize,
}

impl Lines {
    pub(super) const fn new() -> Self {
        Self { consumed: 0, searched: 0, seen: 0 }
    }

    /// Bytes of the lines that came out.
    pub(super) const fn consumed(&self) -> usize {
        self.consumed
    }

    /// How many lines came out.
    pub(super) const fn seen(&self) -> usize {
        self.seen
    }

    /// The next whole line of `bytes`, without its CRLF. A line that ends beyond `bound` is `too_large`.
    pub(super) fn next<'a>(
        &mut self,
        bytes: &'a [u8],
        bound: usize,
        too_large: Fault,
    ) -> Result<Option<&'a [u8]>, Fault> {
        let unsearched = bytes.get(self.searched..).unwrap_or_default();
        let Some(found) = memchr(b'\n', unsearched) else {
            self.searched = bytes.len();
            return if bytes.len() >= bound { Err(too_large) } else { Ok(None) };
        };
        let end = self.searched + found;
        if end >= bound {
            return Err(too_large);
        }
        let line = bytes.get(self.consumed..end).unwrap_or_default();
        (self.consumed, self.searched, self.seen) = (end + 1, end + 1, self.seen + 1);
        let line = line.strip_suffix(b"\r").ok_or(Fault::BareLineFeed)?;
        if line.contains(&b'\r') { Err(Fault::BareCarriageReturn) } else { Ok(Some(line)) }
    }
}

/// What a head has said so far.
#[derive(Debug)]
pub(super) struct Facts {
    stage: Stage,
    fields: usize,
    length: Option<u64>,
    chunked: bool,
    old: bool,
    connect: bool,
    upgrade: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// One empty line before a request is lawful (RFC 9112 §2.2).
    Start,
    RequestLine,
    Fields,
}

impl Facts {
    pub(super) const fn new() -> Self {
        Self {
            stage: Stage::Start,
            fields: 0,
            length: None,
            chunked: false,
            old: false,
            connect: false,
            upgrade: false,
        }
    }

    /// Takes in one line; true when it ended the head.
    pub(super) fn line(&mut self, line: &[u8], most_fields: usize) -> Result<bool, Fault> {
        match (self.stage, line.is_empty()) {
            (Stage::Start, true) => self.stage = Stage::RequestLine,
            (Stage::RequestLine, true) => return Err(Fault::RequestLine),
            (Stage::Start | Stage::RequestLine, false) => {
                self.request_line(line)?;
                self.stage = Stage::Fields;
            }
            (Stage::Fields, false) => {
                self.fields += 1;
                if self.fields > most_fields {
                    return Err(Fault::TooManyFields);
                }
                self.field(line)?;
            }
            (Stage::Fields, true) => return self.check().map(|()| true),
        }
        Ok(false)
    }

    /// Whether what follows the request may be something else than HTTP/1.1.
    pub(super) const fn asks_for_tunnel(&self) -> bool {
        self.connect || self.upgrade
    }

    pub(super) const fn is_chunked(&self) -> bool {
        self.chunked
    }

    pub(super) fn content_length(&self) -> u64 {
        self.length.unwrap_or(0)
    }

    /// RFC 9112 §3, with exactly one space twice.
    fn request_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        if has_control(line) {
            return Err(Fault::ControlCharacter);
        }
        let mut parts = line.split(|b| *b == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Fault::RequestLine);
        };
        if !is_token(method) || target.is_empty() || target.contains(&b'\t') || target.contains(&b'#') {
            return Err(Fault::RequestLine);
        }
        self.connect = method == b"CONNECT";
        self.old = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => return Err(Fault::Version),
        };
        Ok(())
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Fault> {
        let (name, value) = field(line)?;
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length_field(value)?,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Fault::Encoding);
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn content_length_field(&mut self, value: &[u8]) -> Result<(), Fault> {
        // Eighteen digits cannot overflow.
        if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
            return Err(Fault::Length);
        }
        let length = value.iter().fold(0, |sum: u64, digit| sum * 10 + u64::from(digit - b'0'));
        match self.length.replace(length) {
            None => Ok(()),
            Some(_) => Err(Fault::RepeatedLength),
        }
    }

    fn check(&self) -> Result<(), Fault> {
        let has_content = self.chunked || self.length.is_some_and(|length| length > 0);
        match self {
            Self { chunked: true, length: Some(_), .. } => Err(Fault::LengthAndEncoding),
            Self { chunked: true, old: true, .. } => Err(Fault::OldEncoding),
            Self { connect: true, .. } if has_content => Err(Fault::ConnectContent),
            _ => Ok(()),
        }
    }
}

/// Fields that must not come after the content: they decide framing, routing, connection or identity (RFC 9110 §6.5.1).
const NEVER_TRAILERS: [&str; 14] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Judges one line of a trailer section.
pub(super) fn trailer(line: &[u8]) -> Result<(), Fault> {
    let (name, _) = field(line)?;
    let never = NEVER_TRAILERS.iter().any(|never| name.eq_ignore_ascii_case(never.as_bytes()));
    if never { Err(Fault::Trailers) } else { Ok(()) }
}

/// A field's name, and its value without the white space around it (RFC 9112 §5).
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Fault::Folded);
    }
    if has_control(line) {
        return Err(Fault::ControlCharacter);
    }
    let colon = line.iter().position(|b| *b == b':').ok_or(Fault::FieldName)?;
    let (name, value) = line.split_at(colon);
    if matches!(name.last(), Some(b' ' | b'\t')) {
        return Err(Fault::SpaceBeforeColon);
    }
    if !is_token(name) {
        return Err(Fault::FieldName);
    }
    Ok((name, trimmed(value.get(1..).unwrap_or_default())))
}

/// Control characters but HTAB. No early exit, so that the compiler can look at many bytes at once.
fn has_control(line: &[u8]) -> bool {
    line.iter().fold(false, |found, b| found | ((*b < 0x20) & (*b != b'\t')) | (*b == 0x7f))
}

/// RFC 9110 §5.6.2.
fn is_token(text: &[u8]) -> bool {
    let is_tchar = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !text.is_empty() && text.iter().all(is_tchar)
}

/// Without optional white space at either end: SP and HTAB, nothing else.
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
