//! How a command fails, by what the one who typed it can do next; the exit code says which.

use std::io;
use std::process::ExitCode;

/// Why a command did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The answer is no. It was printed already.
    #[error("no")]
    Negative,
    /// It did not work.
    #[error("{0}")]
    Failed(String),
    /// What was typed or configured makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The configuration has faults, which were printed.
    #[error("the configuration has faults")]
    Configuration,
    /// The admin side cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// The admin side does not let us.
    #[error("{0}")]
    Refused(String),
    /// The admin side cannot do it now; what became of it is unknown.
    #[error("{0}")]
    Unavailable(String),
    /// It was done, but not every live replica has confirmed it in time; these have not.
    #[error("done, but not every live replica has confirmed it in time; missing: {0}")]
    Incomplete(String),
    /// Standard output was closed; whoever read it has read enough.
    #[error("standard output is closed")]
    Closed,
}

impl Failure {
    /// Says it on standard error, unless it was said already.
    pub(super) fn report(&self) {
        if !matches!(self, Self::Negative | Self::Configuration | Self::Closed) {
            eprintln!("portcullis: {self}");
        }
    }

    /// The exit code; the help lists them.
    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    const fn code(&self) -> u8 {
        match self {
            Self::Negative | Self::Failed(_) | Self::Closed => 1,
            Self::Usage(_) | Self::Configuration => 2,
            Self::Unreachable(_) => 3,
            Self::Refused(_) => 4,
            Self::Unavailable(_) => 5,
            Self::Incomplete(_) => 6,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::Failed(error.to_string()) }
    }
}
