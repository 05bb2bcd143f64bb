//! Who did what: commands are recorded in the transaction that carries them out, refusals as they happen, and all of it
//! is written to the log as well.

use std::time::Duration;

use tokio::time::timeout;

use crate::control::order::{actor, require};
use crate::control::{Caller, Control, ControlError};
use crate::domain::{Disposition, Revocation, Right, Timestamp};
use crate::store::{AuditQuery, AuditRecord, Page};

/// The longest a refusal waits for its record; the log has it then.
const PATIENCE: Duration = Duration::from_secs(2);

impl Control {
    /// Some of the audit trail.
    ///
    /// # Errors
    ///
    /// [`ControlError::Forbidden`] and [`ControlError::Store`].
    pub async fn trail(&self, caller: &Caller, query: AuditQuery) -> Result<Page<AuditRecord>, ControlError> {
        if let Err(refusal) = require(caller, Right::AuditRead) {
            return Err(self.refused(caller, "read", "audit", refusal).await);
        }
        Ok(self.audit.trail(&query).await?)
    }

    /// Writes to the audit trail what never became a command: a refusal at the door. It waits two seconds at most; when the
    /// store cannot take it, the log alone has it.
    pub async fn note(&self, record: AuditRecord) {
        log(&record);
        let failure = match timeout(PATIENCE, self.audit.record(vec![record])).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the store took too long".to_owned(),
        };
        tracing::warn!(error = failure, "a refusal is missing from the audit trail");
    }

    /// Writes to the audit trail what is only done when it is written there.
    ///
    /// # Errors
    ///
    /// [`ControlError::Store`]; the record may be missing then.
    pub(super) async fn note_durably(&self, record: AuditRecord) -> Result<(), ControlError> {
        self.read(self.audit.record(vec![record.clone()])).await?;
        log(&record);
        Ok(())
    }

    /// Notes a refusal for want of a right, and hands it on; other errors are nobody's doing and only handed on.
    pub(super) async fn refused(
        &self,
        caller: &Caller,
        action: &str,
        subject: &str,
        error: ControlError,
    ) -> ControlError {
        self.note_refusal(caller, action, subject, &error).await;
        error
    }

    pub(super) async fn note_refusal(&self, caller: &Caller, action: &str, subject: &str, error: &ControlError) {
        if matches!(error, ControlError::Forbidden(_)) {
            let mut record = self.record(caller, self.clock.now(), action, subject.to_owned(), None);
            record.result = "refused".to_owned();
            self.note(record).await;
        }
    }

    /// The record of a revocation; what comes of it is filled in by the store.
    pub(super) fn record_of(&self, caller: &Caller, revocation: &Revocation) -> AuditRecord {
        let subject = revocation.selector.canonical();
        self.record(caller, revocation.created_at, "revoke", subject, revocation.reason.as_deref())
    }

    pub(super) fn record(
        &self,
        caller: &Caller,
        at: Timestamp,
        action: &str,
        subject: String,
        reason: Option<&str>,
    ) -> AuditRecord {
        AuditRecord {
            sequence: 0,
            at,
            actor: actor(caller).into(),
            address: caller.address.map_or_else(|| "-".to_owned(), |address| address.to_string()),
            action: action.to_owned(),
            subject,
            reason: reason.map(str::to_owned),
            result: String::new(),
            revocation: None,
        }
    }

    /// Writes to the log what became of commands.
    pub(super) fn log_outcomes(&self, records: Vec<AuditRecord>, dispositions: &[Disposition]) {
        for (mut record, disposition) in records.into_iter().zip(dispositions) {
            let (result, id) = disposition.outcome();
            record.result = result.to_owned();
            record.revocation = Some(id);
            log(&record);
        }
    }
}

/// One line of the log. Texts that callers choose are quoted, so that none can pass for a line of its own.
fn log(record: &AuditRecord) {
    tracing::info!(
        target: "portcullis::audit",
        actor = ?record.actor,
        address = record.address,
        action = record.action,
        subject = ?record.subject,
        reason = record.reason.as_ref().map(tracing::field::debug),
        result = record.result,
        revocation = record.revocation.as_ref().map(tracing::field::display),
        "audit"
    );
}
