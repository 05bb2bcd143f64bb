//! `check-config`: all faults of a configuration, without starting anything.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::{Failure, output};
use crate::config::{self, Faults, Settings};

/// Look a configuration over and print all its faults, without starting.
#[derive(Args, Debug)]
pub(super) struct CheckConfig {
    /// The configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
}

impl CheckConfig {
    /// Prints the faults, which exit code 2 stands for, or that there are none.
    pub(super) fn run(self, json: bool) -> Result<(), Failure> {
        match config::load(&self.config) {
            Ok(settings) if json => output::json(&good(&self.config.display().to_string(), &settings)),
            Ok(settings) => self.praise(&settings),
            Err(faults) if json => {
                output::json(&bad(&faults))?;
                Err(Failure::Configuration)
            }
            Err(faults) => {
                faults.lines().for_each(|line| eprintln!("{line}"));
                Err(Failure::Configuration)
            }
        }
    }

    fn praise(&self, settings: &Settings) -> Result<(), Failure> {
        for warning in &settings.warnings {
            eprintln!("warning: {warning}");
        }
        let (issuers, routes) = (settings.verify.issuers.len(), settings.gateway.routes.len());
        output::line(&format!("{} is good: {issuers} issuers, {routes} routes", self.config.display()))
    }
}

fn good(file: &str, settings: &Settings) -> Value {
    json!({ "file": file, "good": true, "faults": [], "warnings": settings.warnings })
}

fn bad(faults: &Faults) -> Value {
    let list: Vec<Value> = faults
        .iter()
        .map(|fault| json!({ "path": fault.path(), "line": fault.line(), "text": fault.text() }))
        .collect();
    json!({ "file": faults.file().display().to_string(), "good": false, "faults": list, "warnings": [] })
}
