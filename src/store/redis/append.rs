//! Batches, compared with what stands and written as one, in two or three questions to the server however many they are.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use redis::{Cmd, pipe};

use crate::domain::{Checkpoint, Disposition, Position, Recorded, RevocationId, Timestamp};
use crate::store::decide::{Write, decide, told};
use crate::store::redis::connection::Connection;
use crate::store::redis::fault;
use crate::store::redis::keys::{self, AUDIT, DUE, HEAD, NEWS, POSITIONS, ROWS, SELECTORS, SWEEPS};
use crate::store::redis::lua::Lua;
use crate::store::redis::rows;
use crate::store::redis::schema::{OLDEST, SCHEMA};
use crate::store::redis::sessions::{UNBEGUN, concerns_sessions};
use crate::store::redis::view::{AFAR, View};
use crate::store::{Appended, AuditRecord, Backoff, Batch, ENDED_RETENTION, StoreError};

/// How often a group is decided anew because others wrote in between.
const ATTEMPTS: usize = 30;

static APPEND: LazyLock<Lua> =
    LazyLock::new(|| Lua::new(concat!(include_str!("continuity.lua"), include_str!("append.lua"))));

/// How a write is made safe, and how much of the news is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// How many replicas must have it, and how long that may take.
    pub(super) wait: Option<(u32, Duration)>,
    /// How many positions back the news goes.
    pub(super) kept: u64,
}

/// What became of a group.
pub(super) struct Outcome {
    /// One for each batch.
    pub(super) appended: Vec<Appended>,
    /// What was written to the log, with the true positions.
    pub(super) writes: Vec<Write>,
}

/// What was decided about a group, before its place in the log is known.
struct Plan {
    view: View,
    dispositions: Vec<Vec<Disposition>>,
    writes: Vec<Write>,
    audit: Vec<AuditRecord>,
    steps: u64,
}

/// Carries out `batches`, all or none.
pub(super) async fn append(connection: &Connection, terms: Terms, batches: &[Batch]) -> Result<Outcome, StoreError> {
    let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(50));
    for _ in 0..ATTEMPTS {
        let plan = Plan::of(View::read(connection, batches).await?, batches);
        let call = plan.call(batches, terms.kept)?;
        match carry_out(connection, terms, &call).await? {
            Answer::Written(before, end) => return Ok(plan.outcome(before, end)),
            Answer::Lost => return Err(StoreError::Lost("the log does not know a place this replica has read".into())),
            Answer::Conflict => tokio::time::sleep(backoff.pause()).await,
        }
    }
    Err(StoreError::Unavailable("others kept writing about the same".into()))
}

/// What the script says.
enum Answer {
    /// The log's end before and after.
    Written(Position, Position),
    Conflict,
    Lost,
}

