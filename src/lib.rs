//! portcullis: a reverse-proxy authentication gateway that knows which tokens were taken back.
//!
//! A signed token is good until it expires, and nobody behind the proxy asks whether it was revoked. portcullis stands in
//! front: it verifies every access token, asks an in-memory index of revocations, and forwards only what may pass.
//!
//! # Where to read
//!
//! Five files explain the product: this one, the map; [`domain`]'s `revocation.rs`, the rule; [`gateway`]'s `pipeline.rs`,
//! the life of a request; [`control`]'s `revoke.rs`, the life of a revocation; and [`index`], where they meet.
//!
//! # The map
//!
//! Imports point down; `tests/layering.rs` holds the table. `domain`, `clock` and `telemetry` may be used by all.
//!
//! | layer | module | what it is for |
//! |---|---|---|
//! | 5 | [`app`], [`cli`], [`config`] | build every part from its settings, run, reload, drain; the commands; the file |
//! | 4 | [`gateway`] | a request: route, strip, ask, forward, answer |
//! |   | [`admin`] | the admin API: who asks, what they may, wire types in and out |
//! | 3 | [`admission`] | who may pass: where tokens hide in a request, what a route demands, the verdict |
//! |   | [`control`] | who may change what: revoke, lift, check, audit |
//! | 2 | [`sync`] | follows the log into the index, and is the index's only writer |
//! | 1 | [`index`] | which tokens are dead, in memory |
//! |   | [`store`] | where that is durable: a log and an audit trail, an adapter a file |
//! |   | [`verify`] | from a token's text to claims someone vouches for |
//! |   | [`net`] | sockets: accept, TLS, HTTP framing, draining, calls out |
//! | 0 | [`domain`] | values and rules: claims, selectors, revocations; no I/O and no clock |
//! |   | [`clock`], [`telemetry`] | the time; logs and metrics |
//!
//! *Request:* `net` → `admission` (credential) → `verify` → `admission` (verdict, which asks `index`) → `gateway` (upstream)
//! → answer. *Revocation:* `admin` or `cli` → `control` → `store` → `sync` → `index` → answer.
//!
//! # What is always true
//!
//! 1. `sync` is the index's only writer.
//! 2. Verification may be cached, admission never: every request asks the index.
//! 3. A request is forwarded only with an [`admission::Admitted`], and only `admission` makes one.
//! 4. A revoke is answered with success once the log holds it durably *and* this replica's own index shows it.
//! 5. An index out of step refuses what it knows to be dead, and leaves the rest to `when_stale`.
//! 6. A token's text is never stored, logged, or shown by `Debug`; a digest stands for it.
//!
//! # Absent on purpose
//!
//! - No Bloom filter and no capacity-bounded set holds revocations: what forgets or guesses cannot be exact.
//! - No CORS, no cookies, no browser sign-in: portcullis checks tokens, others issue them.
//! - No `h2c` upgrade from HTTP/1.1, no CONNECT proxying, no repair of ambiguous framing: refused, not mended.
//! - No outbound call to a URL that a token names.

pub mod admin;
pub mod admission;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod domain;
pub mod gateway;
pub mod index;
pub mod net;
pub mod store;
pub mod sync;
pub mod telemetry;
pub mod verify;
