//! What a snapshot looks like in bytes: a header, the ledger's blocks, and a checksum of all checksums at the end, so that
//! whatever was changed, cut off or added is noticed.

use std::io::{self, Read, Write};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::domain::{Checkpoint, Position, Timestamp};
use crate::sync::ledger::{Block, BlockError, Image, VERSION, finish};

const MAGIC: &[u8; 8] = b"portcull";
/// A header is some fifty bytes; what says otherwise is none.
const MOST_HEADER_BYTES: u32 = 1_024;

/// Why bytes are no snapshot.
#[derive(Debug, thiserror::Error)]
pub(in crate::sync) enum FormatError {
    /// The file cannot be read, or ends too early.
    #[error("it is cut off or cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Something else.
    #[error("it is no snapshot")]
    Foreign,
    /// Another program wrote it.
    #[error("it has version {0} and this program reads version {VERSION}")]
    Version(u16),
    /// A checksum says otherwise.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

impl From<BlockError> for FormatError {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::Read(error) => Self::Read(error),
            BlockError::Damaged => Self::Damaged("the checksum of a block is wrong"),
            BlockError::Record(_) => Self::Damaged("a record cannot be read"),
        }
    }
}

#[derive(Deserialize, Serialize)]
struct Header {
    proved_at: u64,
    position: u64,
    mark: Option<u64>,
    records: u64,
    distinct: u64,
    outdated: u64,
    blocks: u64,
}

/// Writes a snapshot.
pub(super) fn write(image: &Image, out: &mut impl Write) -> io::Result<()> {
    let header = Header {
        proved_at: image.proved_at.as_secs(),
        position: image.checkpoint.position.get(),
        mark: image.checkpoint.mark,
        records: image.records,
        distinct: image.distinct as u64,
        outdated: image.outdated as u64,
        blocks: image.blocks.len() as u64,
    };
    let header = postcard::to_allocvec(&header).map_err(io::Error::other)?;
    let length = u32::try_from(header.len()).map_err(io::Error::other)?;
    let mut head = Vec::with_capacity(MAGIC.len() + 6 + header.len());
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&length.to_le_bytes());
    head.extend_from_slice(&header);
    out.write_all(&head)?;
    let mut all = Context::new(&SHA256);
    all.update(&head);
    out.write_all(digest(&SHA256, &head).as_ref())?;
    for block in &image.blocks {
        block.write(out)?;
        all.update(block.digest());
    }
    out.write_all(&finish(all))
}

/// Reads a snapshot to its end, and checks all of it. It takes no more memory than what it has read.
pub(super) fn read(input: &mut impl Read) -> Result<Image, FormatError> {
    let (head, header) = read_header(input)?;
    let mut all = Context::new(&SHA256);
    all.update(&head);
    let mut blocks = Vec::new();
    for _ in 0..header.blocks {
        let block = Block::read(input)?;
        all.update(block.digest());
        blocks.push(Arc::new(block));
    }
    let mut told = [0; 32];
    input.read_exact(&mut told)?;
    if told != finish(all) {
        return Err(FormatError::Damaged("the checksum at its end is wrong"));
    }
    if input.read(&mut [0])? > 0 {
        return Err(FormatError::Damaged("it goes on behind its end"));
    }
    let index = |count: u64| usize::try_from(count).unwrap_or(usize::MAX).min(blocks.len());
    let (distinct, outdated) = (index(header.distinct), index(header.outdated));
    let checkpoint = Checkpoint { position: Position::new(header.position), mark: header.mark };
    let proved_at = Timestamp::from_secs(header.proved_at);
    Ok(Image { blocks, distinct, outdated, records: header.records, checkpoint, proved_at, revision: 0 })
}

fn read_header(input: &mut impl Read) -> Result<(Vec<u8>, Header), FormatError> {
    let mut head = vec![0; MAGIC.len() + 6];
    input.read_exact(&mut head).map_err(|_| FormatError::Foreign)?;
    let rest = head.strip_prefix(MAGIC).ok_or(FormatError::Foreign)?;
    let (version, length) = rest.split_first_chunk::<2>().ok_or(FormatError::Foreign)?;
    let version = u16::from_le_bytes(*version);
    if version != VERSION {
        return Err(FormatError::Version(version));
    }
    let length = u32::from_le_bytes(length.try_into().map_err(|_| FormatError::Foreign)?);
    if length > MOST_HEADER_BYTES {
        return Err(FormatError::Damaged("its header is too long"));
    }
    let mut header = vec![0; length as usize];
    input.read_exact(&mut header)?;
    head.extend_from_slice(&header);
    let mut told = [0; 32];
    input.read_exact(&mut told)?;
    if digest(&SHA256, &head).as_ref() != told {
        return Err(FormatError::Damaged("the checksum of its header is wrong"));
    }
    let (header, more) = postcard::take_from_bytes(&header).map_err(|_| FormatError::Damaged("its header is none"))?;
    if more.is_empty() { Ok((head, header)) } else { Err(FormatError::Damaged("its header is none")) }
}
