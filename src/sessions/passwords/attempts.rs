//! How often somebody may guess at one password. A guess costs a digest, so that guesses are worth bounding although none
//! will ever fit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use moka::future::Cache;

use crate::store::PasswordId;

/// How many guesses there are in a window.
const GUESSES: u32 = 5;
/// How long a window lasts from its first guess on.
const WINDOW: Duration = Duration::from_secs(60);
/// Of how many passwords guesses are counted.
const COUNTED: u64 = 10_000;

/// The guesses of late.
#[derive(Debug)]
pub(super) struct Attempts(Cache<PasswordId, Arc<AtomicU32>>);

impl Attempts {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(COUNTED).time_to_live(WINDOW).build())
    }

    /// Counts a guess, and says whether it may be looked at.
    pub(super) async fn admit(&self, id: PasswordId) -> bool {
        let count = self.0.get_with(id, async { Arc::default() }).await;
        count.fetch_add(1, Ordering::Relaxed) < GUESSES
    }

    /// The guess was right.
    pub(super) async fn forget(&self, id: PasswordId) {
        self.0.invalidate(&id).await;
    }
}
