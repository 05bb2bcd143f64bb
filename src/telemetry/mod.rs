//! Logs and metrics.

pub mod access_log;
mod cause;
mod metrics;
mod subscriber;
mod sync_metrics;

pub use cause::in_one_line;
pub use metrics::{Metrics, Open};
pub use subscriber::{AlreadyInstalled, Filter, Format, InvalidFilter, Settings, Subscriber};
