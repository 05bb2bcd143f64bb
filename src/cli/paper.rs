//! `completions` and `man`: what is made of the command line's own description.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

use super::{Failure, output};

/// Print a completion script for a shell.
#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    /// Prints the script.
    pub(super) fn run(self, command: &mut clap::Command) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, "portcullis", &mut script);
        output::line(String::from_utf8_lossy(&script).trim_end())
    }
}

/// Print the manual page, or a command's.
#[derive(Args, Debug)]
pub(super) struct Man {
    /// The command whose page it should be
    command: Option<String>,
    /// Write all pages into this folder instead
    #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
    write: Option<PathBuf>,
}

impl Man {
    /// Prints or writes.
    pub(super) fn run(self, command: clap::Command) -> Result<(), Failure> {
        if let Some(folder) = self.write {
            return Ok(clap_mangen::generate_to(command, folder)?);
        }
        let page = match &self.command {
            None => command,
            Some(name) => {
                let found = command.find_subcommand(name).cloned();
                let found = found.ok_or_else(|| Failure::Usage(format!("there is no command {name:?}")))?;
                found.display_name(format!("portcullis-{name}")).bin_name(format!("portcullis {name}"))
            }
        };
        let mut roff = Vec::new();
        clap_mangen::Man::new(page).render(&mut roff)?;
        output::line(String::from_utf8_lossy(&roff).trim_end())
    }
}
