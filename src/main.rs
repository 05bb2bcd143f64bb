//! The binary: reads the arguments, starts the runtime, ends with the exit code.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use portcullis::cli::Cli;

/// Requests take and give back much that is larger than what the system's allocator keeps at hand for a thread.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// For the store, the admin side and the log; requests are served by threads of their own.
const THREADS: usize = 2;

fn main() -> ExitCode {
    let cli = Cli::from_arguments();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(cli.run()),
        Err(error) => {
            eprintln!("portcullis: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}
