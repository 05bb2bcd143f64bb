//! `--wait`: whose confirmation a command waits for, how it is asked for, and how it is told.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::http::Admin;
use super::{Failure, Options, output};

/// The longest the admin side waits for replicas.
const LONGEST: Duration = Duration::from_secs(60);
/// What its answer may take beyond that: the store, and the way.
const MARGIN: Duration = Duration::from_secs(15);

/// Whose confirmation to wait for.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(super) struct Waiting {
    /// Whose confirmation to wait for; with `all`, for as long as --timeout says, a minute at most
    #[arg(long, value_enum, default_value_t)]
    wait: Wait,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum Wait {
    /// The replica that is asked
    #[default]
    Local,
    /// Every live replica
    All,
}

impl Waiting {
    /// Whether every live replica is waited for.
    pub(super) fn for_all(self) -> bool {
        self.wait == Wait::All
    }

    /// The admin side, with patience enough for it.
    pub(super) fn admin(self, options: &Options) -> Result<Admin, Failure> {
        let admin = Admin::new(&options.admin)?;
        Ok(if self.for_all() { admin.patient(MARGIN) } else { admin })
    }

    /// The parameters that ask for it.
    pub(super) fn parameters(self, options: &Options) -> [(&'static str, Option<String>); 2] {
        let timeout = humantime::format_duration(options.admin.timeout.min(LONGEST)).to_string().replace(' ', "");
        [("wait", self.for_all().then(|| "all".to_owned())), ("timeout", self.for_all().then_some(timeout))]
    }

    /// Tells who has confirmed, each in a line, unless `json` has told it.
    ///
    /// # Errors
    ///
    /// [`Failure::Incomplete`] when not all have.
    pub(super) fn tell(self, answer: &Value, json: bool) -> Result<(), Failure> {
        if !json {
            for replica in members(answer, "replicas") {
                let (name, millis) = (output::member(replica, "name"), output::member(replica, "millis"));
                output::line(&format!("  confirmed by {name} after {millis} ms"))?;
            }
        }
        if answer.get("complete") != Some(&Value::Bool(false)) {
            return Ok(());
        }
        let missing: Vec<String> = members(answer, "missing").iter().map(output::plain).collect();
        Err(Failure::Incomplete(if missing.is_empty() { "unknown which".to_owned() } else { missing.join(", ") }))
    }
}

fn members<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_an_answer_that_says_so_is_incomplete() {
        let waiting = Waiting::default();
        assert!(waiting.tell(&json!({"complete": true, "replicas": []}), true).is_ok());
        assert!(waiting.tell(&json!({}), true).is_ok());
        let incomplete = waiting.tell(&json!({"complete": false, "missing": ["b", "c\n"]}), true);
        assert!(matches!(incomplete, Err(Failure::Incomplete(who)) if who == "b, c\u{fffd}"));
        let unknown = waiting.tell(&json!({"complete": false, "missing": []}), true);
        assert!(matches!(unknown, Err(Failure::Incomplete(who)) if who == "unknown which"));
    }
}
