//! A token's text, which is a secret, and its digest, which is not.

use std::fmt;

/// The longest token looked at, in bytes: a longer one is refused before it is parsed.
const MAX_BYTES: usize = 16 * 1024;

/// The text of a token as it stood in a request. It cannot be displayed or serialised, and its `Debug` tells only its length.
#[derive(Clone, Eq, PartialEq)]
pub struct BearerToken(Box<str>);

impl BearerToken {
    /// The longest token, in bytes.
    pub const MAX_BYTES: usize = MAX_BYTES;

    /// Takes a text of 1 to 16,384 visible ASCII bytes (RFC 6750 §2.1 allows no other); `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // No early exit, so that the compiler can look at many bytes at once.
        let is_graphic = || text.bytes().fold(true, |all, byte| all & byte.is_ascii_graphic());
        let fits = (1..=MAX_BYTES).contains(&text.len()) && is_graphic();
        fits.then(|| Self(text.into()))
    }

    /// The secret itself. For verification and for talking to the issuer; never for logs, errors or keys.
    #[must_use]
    pub const fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BearerToken({} bytes)", self.0.len())
    }
}

/// The SHA-256 of a token: of the signed bytes of a JWT, header and payload without the signature, which can be re-encoded;
/// of the text of an opaque token.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Wraps a digest.
    #[must_use]
    pub const fn new(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }

    /// The digest's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest in lower-case hexadecimal, written to `buffer`.
    #[must_use]
    pub fn hex<'b>(&self, buffer: &'b mut [u8; 64]) -> &'b str {
        for (pair, byte) in buffer.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[hex_digit(byte >> 4), hex_digit(byte & 0xf)]);
        }
        std::str::from_utf8(buffer).unwrap_or_default()
    }

    /// The first 48 bits, in hexadecimal: enough to follow a token through logs.
    #[must_use]
    pub fn prefix(&self) -> String {
        self.to_string().chars().take(12).collect()
    }
}

impl fmt::Display for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hex(&mut [0; 64]))
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenDigest({})", self.prefix())
    }
}

const fn hex_digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'a' + nibble - 10,
    }
}
