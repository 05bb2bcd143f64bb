//! The binary: reads the arguments, starts the runtime, ends with the exit code.

use std::process::ExitCode;

use portcullis::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::from_arguments();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(cli.run()),
        Err(error) => {
            eprintln!("portcullis: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}
