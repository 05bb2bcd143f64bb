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
//! |   | [`admin`] | the admin API and four foreign ones: who asks, what they may, wire types in and out |
//! | 3 | [`admission`] | who may pass: where tokens hide in a request, what a route demands, the verdict |
//! |   | [`control`] | who may change what: revoke, lift, check, audit; proof that all replicas have applied it |
//! | 2 | [`sync`] | follows the log into the index, and is the index's only writer; has cut what it kills; signs of life |
//! |   | [`sessions`] | what is known of sessions and token families, learned from token endpoints and traffic |
//! | 1 | [`index`] | which tokens are dead, in memory |
//! |   | [`store`] | where that is durable, and shared: a log, an audit trail, who the replicas are; an adapter a folder |
//! |   | [`verify`] | from a token's text to claims someone vouches for |
//! |   | [`live`] | who is connected as whom, so that what kills a token ends what it opened |
//! |   | [`net`] | sockets: accept, TLS, HTTP framing, draining, calls out |
//! | 0 | [`domain`] | values and rules: claims, selectors, revocations; no I/O and no clock |
//! |   | [`clock`], [`telemetry`] | the time; logs and metrics |
//!
//! *Request:* `net` → `admission` (credential) → `verify` → `live` (join) → `admission` (verdict, which asks `index`) →
//! `gateway` (upstream) → answer; at a token endpoint its body is read first, and its answer written down by `sessions`.
//! *Revocation:* `admin` or `cli` → `control` → `store` → `sync` → `index` → `live` (cut) →
//! answer; with `wait=all`, → each replica's `sync` → `store` (signs of life) → `control` → answer.
//!
//! # What is always true
//!
//! 1. `sync` is the index's only writer.
//! 2. Verification may be cached, admission never: every request asks the index.
//! 3. A request is forwarded only with an [`admission::Admitted`], and only `admission` makes one.
//! 4. A revoke is answered with success once the log holds it durably *and* this replica's own index shows it.
//! 5. An index out of step refuses what it knows to be dead, and leaves the rest to `when_stale`.
//! 6. A request joins `live` before its check, and `sync` cuts after the index has changed: whichever comes first, the other
//!    sees it.
//! 7. What a token endpoint hands out is written down before it goes out, so that no token exists whose session is unknown.
//! 8. Whoever may be serving is waited for: others believe a replica's sign of life for no less long than it believes its
//!    own index by it, and the store takes none about a history that it does not hold.
//! 9. A token's text is never stored, logged, or shown by `Debug`; a digest stands for it. An answer that is kept for whoever
//!    asks again is sealed with a key that only the refresh token yields. A session password is kept as a salted digest.
//!
//! # Absent on purpose
//!
//! - No Bloom filter and no capacity-bounded set holds revocations: what forgets or guesses cannot be exact.
//! - No CORS (but where Onezone's clients have it), no cookies, no browser sign-in: portcullis checks tokens, others issue them.
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
pub mod live;
pub mod net;
pub mod sessions;
pub mod store;
pub mod sync;
pub mod telemetry;
pub mod verify;