async fn carry_out(connection: &Connection, terms: Terms, call: &Cmd) -> Result<Answer, StoreError> {
    let Some((replicas, patience)) = terms.wait else {
        return read(&connection.script::<Vec<redis::Value>>(&APPEND, call).await?);
    };
    let mut calls = pipe();
    calls.add_command(call.clone());
    calls.cmd("WAIT").arg(replicas).arg(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
    let (said, copies): (Vec<redis::Value>, u32) = connection.script_pipe(&APPEND, &calls).await?;
    let answer = read(&said)?;
    if copies < replicas && matches!(answer, Answer::Written(..)) {
        let text = format!("stored on too few replicas: {copies} of {replicas} confirmed it in time");
        return Err(StoreError::Unavailable(text.into()));
    }
    Ok(answer)
}

fn read(said: &[redis::Value]) -> Result<Answer, StoreError> {
    let number = |at: usize| said.get(at).and_then(|value| redis::from_redis_value_ref::<u64>(value).ok());
    let word = said.first().and_then(|value| redis::from_redis_value_ref::<String>(value).ok());
    match (word.as_deref(), number(1), number(2)) {
        (Some("WRITTEN"), Some(before), Some(end)) => Ok(Answer::Written(Position::new(before), Position::new(end))),
        (Some("CONFLICT"), ..) => Ok(Answer::Conflict),
        (Some("LOST"), ..) => Ok(Answer::Lost),
        _ => Err(fault::strange_answer()),
    }
}

impl Plan {
    fn of(mut view: View, batches: &[Batch]) -> Self {
        let mut head = AFAR;
        let (mut writes, mut audit) = (Vec::new(), Vec::new());
        let dispositions = batches.iter().map(|batch| {
            let mut records = batch.audit.iter();
            let decided = batch.entries.iter().map(|entry| {
                let decision = decide(entry, view.known(entry), batch.now, &mut head);
                decision.writes.iter().for_each(|write| view.write(write, batch.now));
                writes.extend(decision.writes);
                let record = records.next().filter(|_| !decision.repeated);
                audit.extend(record.map(|record| told(record, &decision.disposition)));
                decision.disposition
            });
            let decided: Vec<Disposition> = decided.collect();
            audit.extend(records.cloned());
            decided
        });
        let dispositions = dispositions.collect();
        Self { view, dispositions, writes, audit, steps: head.get() - AFAR.get() }
    }

    /// The call of the script, in the order in which that takes its arguments.
    fn call(&self, batches: &[Batch], kept: u64) -> Result<Cmd, StoreError> {
        let mut call = APPEND.call(&[HEAD, NEWS, ROWS, SELECTORS, POSITIONS, DUE, AUDIT, SWEEPS]);
        let (mark, epoch) = (digits()?, digits()?);
        call.arg(mark).arg(epoch).arg(SCHEMA).arg(OLDEST).arg(kept);
        seen(&mut call, batches);
        call.arg(self.view.read_rows.len());
        for (id, position) in &self.view.read_rows {
            call.arg(&id[..]).arg(&position[..]);
        }
        call.arg(self.view.read_selectors.len());
        for (selector, value) in &self.view.read_selectors {
            call.arg(selector).arg(&value[..]);
        }
        self.rows(&mut call)?;
        let swept: Vec<&Recorded> = self.writes.iter().filter_map(concerns_sessions).collect();
        call.arg(swept.len());
        for held in swept {
            call.arg(&rows::id_bytes(held.revocation.id)[..]).arg(UNBEGUN);
        }
        call.arg(self.audit.len());
        for record in &self.audit {
            call.arg(rows::audit_bytes(record)?);
        }
        call.arg(self.steps);
        Ok(call)
    }

    fn rows(&self, call: &mut Cmd) -> Result<(), StoreError> {
        let written = self.view.written();
        call.arg(written.len());
        for (offset, held, at) in &written {
            let due = due(held, *at).map(|due| due.as_secs().to_string()).unwrap_or_default();
            call.arg(&rows::id_bytes(held.revocation.id)[..]).arg(*offset).arg(rows::body(held)?).arg(due);
        }
        let selectors: Vec<_> = self.view.selectors().collect();
        call.arg(selectors.len());
        for (selector, offset, ids) in selectors {
            call.arg(selector).arg(offset).arg(ids);
        }
        let mut labels: HashMap<String, Vec<(u64, RevocationId)>> = HashMap::new();
        for (offset, held, _) in &written {
            for label in keys::labels(&held.revocation) {
                labels.entry(label).or_default().push((*offset, held.revocation.id));
            }
        }
        call.arg(labels.len());
        for (label, labelled) in labels {
            call.arg(label).arg(labelled.len());
            for (offset, id) in labelled {
                call.arg(offset).arg(&rows::id_bytes(id)[..]);
            }
        }
        Ok(())
    }

    /// The same with its place in the log: `before` was the log's end.
    fn outcome(self, before: Position, end: Position) -> Outcome {
        let dispositions = self.dispositions.into_iter();
        let appended = dispositions.map(|decided| Appended {
            position: end,
            dispositions: decided.into_iter().map(|what| placed(what, before)).collect(),
        });
        let writes = self.writes.into_iter().map(|write| match write {
            Write::Insert(held) => Write::Insert(settled(held, before)),
            Write::Update(held) => Write::Update(settled(held, before)),
        });
        Outcome { appended: appended.collect(), writes: writes.collect() }
    }
}

/// The places in the log that whoever appends has read.
fn seen(call: &mut Cmd, batches: &[Batch]) {
    let mut seen: Vec<Checkpoint> = batches.iter().map(|batch| batch.seen).collect();
    seen.retain(|seen| seen.position != Position::START);
    seen.sort_by_key(|seen| (seen.position, seen.mark));
    seen.dedup();
    call.arg(seen.len());
    for Checkpoint { position, mark } in seen {
        call.arg(position.get()).arg(mark_text(mark));
    }
}

/// A mark as scripts know it.
pub(super) fn mark_text(mark: Option<u64>) -> String {
    mark.map(|mark| format!("{mark:016x}")).unwrap_or_default()
}

/// When a row may be forgotten.
fn due(held: &Recorded, at: Timestamp) -> Option<Timestamp> {
    let ended = held.ending.as_ref().map(|_| at.after(ENDED_RETENTION));
    held.revocation.expires_at.or(ended)
}

fn placed(disposition: Disposition, before: Position) -> Disposition {
    match disposition {
        Disposition::Created(held) => Disposition::Created(settled(held, before)),
        Disposition::Already(held) => Disposition::Already(settled(held, before)),
        Disposition::Lifted(held) => Disposition::Lifted(settled(held, before)),
        Disposition::Ended(held) => Disposition::Ended(settled(held, before)),
        Disposition::Unknown(id) => Disposition::Unknown(id),
    }
}

/// A row whose place was counted from afar, where it is.
fn settled(held: Recorded, before: Position) -> Recorded {
    match held.position.get().checked_sub(AFAR.get()) {
        Some(offset) => Recorded { position: Position::new(before.get() + offset), ..held },
        None => held,
    }
}

/// Eight random hexadecimal digits.
fn digits() -> Result<String, StoreError> {
    let mut bytes = [0_u8; 4];
    SystemRandom::new().fill(&mut bytes).map_err(|_| StoreError::Unavailable("the system has no randomness".into()))?;
    Ok(format!("{:08x}", u32::from_be_bytes(bytes)))
}
