//! Token endpoints: the paths of an upstream where tokens are handed out and renewed (RFC 6749 §3.2).
//!
//! | file | what |
//! |---|---|
//! | `settings`, `preset` | what the operator says of one, and what is known of some servers |
//! | `endpoint_path`, `source` | which requests are meant, where to learn |
//! | `basic`, `head`, `request`, `document`, `form`, `name` | a request, read so that the upstream cannot read another token in it |
//! | `reply` | what an answer teaches |
//! | `answer` | what is answered in the upstream's place |
//! | `flow` | the life of a request there |
//! | `lesson`, `kept` | what is written down of an answer, and the answer itself |
//! | `rotate`, `flight` | a refresh token is good once; one redemption at a time |
//!
//! But for `flow`, `rotate` and `flight`, what is here is pure: bytes in, values out.

pub mod answer;
mod basic;
mod document;
mod endpoint_path;
pub(super) mod flight;
pub(super) mod flow;
mod form;
pub mod head;
pub(super) mod kept;
pub(super) mod lesson;
mod name;
mod preset;
pub mod reply;
pub mod request;
pub(super) mod rotate;
mod settings;
mod source;

pub use endpoint_path::{EndpointPath, InvalidEndpointPath};
pub use preset::{Preset, UnknownPreset};
pub use settings::{ClientTrait, Learn, Rotation, TokenEndpoint};
pub use source::{FieldPlace, Handed, InvalidSource, Pointer, RequestField, Source};
