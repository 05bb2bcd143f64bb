//! The command line: what was typed, made into one of the commands beside this file. Each command answers with a
//! [`Failure`] or none, and the failure's kind is the exit code; nothing else ends the process.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

mod audit;
mod bulk;
mod check;
mod check_config;
mod demo;
mod events;
mod failure;
mod hash_token;
mod http;
mod input;
mod lift;
mod output;
mod paper;
mod revoke;
mod serve;
mod sessions;
mod sse;
mod status;
mod tls;
mod wait;
mod when;

pub use failure::Failure;

const EXIT_CODES: &str = "\
Exit codes:
  0  done; for `check`, the token would pass
  1  failed, or a negative answer: the token would not pass, there is no such revocation
  2  wrong usage, or a configuration with faults
  3  the admin side cannot be reached
  4  the admin side refused the caller (401, 403, 429)
  5  the admin side cannot do it now (503): the outcome is unknown, repeat the command
  6  done, but with --wait all not every live replica has confirmed in time; the revocation stands

Environment:
  PORTCULLIS_ADMIN       the admin side's URL, as --admin
  PORTCULLIS_CREDENTIAL  the credential itself; it is not taken from the arguments, which every process can see";

/// An authentication gateway that knows which tokens were taken back.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, about, after_help = EXIT_CODES, after_long_help = EXIT_CODES, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    options: Options,
}

/// What every command takes.
#[derive(Args, Debug)]
struct Options {
    /// Answer with JSON for machines instead of text for people
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    admin: AdminOptions,
}

/// Where the admin side is, and how it knows us.
#[derive(Args, Debug)]
struct AdminOptions {
    /// The admin side's URL
    #[arg(long, global = true, value_name = "URL", env = "PORTCULLIS_ADMIN", default_value = "http://127.0.0.1:9090")]
    #[arg(help_heading = "Admin client")]
    admin: String,
    /// A file that holds the credential
    #[arg(long, global = true, value_name = "FILE", help_heading = "Admin client")]
    credential_file: Option<PathBuf>,
    /// A PEM file of the authorities to trust, instead of the system's
    #[arg(long, global = true, value_name = "FILE", help_heading = "Admin client")]
    ca: Option<PathBuf>,
    /// A PEM file with our client certificate
    #[arg(long, global = true, value_name = "FILE", requires = "key", help_heading = "Admin client")]
    cert: Option<PathBuf>,
    /// A PEM file with the client certificate's key
    #[arg(long, global = true, value_name = "FILE", requires = "cert", help_heading = "Admin client")]
    key: Option<PathBuf>,
    /// How long to wait for an answer; with --wait all, for the replicas
    #[arg(long, global = true, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    #[arg(help_heading = "Admin client")]
    timeout: std::time::Duration,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Serve(serve::Serve),
    /// Look a configuration over and print all its faults, without starting
    CheckConfig(check_config::CheckConfig),
    /// Hash an admin token for the configuration, or make a new one
    HashToken(hash_token::HashToken),
    /// Run a gateway with a sample service and a sample issuer, and show what to try
    Demo(demo::Demo),
    /// Take tokens back
    Revoke(Box<revoke::RevokeTokens>),
    /// Undo a revocation
    Lift(lift::Lift),
    /// List sessions, show one, or end some
    Sessions(Box<sessions::Sessions>),
    /// Ask whether a token would pass, and if not, why
    Check(check::Check),
    /// Show the replicas and how far they have come
    Status(status::Status),
    /// Show who did what
    Audit(audit::Audit),
    /// Follow revocations and lifts as they happen
    Events(events::Events),
    /// Print a completion script for a shell
    Completions(paper::Completions),
    /// Print the manual page
    Man(paper::Man),
}

impl Cli {
    /// What the process was called with. Ends the process when that makes no sense.
    #[must_use]
    pub fn from_arguments() -> Self {
        Self::parse()
    }

    /// Does it, and says how it went in the exit code.
    pub async fn run(self) -> ExitCode {
        match self.execute().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                failure.report();
                failure.exit_code()
            }
        }
    }

    async fn execute(self) -> Result<(), Failure> {
        let options = &self.options;
        match self.command {
            Command::Serve(serve) => serve.run().await,
            Command::CheckConfig(check) => check.run(options.json),
            Command::HashToken(hash) => hash.run(options.json),
            Command::Demo(demo) => demo.run(options.json).await,
            Command::Revoke(revoke) => revoke.run(options).await,
            Command::Lift(lift) => lift.run(options).await,
            Command::Sessions(sessions) => sessions.run(options).await,
            Command::Check(check) => check.run(options).await,
            Command::Status(status) => status.run(options).await,
            Command::Audit(audit) => audit.run(options).await,
            Command::Events(events) => events.run(options).await,
            Command::Completions(completions) => completions.run(&mut Self::command()),
            Command::Man(man) => man.run(Self::command()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_may_stand_before_or_after_the_command() {
        for line in [
            ["portcullis", "--admin", "http://x:1", "--json", "status"],
            ["portcullis", "status", "--json", "--admin", "http://x:1"],
        ] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert!(cli.options.json);
            assert_eq!(cli.options.admin.admin, "http://x:1");
        }
    }

    #[test]
    fn no_argument_takes_a_token() {
        let commands = Cli::command();
        let names: Vec<String> = commands
            .get_subcommands()
            .flat_map(|command| command.get_arguments().map(|argument| argument.get_id().to_string()))
            .collect();
        assert!(!names.iter().any(|name| name == "token" || name == "credential"), "{names:?}");
    }

    #[test]
    fn the_exit_codes_are_in_the_help() {
        let help = Cli::command().render_long_help().to_string();
        assert!((0..=6).all(|code| help.contains(&format!("\n  {code}  "))), "{help}");
    }
}
