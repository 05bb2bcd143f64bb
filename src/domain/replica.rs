//! Who a replica is.

use std::sync::Arc;

/// A replica: what people call it, and what tells it from another of that name and from its own past.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReplicaIdentity {
    /// Random, made anew at each start.
    pub id: Arc<str>,
    /// By configuration, or the machine's.
    pub name: Arc<str>,
}

impl ReplicaIdentity {
    /// A replica that was just started; `bits` are random.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, bits: u128) -> Self {
        Self { id: format!("{bits:032x}").into(), name: name.into() }
    }
}

impl Default for ReplicaIdentity {
    fn default() -> Self {
        Self::new("portcullis", 0)
    }
}
