//! Where log lines go: standard error, for people or as JSON, filtered by a level that can be changed while running.
//!
//! Nothing here adds to a line; what may stand in one is decided where it is written.

use std::fmt;
use std::io;
use std::str::FromStr;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// How logs are written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// For whom.
    pub format: Format,
    /// What is written.
    pub filter: Filter,
}

impl Default for Settings {
    fn default() -> Self {
        Self { format: Format::Human, filter: Filter("info".to_owned()) }
    }
}

/// For whom logs are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// People.
    Human,
    /// Machines: one JSON object in a line.
    Json,
}

/// What is written: a level, or levels by module, such as `info,portcullis::sync=debug`.
#[derive(Clone, Eq, PartialEq)]
pub struct Filter(String);

impl Filter {
    fn build(&self) -> EnvFilter {
        // It was parsed before; at worst errors alone are written.
        EnvFilter::builder().parse(&self.0).unwrap_or_else(|_| EnvFilter::new("error"))
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is no filter.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "is not a level: off, error, warn, info, debug, trace, or levels by module such as \"info,portcullis::sync=debug\""
)]
pub struct InvalidFilter;

impl FromStr for Filter {
    type Err = InvalidFilter;

    fn from_str(text: &str) -> Result<Self, InvalidFilter> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        // A lone word would else be taken for a module's name.
        let levels = text.split(',').all(|part| part.contains('=') || LEVELS.contains(&part.trim()));
        let text: String = text.split_whitespace().collect();
        let parsed = EnvFilter::builder().parse(&text);
        if levels && parsed.is_ok() { Ok(Self(text)) } else { Err(InvalidFilter) }
    }
}

/// The process's subscriber, to change the filter of.
#[derive(Clone, Debug)]
pub struct Subscriber {
    filter: reload::Handle<EnvFilter, Registry>,
    format: Format,
}

/// The process has a subscriber already.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("logs are set up already")]
pub struct AlreadyInstalled;

impl Subscriber {
    /// Sends this process's logs to standard error from now on.
    ///
    /// # Errors
    ///
    /// [`AlreadyInstalled`], when this was done before.
    pub fn install(settings: &Settings) -> Result<Self, AlreadyInstalled> {
        let (filter, handle) = reload::Layer::new(settings.filter.build());
        let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
        let lines: Box<dyn Layer<_> + Send + Sync> = match settings.format {
            Format::Human => lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).boxed(),
            Format::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
        };
        let installed = tracing_subscriber::registry().with(filter).with(lines).try_init();
        installed.map_err(|_| AlreadyInstalled)?;
        Ok(Self { filter: handle, format: settings.format })
    }

    /// Changes the filter. Whether that was all: another format needs a restart.
    #[must_use]
    pub fn change(&self, settings: &Settings) -> bool {
        // It fails only when the subscriber is gone, and then nobody misses the filter.
        drop(self.filter.reload(settings.filter.build()));
        settings.format == self.format
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_made_of_levels() {
        for good in ["info", "off", "warn,portcullis::sync=trace", "debug, hyper=warn"] {
            assert!(good.parse::<Filter>().is_ok(), "{good}");
        }
        for wrong in ["", "loud", "info,x=loud", "info,,"] {
            assert!(wrong.parse::<Filter>().is_err(), "{wrong}");
        }
    }
}
