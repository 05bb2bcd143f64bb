//! Sockets: accept and limit, TLS, hyper, draining, and calls out.
//!
//! A connection goes through these, in this order: [`Server`] accepts and counts it (`listener`, `census`), a trusted
//! balancer's [`proxy_protocol`] header is read, [`tls`] is spoken, and it is found out whether it is HTTP/1.1 or HTTP/2 (`arrival`), and then it is served (`serve`).
//! HTTP/1.1 passes the `head_guard`, which lets only what [`framing`] finds lawful come to hyper. [`Drain`] ends all of it, a
//! [`Fuse`] one exchange.
//!
//! Nothing here knows a route, a token or a policy. Every wait has a limit and every limit a setting.

use std::net::SocketAddr;
use std::sync::Arc;

mod alarm;
mod arrival;
mod census;
pub mod client;
mod drain;
mod exchange;
pub mod framing;
mod fuse;
mod head;
mod head_guard;
mod held;
mod io;
mod listener;
mod local;
pub mod proxy_protocol;
mod serve;
mod settings;
mod streams;
pub mod tls;
mod workers;

pub use alarm::Alarm;
pub use drain::{Drain, Hold};
pub use exchange::Handler;
pub use fuse::{Fuse, tie, until_blown};
pub use listener::{Handle, ListenError, Prepared, Server};
pub use local::{Local, Nowhere, Taken};
pub use settings::{Limits, Settings, Timeouts};
pub use workers::{Workers, worker, workers};

/// Who is at the other end of a connection; every request carries it in its extensions as `Arc<Peer>`.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address the connection came from, or the one a trusted `PROXY` header named.
    pub address: SocketAddr,
    /// What TLS knows of it; `None` on a plain connection.
    pub tls: Option<TlsPeer>,
}

/// What TLS knows of a peer.
#[derive(Clone, Debug)]
pub struct TlsPeer {
    /// The server name the client asked for.
    pub server_name: Option<Arc<str>>,
    /// SHA-256 of the client's verified certificate (DER), in lower-case hexadecimal.
    pub client_certificate_sha256: Option<Arc<str>>,
}

/// What was wrong with the framing of a body that failed with `error`, when that is why: a request to be answered 400.
#[must_use]
pub fn framing_fault(error: &(dyn std::error::Error + 'static)) -> Option<framing::Fault> {
    let mut error = Some(error);
    while let Some(current) = error {
        let inner = current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(fault) = inner.and_then(|inner| inner.downcast_ref()) {
            return Some(*fault);
        }
        error = current.source();
    }
    None
}

#[cfg(test)]
mod tests;
