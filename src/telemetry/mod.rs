//! Logs and metrics.

pub mod access_log;
mod cause;
mod latency;
mod metrics;
mod subscriber;
mod sync_metrics;

pub use cause::in_one_line;
pub use latency::Latency;
pub use metrics::{Metrics, Open, Requests};
pub use subscriber::{AlreadyInstalled, Filter, Format, InvalidFilter, Settings, Subscriber};
