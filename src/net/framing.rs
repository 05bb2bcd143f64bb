//! Where each request of an HTTP/1.1 byte stream begins and ends, decided once and strictly (RFC 9112).
//!
//! Two parsers that disagree about where a message ends are what request smuggling is made of, so everything that two
//! servers might read in two ways is a [`Fault`]: nothing is repaired. This is a state machine over byte slices, without
//! I/O and without a clock. However a stream is cut into pieces, the same bytes pass and the same fault is found.
//!
//! It judges form, not meaning: hosts, targets and methods are the gateway's.

use super::head::{Facts, Lines};

/// How large the parts of a message may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// Bytes of a head, from its first to the empty line; of a trailer section too.
    pub head_bytes: usize,
    /// Fields of a head; of a trailer section too.
    pub headers: usize,
}

/// A chunk's size line, with its extensions and its line end.
const CHUNK_LINE_BYTES: usize = 256;

/// What is wrong with a stream. There is no way on from one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum Fault {
    /// A line ends in LF without CR (RFC 9112 §2.2 would let it pass).
    #[error("a line ends in a bare LF")]
    BareLineFeed,
    /// A CR that does not end a line (RFC 9112 §2.2).
    #[error("a bare CR")]
    BareCarriageReturn,
    /// NUL or another control character in a request line or a field.
    #[error("a control character")]
    ControlCharacter,
    /// A field continued on the next line (RFC 9112 §5.2).
    #[error("a folded header field")]
    Folded,
    /// White space between a field's name and the colon (RFC 9112 §5.1).
    #[error("white space before a colon")]
    SpaceBeforeColon,
    /// A field's name is no token, or there is no colon.
    #[error("a malformed field name")]
    FieldName,
    /// Not `method SP target SP version`.
    #[error("a malformed request line")]
    RequestLine,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("an unknown HTTP version")]
    Version,
    /// Both `Content-Length` and `Transfer-Encoding` (RFC 9112 §6.1).
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndEncoding,
    /// `Content-Length` more than once, also when equal.
    #[error("a repeated Content-Length")]
    RepeatedLength,
    /// `Content-Length` is not a decimal number.
    #[error("a malformed Content-Length")]
    Length,
    /// `Transfer-Encoding` is not one exact `chunked`.
    #[error("a Transfer-Encoding other than chunked")]
    Encoding,
    /// `Transfer-Encoding` in HTTP/1.0 (RFC 9112 §6.1).
    #[error("a Transfer-Encoding in HTTP/1.0")]
    OldEncoding,
    /// A `CONNECT` with content (RFC 9110 §9.3.6).
    #[error("a CONNECT with content")]
    ConnectContent,
    /// The head has too many bytes.
    #[error("the head is too large")]
    HeadTooLarge,
    /// The head has too many fields.
    #[error("the head has too many fields")]
    TooManyFields,
    /// A chunk's size is not a plain hexadecimal number (RFC 9112 §7.1).
    #[error("a malformed chunk size")]
    ChunkSize,
    /// A chunk's extensions are malformed or too long (RFC 9112 §7.1.1).
    #[error("a malformed chunk extension")]
    ChunkExtension,
    /// A chunk's data is not followed by CRLF.
    #[error("a chunk without its end")]
    ChunkEnd,
    /// A trailer section names a field that decides framing, routing or identity, is malformed or too large.
    #[error("an unlawful trailer section")]
    Trailers,
}

impl Fault {
    /// Whether it is a matter of size: 431 rather than 400 (RFC 6585 §5).
    #[must_use]
    pub const fn is_size(self) -> bool {
        matches!(self, Self::HeadTooLarge | Self::TooManyFields)
    }

    /// Its name in metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::BareLineFeed => "bare_lf",
            Self::BareCarriageReturn => "bare_cr",
            Self::ControlCharacter => "control_character",
            Self::Folded => "folded_field",
            Self::SpaceBeforeColon => "space_before_colon",
            Self::FieldName => "field_name",
            Self::RequestLine => "request_line",
            Self::Version => "http_version",
            Self::LengthAndEncoding => "length_and_encoding",
            Self::RepeatedLength => "repeated_length",
            Self::Length => "content_length",
            Self::Encoding | Self::OldEncoding => "transfer_encoding",
            Self::ConnectContent => "connect_content",
            Self::HeadTooLarge => "head_size",
            Self::TooManyFields => "head_fields",
            Self::ChunkSize => "chunk_size",
            Self::ChunkExtension => "chunk_extension",
            Self::ChunkEnd => "chunk_end",
            Self::Trailers => "trailers",
        }
    }
}

/// What may be done with the bytes at hand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// So many of them are lawful and may go on; at least one.
    Pass(usize),
    /// More are needed before any of them may go on.
    Wait,
    /// Nobody knows yet what they are: the request before them asked for a tunnel. See [`Framing::decide`].
    Hold,
    /// They are unlawful. Every further step says the same.
    Refuse(Fault),
}

/// The state of one stream.
#[derive(Debug)]
pub struct Framing {
    bounds: Bounds,
    at: At,
    heads: u64,
    /// The request that is being read asks for a tunnel, so its end is a fork.
    forks: bool,
}

#[derive(Debug)]
enum At {
    Head(Lines, Facts),
    Content(u64),
    ChunkLine(Lines),
    ChunkData(u64),
    ChunkEnd,
    Trailers(Lines),
    Fork,
    Tunnel,
    Refused(Fault, bool),
}

impl Framing {
    /// A stream of which nothing has been seen.
    #[must_use]
    pub const fn new(bounds: Bounds) -> Self {
        Self { bounds, at: At::Head(Lines::new(), Facts::new()), heads: 0, forks: false }
    }

