//! `lift`: undoes a revocation.

use clap::Args;
use hyper::{Method, StatusCode};
use serde_json::Value;

use super::http::query;
use super::wait::Waiting;
use super::{Failure, Options, output};
use crate::domain::RevocationId;

/// Undo a revocation.
#[derive(Args, Debug)]
pub(super) struct Lift {
    /// The revocation's id
    #[arg(value_parser = str::parse::<RevocationId>)]
    id: RevocationId,
    /// Why; the audit trail keeps it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
}

impl Lift {
    /// Lifts, and prints what came of it. That there is no such revocation is a negative answer.
    pub(super) async fn run(self, options: &Options) -> Result<(), Failure> {
        let admin = self.waiting.admin(options)?;
        let [wait, timeout] = self.waiting.parameters(options);
        let path = format!("/v1/revocations/{}{}", self.id, query(&[("reason", self.reason), wait, timeout]));
        let reply = admin.call(Method::DELETE, &path, None).await?;
        if reply.status == StatusCode::NOT_FOUND {
            output::line(&format!("no revocation {}", self.id))?;
            return Err(Failure::Negative);
        }
        let answer = reply.json()?;
        if options.json {
            output::json(&answer)?;
            return self.waiting.tell(&answer, true);
        }
        let verb = if answer.get("already") == Some(&Value::Bool(true)) { "had ended before" } else { "lifted" };
        let selector = answer.get("revocation").map(|revocation| output::member(revocation, "selector"));
        output::line(&format!("{verb}: {} ({})", selector.unwrap_or_default(), self.id))?;
        if self.waiting.for_all() { self.waiting.tell(&answer, false) } else { Ok(()) }
    }
}
