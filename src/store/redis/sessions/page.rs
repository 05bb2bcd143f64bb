//! Reading in pages: some members of a sorted set and the records they stand for, taken together in one script, so that
//! they fit each other, and no answer is without a bound.

use redis::Cmd;

use crate::domain::{Session, SessionKey};
use crate::store::StoreError;
use crate::store::redis::connection::Connection;
use crate::store::redis::sessions::keys::{NUMBERS, SESSIONS};
use crate::store::redis::sessions::order::{NUMBER_BYTES, Range, number_of, put_text};
use crate::store::redis::sessions::records::{corrupt, session};

/// The members, and the records whose fields are the members' last bytes.
const PAGE: &str = r"
local members = redis.call(ARGV[1], KEYS[1], ARGV[2], ARGV[3], 'LIMIT', ARGV[4], ARGV[5])
if #members == 0 then return {members, {}} end
local fields = {}
for i, member in ipairs(members) do fields[i] = string.sub(member, -tonumber(ARGV[6])) end
return {members, redis.call('HMGET', KEYS[2], unpack(fields))}
";

/// The numbers of sessions, and the sessions.
const LOOK_UP: &str = r"
local numbers = redis.call('HMGET', KEYS[1], unpack(ARGV))
local fields = {}
for i, number in ipairs(numbers) do fields[i] = number or '' end
return {numbers, redis.call('HMGET', KEYS[2], unpack(fields))}
";

/// A member of a sorted set, and the record it stands for; `None` if that is gone.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) member: Vec<u8>,
    pub(super) raw: Option<Vec<u8>>,
}

/// Which members of which set.
#[derive(Debug)]
pub(super) struct Page<'a> {
    /// The sorted set.
    pub(super) key: &'a str,
    /// The hash of the records.
    pub(super) records: &'a str,
    /// How many bytes at a member's end name its record.
    pub(super) suffix_bytes: usize,
    /// The least, as `ZRANGEBYLEX` takes it.
    pub(super) min: &'a [u8],
    /// The greatest.
    pub(super) max: &'a [u8],
    /// From the greatest to the least.
    pub(super) descending: bool,
    /// So many are left out first.
    pub(super) offset: u64,
    /// At most so many.
    pub(super) limit: usize,
}

impl<'a> Page<'a> {
    /// A page of sessions.
    pub(super) fn of(range: &'a Range, limit: usize) -> Self {
        Self {
            key: range.index.key(),
            records: SESSIONS,
            suffix_bytes: NUMBER_BYTES,
            min: &range.min,
            max: &range.max,
            descending: false,
            offset: 0,
            limit,
        }
    }

    /// The command that reads it.
    pub(super) fn command(&self) -> Cmd {
        let (name, from, to) = match self.descending {
            false => ("ZRANGEBYLEX", self.min, self.max),
            true => ("ZREVRANGEBYLEX", self.max, self.min),
        };
        let mut command = redis::cmd("EVAL");
        command.arg(PAGE).arg(2).arg(self.key).arg(self.records);
        // Redis counts members in a signed integer.
        let offset = self.offset.min(i64::MAX as u64);
        command.arg(name).arg(from).arg(to).arg(offset).arg(self.limit).arg(self.suffix_bytes);
        command
    }

    /// Reads it.
    pub(super) async fn read(&self, connection: &Connection) -> Result<Vec<Listed>, StoreError> {
        connection.run(&self.command()).await.map(listed)
    }
}

/// What [`Page::command`] is answered with.
pub(super) type Answer = (Vec<Vec<u8>>, Vec<Option<Vec<u8>>>);

/// The members of an answer, each with its record.
pub(super) fn listed((members, records): Answer) -> Vec<Listed> {
    members.into_iter().zip(records).map(|(member, raw)| Listed { member, raw }).collect()
}

/// A session as it was read.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) number: u64,
    pub(super) raw: Vec<u8>,
    pub(super) session: Session,
}

impl Held {
    /// The session of a member; `None` if it is gone.
    pub(super) fn of(listed: Listed) -> Result<Option<Self>, StoreError> {
        let Some(raw) = listed.raw else { return Ok(None) };
        let number = number_of(&listed.member).ok_or_else(|| corrupt("a member without a number"))?;
        Ok(Some(Self { number, session: session(&raw)?, raw }))
    }
}

/// A page of sessions, with the last member looked at if there may be more.
pub(super) async fn sessions(
    connection: &Connection,
    page: &Page<'_>,
) -> Result<(Vec<Held>, Option<Vec<u8>>), StoreError> {
    split(page.read(connection).await?, page.limit)
}

/// The sessions of a page, and its last member if it is full.
pub(super) fn split(listed: Vec<Listed>, limit: usize) -> Result<(Vec<Held>, Option<Vec<u8>>), StoreError> {
    let last = listed.last().filter(|_| listed.len() >= limit).map(|last| last.member.clone());
    let held: Result<Vec<_>, _> = listed.into_iter().map(Held::of).collect();
    Ok((held?.into_iter().flatten().collect(), last))
}

/// What finds the sessions of these keys, at most some thousands.
pub(super) fn look_up<'a>(keys: impl IntoIterator<Item = &'a SessionKey>) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(LOOK_UP).arg(2).arg(NUMBERS).arg(SESSIONS);
    keys.into_iter().for_each(|key| {
        command.arg(written_key(key));
    });
    command
}

/// What [`look_up`] is answered with.
pub(super) type Found = (Vec<Option<Vec<u8>>>, Vec<Option<Vec<u8>>>);

/// The sessions found, one for each key.
pub(super) fn found((numbers, records): Found) -> Result<Vec<Option<Held>>, StoreError> {
    let one = |(number, raw): (Option<Vec<u8>>, Option<Vec<u8>>)| match number.zip(raw) {
        Some((member, raw)) => Held::of(Listed { member, raw: Some(raw) }),
        None => Ok(None),
    };
    numbers.into_iter().zip(records).map(one).collect()
}

/// The session of that key.
pub(super) async fn find(connection: &Connection, key: &SessionKey) -> Result<Option<Held>, StoreError> {
    let answer = connection.run(&look_up([key])).await?;
    Ok(found(answer)?.pop().flatten())
}

/// A session's key as a field.
pub(super) fn written_key(key: &SessionKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.issuer.len() + key.id.len() + 2);
    put_text(&mut bytes, &key.issuer);
    put_text(&mut bytes, &key.id);
    bytes
}

/// How many members each range has.
pub(super) async fn counts(connection: &Connection, ranges: &[Range]) -> Result<Vec<u64>, StoreError> {
    let mut pipe = redis::pipe();
    for Range { index, min, max } in ranges {
        pipe.cmd("ZLEXCOUNT").arg(index.key()).arg(&min[..]).arg(&max[..]);
    }
    connection.pipe(&pipe).await
}