    /// How many heads have passed.
    #[must_use]
    pub const fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the stream stands before or in a head.
    #[must_use]
    pub const fn in_head(&self) -> bool {
        matches!(self.at, At::Head(..) | At::Refused(_, true))
    }

    /// Whether the stream stands at the end of a request that asked for a tunnel.
    #[must_use]
    pub const fn at_fork(&self) -> bool {
        matches!(self.at, At::Fork)
    }

    /// Whether the stream has become a tunnel, and is no longer judged.
    #[must_use]
    pub const fn is_tunnel(&self) -> bool {
        matches!(self.at, At::Tunnel)
    }

    /// Says whether the tunnel that was asked for opened. Without one, the next bytes are a head.
    pub fn decide(&mut self, tunnel: bool) {
        if self.at_fork() {
            self.at = if tunnel { At::Tunnel } else { Self::fresh_head() };
        }
    }

    /// Judges `bytes`: what came after the bytes that passed, from the first one on. After [`Step::Wait`] the same bytes
    /// must come again, with more behind them.
    pub fn step(&mut self, bytes: &[u8]) -> Step {
        if bytes.is_empty() {
            return Step::Wait;
        }
        let in_head = self.in_head();
        match self.judge(bytes) {
            Ok(step) => step,
            Err(fault) => {
                self.at = At::Refused(fault, in_head);
                Step::Refuse(fault)
            }
        }
    }

    fn judge(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        match &mut self.at {
            At::Head(..) => self.head(bytes),
            At::Content(left) => {
                let passed = take(left, bytes);
                if *left == 0 {
                    self.end();
                }
                Ok(Step::Pass(passed))
            }
            At::ChunkLine(_) => self.chunk_line(bytes),
            At::ChunkData(left) => {
                let passed = take(left, bytes);
                if *left == 0 {
                    self.at = At::ChunkEnd;
                }
                Ok(Step::Pass(passed))
            }
            At::ChunkEnd => self.chunk_end(bytes),
            At::Trailers(_) => self.trailers(bytes),
            At::Fork => Ok(Step::Hold),
            At::Tunnel => Ok(Step::Pass(bytes.len())),
            At::Refused(fault, _) => Err(*fault),
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        let At::Head(lines, facts) = &mut self.at else { return Ok(Step::Wait) };
        while let Some(line) = lines.next(bytes, self.bounds.head_bytes, Fault::HeadTooLarge)? {
            if !facts.line(line, self.bounds.headers)? {
                continue;
            }
            let length = lines.consumed();
            self.forks = facts.asks_for_tunnel();
            let chunked = facts.is_chunked();
            let content = facts.content_length();
            self.heads += 1;
            match content {
                _ if chunked => self.at = At::ChunkLine(Lines::new()),
                0 => self.end(),
                content => self.at = At::Content(content),
            }
            return Ok(Step::Pass(length));
        }
        Ok(Step::Wait)
    }

    fn chunk_line(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        let At::ChunkLine(lines) = &mut self.at else { return Ok(Step::Wait) };
        let Some(line) = lines.next(bytes, CHUNK_LINE_BYTES, Fault::ChunkExtension)? else { return Ok(Step::Wait) };
        let passed = lines.consumed();
        self.at = match chunk_size(line)? {
            0 => At::Trailers(Lines::new()),
            size => At::ChunkData(size),
        };
        Ok(Step::Pass(passed))
    }

    fn chunk_end(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        match bytes {
            [b'\r', b'\n', ..] => {
                self.at = At::ChunkLine(Lines::new());
                Ok(Step::Pass(2))
            }
            [b'\r'] => Ok(Step::Wait),
            _ => Err(Fault::ChunkEnd),
        }
    }

    fn trailers(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        let At::Trailers(lines) = &mut self.at else { return Ok(Step::Wait) };
        while let Some(line) = lines.next(bytes, self.bounds.head_bytes, Fault::Trailers)? {
            if line.is_empty() {
                let passed = lines.consumed();
                self.end();
                return Ok(Step::Pass(passed));
            }
            super::head::trailer(line)?;
            if lines.seen() > self.bounds.headers {
                return Err(Fault::Trailers);
            }
        }
        Ok(Step::Wait)
    }

    fn end(&mut self) {
        self.at = if self.forks { At::Fork } else { Self::fresh_head() };
    }

    const fn fresh_head() -> At {
        At::Head(Lines::new(), Facts::new())
    }
}

/// How many of `bytes` are within `left`, which shrinks by as many.
fn take(left: &mut u64, bytes: &[u8]) -> usize {
    let passed = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left -= passed as u64;
    passed
}

/// RFC 9112 §7.1: `chunk-size [ chunk-ext ]`, without the white space that is "bad" even there.
fn chunk_size(line: &[u8]) -> Result<u64, Fault> {
    let digits = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
    let (size, extension) = line.split_at(digits);
    // Fifteen digits cannot overflow, and are more than any disk holds.
    if size.is_empty() || size.len() > 15 {
        return Err(Fault::ChunkSize);
    }
    match extension.first() {
        None | Some(b';') => {}
        Some(_) => return Err(Fault::ChunkSize),
    }
    if extension.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
        return Err(Fault::ChunkExtension);
    }
    let text = std::str::from_utf8(size).map_err(|_| Fault::ChunkSize)?;
    u64::from_str_radix(text, 16).map_err(|_| Fault::ChunkSize)
}

#[cfg(test)]
#[path = "framing_tests.rs"]
mod tests;
