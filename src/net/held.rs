//! What the head guard holds back, and what it puts in the place of the unlawful.

use tokio::io::ReadBuf;

/// No method begins like this, so hyper answers 400 and closes.
pub(super) const UNLAWFUL: &[u8] = b"\0\r\n\r\n";

/// Bytes that were read and not yet handed on.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) bytes: Vec<u8>,
    given: usize,
    /// How many, from `given` on, may go.
    pub(super) cleared: usize,
}

impl Held {
    /// Holds what was read ahead.
    pub(super) const fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, given: 0, cleared: 0 }
    }

    /// What is there to be judged or given.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.given..).unwrap_or_default()
    }

    /// Hands on what may go, as far as there is room.
    pub(super) fn give(&mut self, out: &mut ReadBuf<'_>) {
        let given = self.cleared.min(out.remaining());
        out.put_slice(self.rest().get(..given).unwrap_or_default());
        self.given += given;
        self.cleared -= given;
        if self.given == self.bytes.len() {
            // Heads in pieces are rare; the memory goes back.
            *self = Self::default();
        }
    }

    /// What is still held goes for good, and `bytes` come in its place.
    pub(super) fn replace(&mut self, bytes: Vec<u8>) {
        *self = Self { given: 0, cleared: bytes.len(), bytes };
    }

    /// Makes room to read more.
    pub(super) fn make_room(&mut self) {
        self.bytes.drain(..self.given);
        self.given = 0;
        self.bytes.reserve(4096);
    }
}

/// A head that hyper answers with 431: one field too many.
pub(super) fn too_large(most_headers: usize) -> Vec<u8> {
    let mut head = b"A / HTTP/1.1\r\n".to_vec();
    for _ in 0..=most_headers {
        head.extend_from_slice(b"a:\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}
