//! The life of a revocation: asked for, allowed, made durable, shown by our own index, and only then answered.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::control::order::{actor, reason, require};
use crate::control::{Caller, Control, ControlError, Receipt, Revoke, Target};
use crate::domain::{Cutoff, Disposition, Entry, InvalidSelector, Lift, Revocation, RevocationId, Right, Timestamp};
use crate::store::{Appended, Backoff, Batch, StoreError};

/// How many commands share a transaction.
const TOGETHER: usize = 1_000;
/// How often a batch is appended before we give up; it keeps its ids, so that it is stored once.
const ATTEMPTS: u32 = 4;

impl Control {
    /// Revokes. `Ok` promises that it is durable and that this replica refuses what it covers.
    ///
    /// # Errors
    ///
    /// [`ControlError::Store`] leaves it unknown whether it will stand; everything else means that nothing was done.
    pub async fn revoke(&self, caller: &Caller, command: Revoke) -> Result<Receipt, ControlError> {
        let revocation = self.ordered(caller, command).await?;
        let appended = self.commit(self.batch(caller, vec![revocation])).await?;
        receipts(appended).next().unwrap_or_else(|| Err(short_answer()))
    }

    /// Revokes many at once, in one transaction of the log each thousand; an answer for each, in order. Tokens in hand may
    /// be revoked so by whoever may revoke; anything else in bulk needs `admin`. Once the store fails, the rest is not tried.
    pub async fn revoke_all(&self, caller: &Caller, commands: Vec<Revoke>) -> Vec<Result<Receipt, ControlError>> {
        let mut answers = Vec::with_capacity(commands.len());
        let tokens_only = commands.iter().all(|command| matches!(command.target, Target::Token(_)));
        let allowed = require(caller, if tokens_only { Right::SessionsRevoke } else { Right::Admin });
        if let Err(refusal) = &allowed {
            self.note_refusal(caller, "revoke", "bulk", refusal).await;
        }
        let mut failed = allowed.err();
        let mut commands = commands.into_iter().peekable();
        while commands.peek().is_some() {
            let some = commands.by_ref().take(TOGETHER);
            match &failed {
                Some(error) => answers.extend(some.map(|_| Err(error.once_more()))),
                None => failed = self.revoke_some(caller, some.collect(), &mut answers).await,
            }
        }
        answers
    }

    /// Lifts a revocation. `Ok` promises durability, and that this replica lets pass what nothing else covers. What needs
    /// `admin` to be made, a ban or a sweep, needs it to be lifted.
    ///
    /// # Errors
    ///
    /// As [`Self::revoke`], and [`ControlError::NotFound`].
    pub async fn lift(
        &self,
        caller: &Caller,
        id: RevocationId,
        reason: Option<String>,
    ) -> Result<Receipt, ControlError> {
        let reason = reason.map(self::reason).transpose()?;
        let subject = match self.may_lift(caller, id).await {
            Ok(subject) => subject,
            Err(refusal) => return Err(self.refused(caller, "lift", &id.to_string(), refusal).await),
        };
        let now = self.clock.now();
        let record = self.record(caller, now, "lift", subject, reason.as_deref());
        let entry = Entry::Lift { id, lift: Lift { at: now, actor: actor(caller) } };
        let appended = self.commit(Batch { entries: vec![entry], audit: vec![record], now }).await?;
        receipts(appended).next().unwrap_or_else(|| Err(short_answer()))
    }

    /// Whether `caller` may lift it; its selector for the audit trail.
    async fn may_lift(&self, caller: &Caller, id: RevocationId) -> Result<String, ControlError> {
        require(caller, Right::SessionsRevoke)?;
        let held = self.log.find(id).await?.ok_or(ControlError::NotFound(id))?.revocation;
        let ban = held.cutoff == Cutoff::Absolute && !held.selector.is_absolute();
        if ban || held.selector.is_sweeping() {
            require(caller, Right::Admin)?;
        }
        Ok(held.selector.canonical())
    }

    /// The revocation a command means, its refusal audited, and a sweeping one announced before it is carried out.
    async fn ordered(&self, caller: &Caller, command: Revoke) -> Result<Revocation, ControlError> {
        let subject = subject(&command.target);
        match self.order(caller, command).await {
            Ok(revocation) => self.announced(caller, revocation).await,
            Err(refusal) => Err(self.refused(caller, "revoke", &subject, refusal).await),
        }
    }

