//! The configuration file: read, understood, and judged as a whole before anything starts.
//!
//! Each section is read by a file of its own into the settings of the part it is for, so no part knows the file's format.
//! Reading goes on past a fault, so that all are reported at once, each with its path and line. Paths in the file start
//! from the working directory.

mod admin;
mod cache;
mod demands;
mod dialects;
mod faults;
mod issuers;
mod listener;
mod log;
mod range;
mod routes;
mod sessions;
mod settings;
mod source;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod token_endpoints;
mod upstream;
mod value;

use std::io::Read as _;
use std::path::Path;

use toml::de::DeTable;

use self::source::{Environment, Source};
use self::table::Table;

pub use faults::{Fault, Faults};
pub use settings::Settings;
pub use store::{Snapshot, Staleness};

/// The largest configuration file, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// Reads a configuration file, with the process's environment.
///
/// # Errors
///
/// All that is wrong with it.
pub fn load(file: &Path) -> Result<Settings, Faults> {
    let text = read(file).map_err(|fault| Faults::new(file, vec![fault]))?;
    parse(file, &text, &|name| std::env::var(name).ok())
}

fn read(file: &Path) -> Result<String, Fault> {
    let fault = |text: String| Fault::new("", None, text);
    let opened = std::fs::File::open(file).map_err(|error| fault(format!("cannot be read: {error}")))?;
    let mut text = String::new();
    let read = opened.take(MAX_BYTES + 1).read_to_string(&mut text);
    let bytes = read.map_err(|error| fault(format!("cannot be read: {error}")))?;
    if bytes as u64 > MAX_BYTES { Err(fault("is larger than 4MiB".to_owned())) } else { Ok(text) }
}

/// Reads the text of a configuration file; `file` is its name in faults.
///
/// # Errors
///
/// All that is wrong with it. Where the text is no TOML, that alone: what is left has no certain meaning.
pub fn parse(file: &Path, text: &str, environment: Environment<'_>) -> Result<Settings, Faults> {
    let source = Source::new(text, environment);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        source.fault("", error.span().map(|span| source.line(span.start)), error.message());
    }
    let mut settings = None;
    if errors.is_empty() {
        let mut root = Table::new(&source, String::new(), None, document.get_ref());
        settings = settings::settle(&mut root);
        root.finish();
    }
    let faults = source.into_faults();
    match settings {
        Some(settings) if faults.is_empty() => Ok(settings),
        _ => Err(Faults::new(file, faults)),
    }
}
