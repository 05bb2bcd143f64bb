//! Writing: what was read is compared, and what follows from it written, in one script, or nothing is. Whoever finds that
//! another was faster reads again.
//!
//! Every record is compared as a whole with what it was when it was read, so the memberships that follow from it are
//! right whenever it is.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::Cmd;

use crate::store::redis::connection::Connection;
use crate::store::{Backoff, StoreError};

/// How often a write is tried. Each failure means that another writer got on.
const TRIES: u32 = 40;
/// How long the first pause is.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// How long a pause may become.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// How many fields one command of the script names, at most: Lua passes no more than some thousands of arguments.
const FIELDS: usize = 1_000;

/// Compares, then writes. The arguments: how many keys are compared; of each its name, how many fields, and the fields
/// with what they must hold (nothing: they must not be there; no field: the key must not be there). Then the commands:
/// name, key, how many arguments, the arguments.
const SCRIPT: &str = r"
local at = 2
for _ = 1, tonumber(ARGV[1]) do
  local key, n = ARGV[at], tonumber(ARGV[at + 1])
  if n == 0 and redis.call('EXISTS', key) == 1 then return 0 end
  if n > 0 then
    local fields = {}
    for i = 1, n do fields[i] = ARGV[at + 2 * i] end
    local held = redis.call('HMGET', key, unpack(fields))
    for i = 1, n do
      if (held[i] or '') ~= ARGV[at + 2 * i + 1] then return 0 end
    end
  end
  at = at + 2 + 2 * n
end
while at <= #ARGV do
  local n = tonumber(ARGV[at + 2])
  local call = {ARGV[at], ARGV[at + 1]}
  for i = 1, n do call[i + 2] = ARGV[at + 2 + i] end
  redis.call(unpack(call))
  at = at + 3 + n
end
return 1
";

/// How many of the server's replicas must have a write before it is answered, and how long that may take.
pub(in crate::store::redis) type Wait = Option<(u32, Duration)>;

type Bytes = Vec<u8>;
type ByKey<T> = BTreeMap<String, T>;

/// What is compared and what is written.
#[derive(Debug, Default)]
pub(super) struct Commit {
    /// What fields must hold; nothing where they must not be there.
    held: ByKey<BTreeMap<Bytes, Bytes>>,
    /// Keys that must not be there.
    absent: Vec<String>,
    forgotten: ByKey<Vec<Bytes>>,
    unlisted: ByKey<Vec<Bytes>>,
    kept: ByKey<BTreeMap<Bytes, Bytes>>,
    listed: ByKey<Vec<Bytes>>,
}

impl Commit {
    /// Only if `field` still holds `raw`; `None` if it was not there.
    pub(super) fn only_if(&mut self, key: &str, field: impl Into<Bytes>, raw: Option<&[u8]>) {
        self.held.entry(key.to_owned()).or_default().insert(field.into(), raw.unwrap_or_default().to_vec());
    }

    /// Only if there is no such key.
    pub(super) fn only_without(&mut self, key: String) {
        self.absent.push(key);
    }

    /// Sets a field of a hash.
    pub(super) fn keep(&mut self, key: &str, field: impl Into<Bytes>, value: Bytes) {
        self.kept.entry(key.to_owned()).or_default().insert(field.into(), value);
    }

    /// Deletes a field of a hash.
    pub(super) fn forget(&mut self, key: &str, field: impl Into<Bytes>) {
        self.forgotten.entry(key.to_owned()).or_default().push(field.into());
    }

    /// Moves a member of a sorted set.
    pub(super) fn relist(&mut self, key: &str, from: Option<Bytes>, to: Option<Bytes>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.unlisted.entry(key.to_owned()).or_default().push(from);
        }
        if let Some(to) = to {
            self.listed.entry(key.to_owned()).or_default().push(to);
        }
    }

    /// Whether nothing would be written.
    pub(super) fn is_empty(&self) -> bool {
        self.forgotten.is_empty() && self.unlisted.is_empty() && self.kept.is_empty() && self.listed.is_empty()
    }

    /// Carries it out; `false` if another was faster, and nothing was written.
    pub(super) async fn run(&self, connection: &Connection) -> Result<bool, StoreError> {
        if self.is_empty() {
            return Ok(true);
        }
        connection.run(&self.command()).await
    }

    /// The same, and what was written is on as many replicas as is asked for. The connection is held up meanwhile.
    pub(super) async fn run_safely(&self, connection: &Connection, wait: Wait) -> Result<bool, StoreError> {
        let Some((replicas, patience)) = wait.filter(|_| !self.is_empty()) else { return self.run(connection).await };
        let mut pipe = redis::pipe();
        pipe.add_command(self.command());
        pipe.cmd("WAIT").arg(replicas).arg(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
        let (written, copies): (bool, u32) = connection.pipe(&pipe).await?;
        if written && copies < replicas {
            let text = format!("stored on too few replicas: {copies} of {replicas} confirmed it in time");
            return Err(StoreError::Unavailable(text.into()));
        }
        Ok(written)
    }

    fn command(&self) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(SCRIPT).arg(1).arg(super::keys::SESSIONS);
        let groups = self.held.iter().flat_map(|(key, fields)| {
            let fields: Vec<_> = fields.iter().collect();
            fields.chunks(FIELDS).map(|some| (key, some.to_vec())).collect::<Vec<_>>()
        });
        let groups: Vec<_> = groups.collect();
        command.arg(groups.len() + self.absent.len());
        for (key, fields) in groups {
            command.arg(key).arg(fields.len());
            fields.into_iter().for_each(|(field, raw)| {
                command.arg(field).arg(raw);
            });
        }
        self.absent.iter().for_each(|key| {
            command.arg(key).arg(0);
        });
        // Away with the old first: what is set anew stays.
        plain(&mut command, "HDEL", &self.forgotten);
        plain(&mut command, "ZREM", &self.unlisted);
        for (key, fields) in &self.kept {
            for some in fields.iter().collect::<Vec<_>>().chunks(FIELDS) {
                command.arg("HSET").arg(key).arg(some.len() * 2);
                some.iter().for_each(|(field, value)| {
                    command.arg(*field).arg(*value);
                });
            }
        }
        for (key, members) in &self.listed {
            for some in members.chunks(FIELDS) {
                command.arg("ZADD").arg(key).arg(some.len() * 2);
                some.iter().for_each(|member| {
                    command.arg(0).arg(member);
                });
            }
        }
        command
    }
}

fn plain(command: &mut Cmd, name: &str, keys: &ByKey<Vec<Bytes>>) {
    for (key, members) in keys {
        for some in members.chunks(FIELDS) {
            command.arg(name).arg(key).arg(some.len());
            some.iter().for_each(|member| {
                command.arg(member);
            });
        }
    }
}

/// How often to try, and how long to wait in between.
#[derive(Debug)]
pub(super) struct Tries {
    left: u32,
    backoff: Backoff,
}

impl Tries {
    pub(super) const fn new() -> Self {
        Self { left: TRIES, backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE) }
    }

    /// Waits a moment, another for each writer, so that one of them gets through.
    pub(super) async fn again(&mut self) -> Result<(), StoreError> {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            return Err(StoreError::Unavailable("others wrote the same all the while".into()));
        }
        tokio::time::sleep(self.backoff.pause()).await;
        Ok(())
    }
}
