//! `check`: asks whether a token would pass, and if not, what stops it. The token comes from standard input or a file.

use std::path::PathBuf;

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::http::Admin;
use super::{Failure, Options, input, output};

/// Ask whether a token would pass, and if not, why.
#[derive(Args, Debug)]
pub(super) struct Check {
    /// A file that holds the token [default: standard input]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

/// Where the token would be shown; without any of these only the token itself is looked at.
#[derive(Args, Debug)]
struct Place {
    /// On the route of this name
    #[arg(long, value_name = "NAME", conflicts_with_all = ["host", "path", "method"])]
    route: Option<String>,
    /// In a request to this host
    #[arg(long)]
    host: Option<String>,
    /// In a request for this path
    #[arg(long)]
    path: Option<String>,
    /// In a request of this method
    #[arg(long)]
    method: Option<String>,
}

impl Check {
    /// Asks and prints; a token that would not pass is a negative answer.
    pub(super) async fn run(self, options: &Options) -> Result<(), Failure> {
        let admin = Admin::new(&options.admin)?;
        let token = input::secret(self.token_file.as_deref(), "token")?;
        let answer = admin.json(Method::POST, "/v1/check", Some(&self.place.ask(token))).await?;
        if options.json {
            output::json(&answer)?
        } else {
            print(&answer)?
        }
        if passes(&answer) { Ok(()) } else { Err(Failure::Negative) }
    }
}

impl Place {
    fn ask(&self, token: String) -> Value {
        let given = [("route", &self.route), ("host", &self.host), ("path", &self.path), ("method", &self.method)];
        let given = given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))));
        given.chain([("token".to_owned(), Value::String(token))]).collect()
    }
}

fn passes(answer: &Value) -> bool {
    answer.get("admitted") == Some(&Value::Bool(true))
}

fn print(answer: &Value) -> Result<(), Failure> {
    let verdict =
        if passes(answer) { "passes".to_owned() } else { format!("denied: {}", output::member(answer, "reason")) };
    output::line(&verdict)?;
    let claims = answer.get("claims").and_then(Value::as_object).into_iter().flatten();
    for (name, value) in claims.filter(|(_, value)| !output::is_empty(value)) {
        output::line(&format!("  {name}: {}", output::plain(value)))?;
    }
    for revocation in answer.get("revocations").and_then(Value::as_array).into_iter().flatten() {
        let member = |name| output::member(revocation, name);
        let text = format!("{} ({}) by {}: {}", member("selector"), member("id"), member("actor"), member("reason"));
        output::line(&format!("  revoked by {text}"))?;
    }
    Ok(())
}
