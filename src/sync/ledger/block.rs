//! Some hundred records in a row, compressed, under a checksum. A block never changes, so whoever wants to read the ledger
//! takes its blocks along and needs no lock.

use std::io::{self, Read, Write};

use aws_lc_rs::digest::{Context, SHA256};

use crate::sync::ledger::record::{self, Kept, RecordError};

/// A block is closed when its records have so many bytes.
pub(super) const FULL_BYTES: usize = 64 << 10;
/// No block has more; what says so is damaged. A record has some kilobytes at most.
const MOST_BYTES: u32 = 1 << 20;
/// The bytes before a block: how many follow, how many they unpack to, how many records, and the checksum of all that.
const HEAD_BYTES: usize = 4 + 4 + 4 + DIGEST_BYTES;
pub(super) const DIGEST_BYTES: usize = 32;

/// Some records.
#[derive(Debug)]
pub(in crate::sync) struct Block {
    records: u32,
    unpacked: u32,
    digest: [u8; DIGEST_BYTES],
    packed: Box<[u8]>,
}

/// Why bytes are no block.
#[derive(Debug, thiserror::Error)]
pub(in crate::sync) enum BlockError {
    /// The file cannot be read, or ends too early.
    #[error("it is cut off or cannot be read")]
    Read(#[from] io::Error),
    /// The checksum says otherwise, or what it holds makes no sense.
    #[error("its checksum is wrong")]
    Damaged,
    /// A record of another program.
    #[error("a record cannot be read")]
    Record(#[from] postcard::Error),
}

impl From<RecordError> for BlockError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Format(error) => Self::Record(error),
            RecordError::Selector(_) => Self::Damaged,
        }
    }
}

impl Block {
    /// Packs `count` records that were written one behind the other.
    pub(super) fn pack(records: &[u8], count: u32) -> Self {
        let packed = lz4_flex::block::compress(records).into_boxed_slice();
        let unpacked = u32::try_from(records.len()).unwrap_or(u32::MAX);
        let digest = digest(count, unpacked, &packed);
        Self { records: count, unpacked, digest, packed }
    }

    /// How many records it has.
    pub(super) const fn records(&self) -> u32 {
        self.records
    }

    /// How much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.packed.len()
    }

    /// Its checksum.
    pub(in crate::sync) const fn digest(&self) -> &[u8; DIGEST_BYTES] {
        &self.digest
    }

    /// Its records, the oldest first.
    pub(in crate::sync) fn unpack(&self) -> Result<Vec<Kept>, BlockError> {
        let mut bytes = vec![0; self.unpacked as usize];
        let length = lz4_flex::block::decompress_into(&self.packed, &mut bytes).map_err(|_| BlockError::Damaged)?;
        let mut rest = bytes.get(..length).unwrap_or_default();
        let mut all = Vec::with_capacity(self.records as usize);
        while !rest.is_empty() {
            let (kept, more) = record::decode(rest)?;
            all.push(kept);
            rest = more;
        }
        if all.len() == self.records as usize { Ok(all) } else { Err(BlockError::Damaged) }
    }

    /// Writes the block.
    pub(in crate::sync) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let length = u32::try_from(self.packed.len()).unwrap_or(u32::MAX);
        out.write_all(&length.to_le_bytes())?;
        out.write_all(&self.unpacked.to_le_bytes())?;
        out.write_all(&self.records.to_le_bytes())?;
        out.write_all(&self.digest)?;
        out.write_all(&self.packed)
    }

    /// Reads a block, and checks it; never more memory than a good one takes.
    pub(in crate::sync) fn read(input: &mut impl Read) -> Result<Self, BlockError> {
        let mut head = [0; HEAD_BYTES];
        input.read_exact(&mut head)?;
        let (length, rest) = number(&head)?;
        let (unpacked, rest) = number(rest)?;
        let (records, rest) = number(rest)?;
        let expected: [u8; DIGEST_BYTES] = rest.try_into().map_err(|_| BlockError::Damaged)?;
        // A record takes several bytes, so that the number of records is bounded too.
        if unpacked > MOST_BYTES || length > MOST_BYTES * 2 || records > unpacked {
            return Err(BlockError::Damaged);
        }
        let mut packed = vec![0; length as usize].into_boxed_slice();
        input.read_exact(&mut packed)?;
        let digest = digest(records, unpacked, &packed);
        if digest != expected {
            return Err(BlockError::Damaged);
        }
        Ok(Self { records, unpacked, digest, packed })
    }
}

fn number(bytes: &[u8]) -> Result<(u32, &[u8]), BlockError> {
    let (number, rest) = bytes.split_first_chunk::<4>().ok_or(BlockError::Damaged)?;
    Ok((u32::from_le_bytes(*number), rest))
}

fn digest(records: u32, unpacked: u32, packed: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut context = Context::new(&SHA256);
    context.update(&records.to_le_bytes());
    context.update(&unpacked.to_le_bytes());
    context.update(packed);
    finish(context)
}

/// The checksum of what `context` was fed.
pub(in crate::sync) fn finish(context: Context) -> [u8; DIGEST_BYTES] {
    let mut digest = [0; DIGEST_BYTES];
    let full = context.finish();
    digest.iter_mut().zip(full.as_ref()).for_each(|(to, from)| *to = *from);
    digest
}
