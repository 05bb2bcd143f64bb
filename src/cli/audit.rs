//! `audit`: who did what, the newest first.

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::http::{Admin, query};
use super::output::{self, Table};
use super::when::When;
use super::{Failure, Options};
use crate::clock::SystemClock;
use crate::domain::{RevocationId, Timestamp};

/// The most records asked for at once.
const PAGE: u32 = 1000;

/// Show who did what, the newest first.
#[derive(Args, Debug)]
pub(super) struct Audit {
    /// Only what this caller did
    #[arg(long)]
    actor: Option<String>,
    /// Only this action, such as revoke or lift
    #[arg(long)]
    action: Option<String>,
    /// Only about this revocation
    #[arg(long, value_name = "ID", value_parser = str::parse::<RevocationId>)]
    revocation: Option<RevocationId>,
    /// Only since then: seconds, a date, or a time back from now such as 1h
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    since: Option<When>,
    /// Only before then
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    until: Option<When>,
    /// At most so many
    #[arg(long, default_value_t = 100)]
    limit: u32,
}

impl Audit {
    /// Asks page by page and prints.
    pub(super) async fn run(self, options: &Options) -> Result<(), Failure> {
        let admin = Admin::new(&options.admin)?;
        let items = self.collect(&admin, SystemClock::shared().now()).await?;
        if options.json { output::json(&json!({ "items": items })) } else { print(&items) }
    }

    async fn collect(&self, admin: &Admin, now: Timestamp) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let left = self.limit.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX));
            if left == 0 {
                return Ok(items);
            }
            let path = self.path(now, left.min(PAGE), cursor.take());
            let mut page = admin.json(Method::GET, &path, None).await?;
            if let Some(Value::Array(more)) = page.get_mut("items").map(Value::take) {
                items.extend(more);
            }
            cursor = page.get("next").and_then(|next| Some(next.as_str()?.to_owned()));
            if cursor.is_none() {
                return Ok(items);
            }
        }
    }

    fn path(&self, now: Timestamp, limit: u32, cursor: Option<String>) -> String {
        let moment = |when: Option<When>| when.map(|when| when.ago(now).to_string());
        let query = query(&[
            ("actor", self.actor.clone()),
            ("action", self.action.clone()),
            ("revocation", self.revocation.map(|id| id.to_string())),
            ("since", moment(self.since)),
            ("until", moment(self.until)),
            ("limit", Some(limit.to_string())),
            ("cursor", cursor),
        ]);
        format!("/v1/audit{query}")
    }
}

fn print(items: &[Value]) -> Result<(), Failure> {
    let mut table = Table::new(["TIME", "ACTOR", "FROM", "ACTION", "RESULT", "SUBJECT", "REASON"]);
    for item in items {
        let member = |name| output::member(item, name);
        let time = output::moment(item, "at");
        table.row([
            time,
            member("actor"),
            member("address"),
            member("action"),
            member("result"),
            member("subject"),
            member("reason"),
        ]);
    }
    if table.is_empty() { output::line("nothing") } else { output::line(&table.text()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        audit: Audit,
    }

    #[test]
    fn filters_go_into_the_query() {
        let line = Line::try_parse_from(["audit", "--actor", "a b", "--since", "10s"]).unwrap();
        let path = line.audit.path(Timestamp::from_secs(100), 5, Some("9".into()));
        assert_eq!(path, "/v1/audit?actor=a%20b&since=90&limit=5&cursor=9");
    }
}
