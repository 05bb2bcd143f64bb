//! How an answer ends whose token died on the way: by the last words its format has for that, or by being torn off visibly.
//!
//! An event stream may end at any time, and a client drops an event that has no blank line behind it; so a comment is added, on
//! a line of its own, and no blank line. A gRPC answer ends with a status, where a message is complete. Anything else must
//! never look whole: HTTP/1.1 closes without the last chunk, HTTP/2 resets the stream.

use hyper::body::{Bytes, Frame};
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

/// Said to whoever is cut, whatever killed the token.
const WORDS: &str = "the token is no longer valid";

/// The last words an answer may have.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Ending {
    /// None: it breaks off.
    TornOff,
    /// A comment (WHATWG HTML §9.2.6).
    Events {
        /// Whether the last byte sent ended a line, or none was sent.
        at_line_start: bool,
    },
    /// Trailers with a status.
    Grpc(Messages),
}

/// Where in the sequence of length-prefixed messages a gRPC answer is.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Messages {
    /// Bytes of a prefix that came so far.
    prefix_bytes: u8,
    /// The length, as far as it came.
    length: u32,
    /// Bytes of a message still to come.
    left: u32,
}

/// A message's prefix: a flag and a length.
const PREFIX_BYTES: u8 = 5;

impl Ending {
    /// How an answer with this head ends.
    pub(super) fn of(fields: &HeaderMap, is_http2: bool) -> Self {
        let media = fields.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let is_plain = !fields.contains_key(CONTENT_ENCODING) && !fields.contains_key(CONTENT_LENGTH);
        if is_plain && is_media(media, b"text/event-stream", b";") {
            return Self::Events { at_line_start: true };
        }
        // grpc-web has its trailers in the body, in a form that only it knows.
        if is_http2 && is_media(media, b"application/grpc", b";+") {
            return Self::Grpc(Messages::default());
        }
        Self::TornOff
    }

    /// These bytes are on their way to the client.
    pub(super) fn note(&mut self, bytes: &[u8]) {
        match self {
            Self::TornOff => {}
            Self::Events { at_line_start } => {
                *at_line_start = bytes.last().map_or(*at_line_start, |last| matches!(last, b'\n' | b'\r'));
            }
            Self::Grpc(messages) => messages.note(bytes),
        }
    }

    /// The last words, where there are any.
    pub(super) fn last_words(&self) -> Option<Frame<Bytes>> {
        match self {
            Self::TornOff => None,
            Self::Events { at_line_start } => {
                let line = if *at_line_start { "" } else { "\n" };
                Some(Frame::data(Bytes::from(format!("{line}: {WORDS}\n"))))
            }
            Self::Grpc(messages) => messages.is_between().then(|| Frame::trailers(status())),
        }
    }
}

/// Whether a `Content-Type` begins with `media` and goes on, if at all, after one of `ends` or a blank.
fn is_media(value: &[u8], media: &[u8], ends: &[u8]) -> bool {
    let (head, rest) = value.split_at(media.len().min(value.len()));
    head.eq_ignore_ascii_case(media) && rest.first().is_none_or(|next| ends.contains(next) || *next == b' ')
}

/// 16 is `UNAUTHENTICATED`.
fn status() -> HeaderMap {
    HeaderMap::from_iter([
        (HeaderName::from_static("grpc-status"), HeaderValue::from_static("16")),
        (HeaderName::from_static("grpc-message"), HeaderValue::from_static(WORDS)),
    ])
}

impl Messages {
    fn note(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let taken = bytes.len().min(self.left as usize);
                // No more than `left`, which is 32 bits wide.
                self.left -= taken as u32;
                bytes = bytes.get(taken..).unwrap_or_default();
                continue;
            }
            bytes = rest;
            if self.prefix_bytes > 0 {
                self.length = self.length << 8 | u32::from(*first);
            }
            self.prefix_bytes += 1;
            if self.prefix_bytes == PREFIX_BYTES {
                *self = Self { left: self.length, ..Self::default() };
            }
        }
    }

    /// Whether a message has just ended, or none has begun.
    const fn is_between(&self) -> bool {
        self.prefix_bytes == 0 && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let parse = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        fields.iter().map(parse).collect()
    }

    fn events(sent: &[&str]) -> String {
        let mut ending = Ending::of(&head(&[("content-type", "text/event-stream; charset=utf-8")]), false);
        sent.iter().for_each(|piece| ending.note(piece.as_bytes()));
        String::from_utf8(ending.last_words().unwrap().into_data().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn an_event_streams_comment_has_a_line_of_its_own_and_finishes_no_event() {
        let comment = ": the token is no longer valid\n";
        for whole in [&[][..], &["data: x\n\n"], &["data: x\n"], &["data: x\r"], &["data: x", "\n", ""]] {
            assert_eq!(events(whole), comment, "{whole:?}");
        }
        assert_eq!(events(&["data: x\n\nda", "ta: unfin"]), format!("\n{comment}"));
    }

    #[test]
    fn only_what_can_say_it_says_it() {
        let of = |fields: &[(&'static str, &'static str)], is_http2| Ending::of(&head(fields), is_http2);
        let grpc = Ending::Grpc(Messages::default());
        assert_eq!(of(&[("content-type", "application/grpc+proto")], true), grpc);
        assert_eq!(of(&[("content-type", "Application/gRPC")], true), grpc);
        for (fields, is_http2) in [
            (&[("content-type", "application/grpc")][..], false),
            (&[("content-type", "application/grpc-web+proto")], true),
            (&[("content-type", "text/event-streams")], true),
            (&[("content-type", "text/event-stream"), ("content-encoding", "gzip")], true),
            (&[("content-type", "text/event-stream"), ("content-length", "9")], true),
            (&[("content-type", "text/html")], true),
            (&[], true),
        ] {
            let ending = of(fields, is_http2);
            assert!(ending == Ending::TornOff && ending.last_words().is_none(), "{fields:?}");
        }
    }

    fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
        let framed = |message: &Vec<u8>| [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat();
        messages.iter().flat_map(framed).collect()
    }

    #[test]
    fn a_grpc_answer_ends_with_unauthenticated() {
        let mut ending = Ending::of(&head(&[("content-type", "application/grpc")]), true);
        let trailers = ending.last_words().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "16");
        ending.note(&framed(&[b"hello".to_vec()])[..7]);
        assert!(ending.last_words().is_none(), "half a message is not followed by a status");
    }

    proptest! {
        #[test]
        fn a_message_ends_where_it_does_however_it_is_cut(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            pieces in prop::collection::vec(1..20_usize, 1..10),
        ) {
            let bytes = framed(&messages);
            let mut ends = vec![0];
            messages.iter().for_each(|message| ends.push(ends[ends.len() - 1] + 5 + message.len()));
            let (mut tracked, mut at) = (Messages::default(), 0);
            for piece in pieces.iter().cycle() {
                prop_assert_eq!(tracked.is_between(), ends.contains(&at));
                if at == bytes.len() { break; }
                let next = bytes.len().min(at + piece);
                tracked.note(&bytes[at..next]);
                at = next;
            }
        }
    }
}