    async fn announced(&self, caller: &Caller, revocation: Revocation) -> Result<Revocation, ControlError> {
        if revocation.selector.is_sweeping() {
            let mut record = self.record_of(caller, &revocation);
            record.result = "attempted".to_owned();
            record.revocation = Some(revocation.id);
            self.audit.record(vec![record]).await?;
        }
        Ok(revocation)
    }

    /// Carries out some commands in one transaction; the error, if the store failed.
    async fn revoke_some(
        &self,
        caller: &Caller,
        commands: Vec<Revoke>,
        answers: &mut Vec<Result<Receipt, ControlError>>,
    ) -> Option<ControlError> {
        let (mut ordered, mut revocations) = (Vec::with_capacity(commands.len()), Vec::with_capacity(commands.len()));
        for command in commands {
            let order = self.ordered(caller, command).await;
            ordered.push(order.map(|revocation| revocations.push(revocation)));
        }
        if revocations.is_empty() {
            answers.extend(ordered.into_iter().map(|order| order.and_then(|()| Err(short_answer()))));
            return None;
        }
        match self.commit(self.batch(caller, revocations)).await {
            Ok(appended) => {
                let mut receipts = receipts(appended);
                let mut next = || receipts.next().unwrap_or_else(|| Err(short_answer()));
                answers.extend(ordered.into_iter().map(|order| order.and_then(|()| next())));
                None
            }
            Err(error) => {
                answers.extend(ordered.into_iter().map(|order| order.and_then(|()| Err(error.once_more()))));
                Some(error)
            }
        }
    }

    fn batch(&self, caller: &Caller, revocations: Vec<Revocation>) -> Batch {
        let audit = revocations.iter().map(|revocation| self.record_of(caller, revocation)).collect();
        Batch { entries: revocations.into_iter().map(Entry::Revoke).collect(), audit, now: self.clock.now() }
    }

    /// Makes a batch durable and waits until our own index shows it.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves it unknown whether the batch was stored; what was stored is applied and audited all the same.
    async fn commit(&self, batch: Batch) -> Result<Appended, ControlError> {
        let deadline = Instant::now() + self.settings.timeout;
        let records = batch.audit.clone();
        let appended =
            timeout_at(deadline, self.append(batch)).await.map_err(|_| late("the store took too long"))??;
        let shown = timeout_at(deadline, self.index.reached(appended.position)).await;
        shown.map_err(|_| late("it is stored, but this replica does not show it yet"))?;
        self.log_outcomes(records, &appended.dispositions);
        Ok(appended)
    }

    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        for _ in 1..ATTEMPTS {
            match self.log.append(batch.clone()).await {
                Err(StoreError::Unavailable(_)) => sleep(backoff.pause()).await,
                answer => return answer,
            }
        }
        self.log.append(batch).await
    }
}

fn receipts(appended: Appended) -> impl Iterator<Item = Result<Receipt, ControlError>> {
    appended.dispositions.into_iter().map(move |disposition| {
        let readmits_from = match &disposition {
            Disposition::Unknown(id) => return Err(ControlError::NotFound(*id)),
            Disposition::Created(held) | Disposition::Already(held) => held.revocation.cutoff.readmits_from(),
            Disposition::Lifted(_) | Disposition::Ended(_) => None::<Timestamp>,
        };
        Ok(Receipt { disposition, readmits_from, position: appended.position })
    })
}

/// What a refused command was about, as far as that can be told without repeating what may be a secret.
fn subject(target: &Target) -> String {
    match target {
        Target::Token(_) => "token".to_owned(),
        Target::Selector(parts) => {
            let selector = crate::domain::Selector::try_from(parts.clone());
            selector.map_or_else(|_: InvalidSelector| "selector".to_owned(), |selector| selector.canonical())
        }
    }
}

fn late(what: &'static str) -> ControlError {
    ControlError::Store(StoreError::Unavailable(what.into()))
}

/// A store that answers for fewer entries than it was given: nothing is known of the rest.
fn short_answer() -> ControlError {
    late("the store left an entry unanswered")
}
