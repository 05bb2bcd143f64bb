//! Where in a stream of WebSocket frames one is (RFC 6455 §5.2), so that a frame of ours can be put between two of theirs.
//!
//! Payloads are not looked into and nothing is refused: what both ends make of their frames is theirs to know. Only a length that
//! no frame may have leaves the place unknown for good; then nothing is put in any more.

/// A Close frame's opcode.
const CLOSE: u8 = 0x8;

/// Follows a stream of frames.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frames {
    state: State,
    opcode: u8,
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In a header, of which so many bytes have come.
    Head { come: u8, header: Header },
    /// In a payload, of which so many bytes are to come.
    Payload(u64),
    /// Nobody knows where.
    Lost,
}

/// What is known of a header's form.
#[derive(Clone, Copy, Debug, Default)]
struct Header {
    /// Bytes up to the mask.
    unmasked: u8,
    /// Bytes in all.
    whole: u8,
    length: u64,
}

impl Default for State {
    fn default() -> Self {
        Self::Head { come: 0, header: Header::default() }
    }
}

impl Frames {
    /// Whether no frame is under way.
    pub(super) const fn is_between(&self) -> bool {
        matches!(self.state, State::Head { come: 0, .. })
    }

    /// Whether a Close frame has passed: after it there are no more.
    pub(super) const fn has_closed(&self) -> bool {
        self.closed
    }

    /// These bytes have passed.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.step(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// How many of these bytes, which come next, belong to the frame under way.
    pub(super) fn under_way(&self, bytes: &[u8]) -> usize {
        let mut ahead = *self;
        let mut taken = 0;
        while !ahead.is_between() && taken < bytes.len() {
            taken += ahead.step(bytes.get(taken..).unwrap_or_default());
        }
        taken
    }

    /// Takes bytes up to the end of the header or of the payload; at least one where there is one.
    fn step(&mut self, bytes: &[u8]) -> usize {
        match self.state {
            State::Lost => bytes.len(),
            State::Payload(left) => {
                let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                self.enter_payload(left - taken as u64);
                taken
            }
            State::Head { come, header } => {
                bytes.first().inspect(|byte| self.head(**byte, come, header)).map_or(0, |_| 1)
            }
        }
    }

    /// One more byte of a header.
    fn head(&mut self, byte: u8, come: u8, mut header: Header) {
        match come {
            0 => self.opcode = byte & 0x0f,
            1 => header = Header::of(byte),
            at if at < header.unmasked => header.length = header.length << 8 | u64::from(byte),
            _ => {}
        }
        if come >= 1 && come + 1 == header.whole {
            return self.enter_payload(header.length);
        }
        self.state = State::Head { come: come + 1, header };
    }

    /// So much of the payload is to come.
    fn enter_payload(&mut self, left: u64) {
        self.state = match left {
            // "The most significant bit MUST be 0".
            left if left >> 63 == 1 => State::Lost,
            0 => {
                self.closed |= self.opcode == CLOSE;
                State::default()
            }
            left => State::Payload(left),
        };
    }
}

impl Header {
    /// By its second byte.
    const fn of(byte: u8) -> Self {
        let (extended, length) = match byte & 0x7f {
            126 => (2, 0),
            127 => (8, 0),
            short => (0, short as u64),
        };
        let unmasked = 2 + extended;
        let mask = if byte & 0x80 == 0 { 0 } else { 4 };
        Self { unmasked, whole: unmasked + mask, length }
    }
}

/// A Close frame (RFC 6455 §5.5.1), masked as a client's must be when there is a mask. The reason has at most 123 bytes.
pub(super) fn close(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let payload = code.to_be_bytes().into_iter().chain(reason.bytes().take(123));
    let length = 2 + reason.len().min(123);
    // At most 125.
    let length = u8::try_from(length).unwrap_or_default();
    let mut frame = vec![0x80 | CLOSE, length | if mask.is_some() { 0x80 } else { 0 }];
    frame.extend(mask.iter().flatten());
    let mask = mask.unwrap_or_default();
    frame.extend(payload.zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match length {
            0..126 => frame.push(mask | length as u8),
            126..0x1_0000 => {
                frame.push(mask | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(if masked { &[1, 2, 3, 4][..] } else { &[] });
        frame.extend(std::iter::repeat_n(b'x', length));
        frame
    }

    #[test]
    fn a_close_frame_is_noticed_when_it_is_whole() {
        let close = close(1008, "why", Some([1, 2, 3, 4]));
        assert_eq!(close, [0x88, 0x85, 1, 2, 3, 4, 1 ^ 3, 2 ^ 0xf0, 3 ^ b'w', 4 ^ b'h', 1 ^ b'y']);
        let mut frames = Frames::default();
        frames.advance(&close[..close.len() - 1]);
        assert!(!frames.has_closed() && !frames.is_between());
        frames.advance(&close[close.len() - 1..]);
        assert!(frames.has_closed() && frames.is_between());
    }

    #[test]
    fn a_length_that_no_frame_has_is_never_followed_by_one() {
        let mut frames = Frames::default();
        frames.advance(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]);
        frames.advance(&[0; 100]);
        assert!(!frames.is_between());
        assert_eq!(frames.under_way(&[0; 7]), 7);
    }

    proptest! {
        #[test]
        fn the_end_of_a_frame_is_found_however_it_is_cut(
            shapes in prop::collection::vec((0..16_u8, prop_oneof![0..200_usize, 65_000..66_000_usize], any::<bool>()), 1..6),
            pieces in prop::collection::vec(1..30_000_usize, 1..8),
        ) {
            let each: Vec<_> = shapes.iter().map(|(opcode, length, masked)| frame(*opcode, *length, *masked)).collect();
            let bytes = each.concat();
            let mut ends = vec![0];
            each.iter().for_each(|frame| ends.push(ends[ends.len() - 1] + frame.len()));
            let (mut frames, mut at) = (Frames::default(), 0);
            for piece in pieces.iter().cycle() {
                prop_assert_eq!(frames.is_between(), ends.contains(&at));
                let end = ends.iter().find(|end| **end >= at).unwrap();
                prop_assert_eq!(frames.under_way(&bytes[at..]), end - at);
                if at == bytes.len() { break; }
                let next = bytes.len().min(at + piece);
                frames.advance(&bytes[at..next]);
                at = next;
            }
            prop_assert_eq!(frames.has_closed(), shapes.iter().any(|(opcode, ..)| *opcode == 8));
        }

        #[test]
        fn no_bytes_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut frames = Frames::default();
            prop_assert!(frames.under_way(&bytes) == 0);
            frames.advance(&bytes);
            prop_assert!(frames.under_way(&bytes) <= bytes.len());
        }
    }
}
