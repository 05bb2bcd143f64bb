//! The gateway on loopback: a client, a front that admits everybody, and upstreams of every temper.

mod cut;
mod forwarding;
mod limits;
mod local;
mod protocols;
mod rig;
mod upgrades;
