//! The keys of the inventory. All bear the store's one hash tag, so that a script may touch any of them in a cluster.

macro_rules! key {
    ($name:literal) => {
        concat!("{portcullis}:", $name)
    };
}

/// Number of a session → what is known of it.
pub(super) const SESSIONS: &str = key!("sessions");
/// Issuer and id of a session → its number.
pub(super) const NUMBERS: &str = key!("session-numbers");
/// The last number that was given to a session.
pub(super) const LAST_NUMBER: &str = key!("session-last");
/// Digest of a token → what each of its sessions tells of it.
pub(super) const TOKENS: &str = key!("tokens");
/// When which token of which session is over.
pub(super) const TOKENS_OVER: &str = key!("tokens-over");
/// Digest of a refresh token → how it was redeemed.
pub(super) const REDEMPTIONS: &str = key!("redemptions");
/// When which redemption may be forgotten.
pub(super) const REDEMPTIONS_OVER: &str = key!("redemptions-over");
/// Until when which sealed answer may be repeated.
pub(super) const SEALED: &str = key!("redemptions-sealed");
/// Id of a session password → what is kept of it.
pub(super) const PASSWORDS: &str = key!("passwords");
/// Issuer and id of a session → the ids of its passwords, one after the other, the oldest first.
pub(super) const PASSWORDS_OF: &str = key!("session-passwords");
/// When which session password expires.
pub(super) const PASSWORDS_OVER: &str = key!("passwords-over");
/// The tokens of one session in the order of their issue.
pub(super) fn tokens_of(number: u64) -> String {
    format!("{}{number}", key!("session-tokens:"))
}

pub(super) use key;
