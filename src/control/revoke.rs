//! The life of a revocation: asked for, allowed, made durable, shown by our own index, and only then answered.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::control::order::{Order, require};
use crate::control::{Caller, Control, ControlError, Receipt, Revoke, Target};
use crate::domain::{Disposition, Entry, InvalidSelector, Revocation, Right, Timestamp};
use crate::store::{Appended, Backoff, Batch, StoreError};

/// How many commands share a transaction.
pub(super) const TOGETHER: usize = 1_000;
/// How often a batch is appended before we give up; it keeps its ids, so that it is stored once.
const ATTEMPTS: u32 = 4;

impl Control {
    /// Revokes. `Ok` promises that it is durable and that this replica refuses what it covers, and that the known sessions
    /// it ends were named one by one.
    ///
    /// # Errors
    ///
    /// [`ControlError::Store`] leaves it unknown whether it will stand, or all of it; everything else means that nothing was
    /// done.
    pub async fn revoke(&self, caller: &Caller, command: Revoke) -> Result<Receipt, ControlError> {
        let order = self.ordered(caller, command).await?;
        self.carry_out(caller, vec![order]).await?.next().unwrap_or_else(|| Err(short_answer()))
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

    /// The revocation a command means, its refusal audited, and a sweeping one announced before it is carried out.
    pub(super) async fn ordered(&self, caller: &Caller, command: Revoke) -> Result<Order, ControlError> {
        let subject = subject(&command.target);
        match self.order(caller, command).await {
            Ok(order) => self.announced(caller, order).await,
            Err(refusal) => Err(self.refused(caller, "revoke", &subject, refusal).await),
        }
    }

    async fn announced(&self, caller: &Caller, order: Order) -> Result<Order, ControlError> {
        if order.revocation.selector.is_sweeping() {
            let mut record = self.record_of(caller, &order.revocation);
            record.result = "attempted".to_owned();
            record.revocation = Some(order.revocation.id);
            self.audit.record(vec![record]).await?;
        }
        Ok(order)
    }

    /// Carries out some commands in one transaction; the error, if the store failed.
    async fn revoke_some(
        &self,
        caller: &Caller,
        commands: Vec<Revoke>,
        answers: &mut Vec<Result<Receipt, ControlError>>,
    ) -> Option<ControlError> {
        let (mut ordered, mut orders) = (Vec::with_capacity(commands.len()), Vec::with_capacity(commands.len()));
        for command in commands {
            let order = self.ordered(caller, command).await;
            ordered.push(order.map(|order| orders.push(order)));
        }
        if orders.is_empty() {
            answers.extend(ordered.into_iter().map(|order| order.and_then(|()| Err(short_answer()))));
            return None;
        }
        match self.carry_out(caller, orders).await {
            Ok(mut receipts) => {
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

    /// Carries out orders in one transaction, then names the sessions they end. In this order: a session that is learned
    /// meanwhile is covered by what stands already, or found when the sessions are read.
    pub(super) async fn carry_out(
        &self,
        caller: &Caller,
        orders: Vec<Order>,
    ) -> Result<impl Iterator<Item = Result<Receipt, ControlError>> + use<>, ControlError> {
        let revocations = orders.iter().map(|order| order.revocation.clone()).collect();
        let appended = self.commit(self.batch(caller, revocations)).await?;
        let named = self.name_sessions(caller, &orders).await?;
        let position = appended.position.max(named.position);
        let with = move |(receipt, (sessions, cut)): (Result<Receipt, ControlError>, (usize, usize))| {
            receipt.map(|receipt| Receipt { sessions, cut: receipt.cut + cut, position, ..receipt })
        };
        let named = named.ended.into_iter().zip(named.cut);
        Ok(self.receipts(appended).into_iter().zip(named).map(with))
    }

    pub(super) fn batch(&self, caller: &Caller, revocations: Vec<Revocation>) -> Batch {
        let audit = revocations.iter().map(|revocation| self.record_of(caller, revocation)).collect();
        let entries = revocations.into_iter().map(Entry::Revoke).collect();
        Batch { entries, audit, now: self.clock.now(), seen: self.index.checkpoint() }
    }

    /// What came of each entry, once our own index shows it.
    pub(super) fn receipts(&self, appended: Appended) -> Vec<Result<Receipt, ControlError>> {
        let Appended { dispositions, position } = appended;
        let receipt = |disposition| {
            let (readmits_from, cut) = match &disposition {
                Disposition::Unknown(id) => return Err(ControlError::NotFound(*id)),
                Disposition::Created(held) | Disposition::Already(held) => {
                    (held.revocation.cutoff.readmits_from(), self.live.cut_by(held.revocation.id))
                }
                Disposition::Lifted(_) | Disposition::Ended(_) => (None::<Timestamp>, 0),
            };
            Ok(Receipt { disposition, readmits_from, position, cut, sessions: 0 })
        };
        dispositions.into_iter().map(receipt).collect()
    }

    /// Makes a batch durable and waits until our own index shows it.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves it unknown whether the batch was stored; what was stored is applied and audited all the same.
    pub(super) async fn commit(&self, batch: Batch) -> Result<Appended, ControlError> {
        let deadline = Instant::now() + self.settings.timeout;
        let records = batch.audit.clone();
        let appended =
            timeout_at(deadline, self.append(batch)).await.map_err(|_| late("the store took too long"))??;
        let shown = timeout_at(deadline, self.index.reached(appended.position)).await;
        shown.map_err(|_| late("it is stored, but this replica does not show it yet"))?;
        self.log_outcomes(records, &appended.dispositions);
        Ok(appended)
    }

    /// Asks the store, for as long as a command may take.
    pub(super) async fn read<T>(
        &self,
        question: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, ControlError> {
        let answer = timeout(self.settings.timeout, question).await;
        Ok(answer.map_err(|_| late("the store took too long"))??)
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
pub(super) fn short_answer() -> ControlError {
    late("the store left an entry unanswered")
}
