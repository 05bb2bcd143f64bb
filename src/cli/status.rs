//! `status`: the replica that is asked, and how far each replica has come.

use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::http::Admin;
use super::output::Table;
use super::{Failure, Options, output};

/// Show the replicas and how far they have come.
#[derive(Args, Debug)]
pub(super) struct Status {}

impl Status {
    /// Asks and prints.
    pub(super) async fn run(self, options: &Options) -> Result<(), Failure> {
        let answer = Admin::new(&options.admin)?.json(Method::GET, "/v1/status", None).await?;
        if options.json { output::json(&answer) } else { print(&answer) }
    }
}

/// Plain members first, then each list, an item a line; the replicas last, as a table.
fn print(answer: &Value) -> Result<(), Failure> {
    let (lists, plain): (Vec<_>, Vec<_>) =
        answer.as_object().into_iter().flatten().partition(|(_, value)| value.is_array());
    for (name, value) in plain {
        output::line(&format!("{name}: {}", output::plain(value)))?;
    }
    for (name, value) in lists.into_iter().filter(|(name, _)| *name != "replicas") {
        output::line(&format!("{name}:"))?;
        for item in value.as_array().into_iter().flatten() {
            output::line(&format!("  {}", output::plain(item)))?;
        }
    }
    output::line(&replicas(answer.get("replicas").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()))
}

/// The replicas, a line each.
fn replicas(replicas: &[Value]) -> String {
    let mut table =
        Table::new(["REPLICA", "ID", "POSITION", "LAG", "LIVE", "SILENT", "STANDING", "VERSION", "STARTED"]);
    for replica in replicas {
        let member = |name| output::member(replica, name);
        let live = if replica.get("live") == Some(&Value::Bool(true)) { "yes" } else { "no" };
        table.row([
            member("name"),
            member("id").chars().take(8).collect(),
            member("position"),
            member("lag"),
            live.to_owned(),
            replica
                .get("silent_ms")
                .and_then(Value::as_u64)
                .map_or_else(|| "-".to_owned(), |millis| format!("{millis}ms")),
            member("standing"),
            member("version"),
            output::moment(replica, "started_at"),
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_replica_has_a_line() {
        let text = replicas(&[
            json!({"name": "a", "id": "0123456789abcdef", "position": 7, "lag": 0, "live": true, "silent_ms": 12,
                "standing": "in_step", "version": "0.1.0", "started_at": 0}),
            json!({"name": "b", "id": "f", "position": 5, "lag": 2, "live": false, "silent_ms": 90000,
                "standing": "stale", "version": "0.1.0", "started_at": 0}),
        ]);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["a", "01234567", "7", "0", "yes", "12ms", "in_step", "0.1.0", "1970-01-01T00:00:00Z"]);
        assert_eq!(lines[2][..6], ["b", "f", "5", "2", "no", "90000ms"]);
    }
}
