//! Holds what clients were told against what the upstream saw. It believes no gateway and no store.
//!
//! Everything is numbered by one counter: what has a greater number than an answer was begun after that answer was read.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// What clients did and were told, of targets and replicas by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    counter: AtomicU64,
    revoked: Mutex<Vec<Revoked>>,
    lifted: Mutex<Vec<Lifted>>,
    asked: Mutex<Vec<Asked>>,
}

/// A revoke that was answered with success.
#[derive(Clone, Debug)]
pub(crate) struct Revoked {
    pub(crate) target: usize,
    pub(crate) replica: usize,
    /// Whether it waited for all, and all had it.
    pub(crate) everywhere: bool,
    pub(crate) begun: u64,
    pub(crate) answered: u64,
}

/// A lift of anything that covers a target; `answered` once it is known to be done.
#[derive(Clone, Debug)]
struct Lifted {
    target: usize,
    begun: u64,
    answered: Option<u64>,
}

/// A request to the proxy.
#[derive(Clone, Debug)]
struct Asked {
    tag: String,
    target: usize,
    replica: usize,
    begun: u64,
    ended: u64,
}

impl Checker {
    /// A number greater than all before.
    pub(crate) fn tick(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// A revoke was answered with success just now.
    pub(crate) fn revoked(&self, target: usize, replica: usize, begun: u64, everywhere: bool) {
        let answered = self.tick();
        self.revoked.lock().unwrap().push(Revoked { target, replica, everywhere, begun, answered });
    }

    /// A lift is about to be asked for; answers its place.
    pub(crate) fn lifting(&self, target: usize) -> usize {
        let begun = self.tick();
        let mut lifted = self.lifted.lock().unwrap();
        lifted.push(Lifted { target, begun, answered: None });
        lifted.len() - 1
    }

    /// That lift was answered with success, so that nothing of it can come any more.
    pub(crate) fn lifted(&self, place: usize) {
        let answered = self.tick();
        self.lifted.lock().unwrap()[place].answered = Some(answered);
    }

    /// A request that was begun then has ended just now, however.
    pub(crate) fn asked(&self, tag: String, target: usize, replica: usize, begun: u64) {
        let ended = self.tick();
        self.asked.lock().unwrap().push(Asked { tag, target, replica, begun, ended });
    }

    /// Every request in the upstream's record that an acknowledged revoke forbade, told in words.
    pub(crate) fn violations(&self, record: &HashSet<String>) -> Vec<String> {
        let (revoked, lifted) = (self.revoked.lock().unwrap(), self.lifted.lock().unwrap());
        let asked = self.asked.lock().unwrap();
        let forwarded = asked.iter().filter(|asked| record.contains(&asked.tag));
        let forbidden = |asked: &Asked| revoked.iter().find(|revoked| forbids(revoked, asked, &lifted)).cloned();
        forwarded.filter_map(|asked| Some(format!("{asked:?} in spite of {:?}", forbidden(asked)?))).collect()
    }

    /// How many requests some revoke forbade, forwarded or not: a history in which there are none proves nothing.
    pub(crate) fn forbidden(&self) -> usize {
        let (revoked, lifted) = (self.revoked.lock().unwrap(), self.lifted.lock().unwrap());
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|asked| revoked.iter().any(|revoked| forbids(revoked, asked, &lifted))).count()
    }
}

/// Whether this request must not be forwarded because of this revoke. Any lift of the same target that may have come after the
/// revoke and before the request's end takes it back.
fn forbids(revoked: &Revoked, asked: &Asked, lifted: &[Lifted]) -> bool {
    revoked.target == asked.target
        && revoked.answered < asked.begun
        && (revoked.everywhere || revoked.replica == asked.replica)
        && !lifted.iter().any(|lift| {
            let before = lift.answered.is_some_and(|answered| answered < revoked.begun);
            lift.target == asked.target && lift.begun < asked.ended && !before
        })
}
