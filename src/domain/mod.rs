//! What the product is about, as plain values: claims, selectors, revocations, denials. No I/O, no clock, no runtime;
//! time and randomness come in as arguments.

mod claims;
mod denial;
mod dialect;
mod entry;
mod id;
pub mod json;
mod memo;
mod replica;
mod revocation;
mod rights;
mod selector;
mod session;
#[cfg(test)]
mod tests;
mod time;
mod token;
mod token_form;
mod uuid;
pub mod wording;

pub use claims::{ClaimValues, Claims, OtherClaim, Scale};
pub use denial::Denial;
pub use dialect::{Dialect, UnknownDialect};
pub use entry::{Change, Disposition, Ending, Entry, Lift, Merge, Recorded, merge};
pub use id::{Checkpoint, InvalidId, Position, Proof, RevocationId};
pub use memo::{KeptKey, Memo, Told};
pub use replica::ReplicaIdentity;
pub use revocation::{Cutoff, Reach, Revocation, TokenKind, UnknownKind};
pub use rights::{Right, Rights, UnknownRight};
pub use selector::{InvalidSelector, Name, Selector, Shape};
pub use session::{SeenToken, Session, SessionEnd, SessionKey, SessionState, SessionType, UnknownSessionType};
pub use time::Timestamp;
pub use token::{BearerToken, TokenDigest};
pub use token_form::TokenForm;
pub use uuid::{InvalidUuid, Uuid};
