//! `status`: the replicas, and how far each has come.

use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::http::Admin;
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

/// Plain members first, then each list, an item a line.
fn print(answer: &Value) -> Result<(), Failure> {
    let (lists, plain): (Vec<_>, Vec<_>) =
        answer.as_object().into_iter().flatten().partition(|(_, value)| value.is_array());
    for (name, value) in plain {
        output::line(&format!("{name}: {}", output::plain(value)))?;
    }
    for (name, value) in lists {
        output::line(&format!("{name}:"))?;
        for item in value.as_array().into_iter().flatten() {
            output::line(&format!("  {}", output::plain(item)))?;
        }
    }
    Ok(())
}
