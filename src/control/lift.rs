//! Undoing a revocation, and with it the revocations of sessions that were only named for it. What somebody asked for by
//! itself stands until it is lifted by itself.

use crate::control::named::Ends;
use crate::control::order::{actor, reason, require};
use crate::control::revoke::{TOGETHER, short_answer};
use crate::control::{Caller, Control, ControlError, Receipt};
use crate::domain::{Cutoff, Disposition, Entry, Lift, Recorded, Revocation, RevocationId, Right, SessionKey};
use crate::store::Batch;

impl Control {
    /// Lifts a revocation, and what was named for it. `Ok` promises durability, and that this replica lets pass what nothing
    /// else covers. What needs `admin` to be made, a ban or a sweep, needs it to be lifted.
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
        let held = match self.may_lift(caller, id).await {
            Ok(held) => held,
            Err(refusal) => return Err(self.refused(caller, "lift", &id.to_string(), refusal).await),
        };
        // Those first: while the wider one stands, none of them passes. What is over already names nothing any more.
        let sessions = match held.ending {
            None => self.lift_named(caller, &held.revocation, reason.as_deref()).await?,
            Some(_) => 0,
        };
        let appended = self.commit(self.lifting(caller, &[held.revocation], reason.as_deref())).await?;
        let receipt = self.receipts(appended).into_iter().next().unwrap_or_else(|| Err(short_answer()))?;
        Ok(Receipt { sessions, ..receipt })
    }

    /// The revocation, if `caller` may lift it.
    async fn may_lift(&self, caller: &Caller, id: RevocationId) -> Result<Recorded, ControlError> {
        require(caller, Right::SessionsRevoke)?;
        let held = self.log.find(id).await?.ok_or(ControlError::NotFound(id))?;
        let Revocation { cutoff, selector, .. } = &held.revocation;
        let ban = *cutoff == Cutoff::Absolute && !selector.is_absolute();
        if ban || selector.is_sweeping() {
            require(caller, Right::Admin)?;
        }
        Ok(held)
    }

    /// Lifts what stands for sessions because `wider` named them. Says how many those were.
    async fn lift_named(
        &self,
        caller: &Caller,
        wider: &Revocation,
        reason: Option<&str>,
    ) -> Result<usize, ControlError> {
        let (mut lifted, mut waiting) = (0, Vec::new());
        match Ends::of(wider, self.clock.now()) {
            Ends::Nothing => {}
            Ends::Session(key) => self.named_below(wider, &key, &mut waiting).await?,
            Ends::User(mut query) => loop {
                let page = self.read(self.sessions.sessions(&query)).await?;
                for session in &page.items {
                    self.named(wider, &session.key, &mut waiting).await?;
                    self.named_below(wider, &session.key, &mut waiting).await?;
                }
                lifted += self.lift_all(caller, &mut waiting, reason).await?;
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            },
        }
        Ok(lifted + self.lift_all(caller, &mut waiting, reason).await?)
    }

    async fn named_below(
        &self,
        wider: &Revocation,
        key: &SessionKey,
        found: &mut Vec<Revocation>,
    ) -> Result<(), ControlError> {
        for key in self.read(self.sessions.descendants(key)).await? {
            self.named(wider, &key, found).await?;
        }
        Ok(())
    }

    /// What stands for a session because `wider` named it.
    async fn named(
        &self,
        wider: &Revocation,
        key: &SessionKey,
        found: &mut Vec<Revocation>,
    ) -> Result<(), ControlError> {
        let Some(selector) = wider.naming(key) else { return Ok(()) };
        let standing = self.read(self.log.standing(&selector, self.clock.now())).await?;
        let named = standing.into_iter().map(|held| held.revocation);
        found.extend(named.filter(|held| held.named_for.as_ref() == Some(&wider.selector)));
        Ok(())
    }

    async fn lift_all(
        &self,
        caller: &Caller,
        waiting: &mut Vec<Revocation>,
        reason: Option<&str>,
    ) -> Result<usize, ControlError> {
        let mut lifted = 0;
        for some in waiting.chunks(TOGETHER) {
            let appended = self.commit(self.lifting(caller, some, reason)).await?;
            lifted += appended.dispositions.iter().filter(|what| matches!(what, Disposition::Lifted(_))).count();
        }
        waiting.clear();
        Ok(lifted)
    }

    fn lifting(&self, caller: &Caller, held: &[Revocation], reason: Option<&str>) -> Batch {
        let now = self.clock.now();
        let entry = |held: &Revocation| Entry::Lift { id: held.id, lift: Lift { at: now, actor: actor(caller) } };
        let record = |held: &Revocation| self.record(caller, now, "lift", held.selector.canonical(), reason);
        let seen = self.index.checkpoint();
        Batch { entries: held.iter().map(entry).collect(), audit: held.iter().map(record).collect(), now, seen }
    }
}
