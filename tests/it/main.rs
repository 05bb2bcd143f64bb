//! The stories: each file tells of one promise and holds it against the binary as operators run it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a story that cannot go on fails")]

mod acknowledged;
mod admin_side;
mod bluesky;
mod bluesky_revoke;
mod clients;
mod command_line;
mod durable;
mod elasticsearch;
mod identity;
mod learned;
mod malformed;
mod nginx;
mod one_story;
mod onezone;
mod open_connections;
mod privx;
mod provider;
mod proxying;
mod reencoded;
mod refresh_tokens;
mod reload;
mod revoked;
mod rig;
mod rotation;
mod selectors;
mod session_password;
mod sessions;
mod store_trouble;
