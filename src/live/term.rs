//! What both sides of a lease share: whether it was cut, why, and whom to wake.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::domain::{Claims, Timestamp};
use crate::live::shard::Shard;

const OPEN: u8 = 0;
const REVOKED: u8 = 1;
const EXPIRED: u8 = 2;

/// Why an exchange was cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cut {
    /// Its token was taken back.
    Revoked,
    /// Its token has expired.
    Expired,
}

impl Cut {
    /// The reason's name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// Who waits for the cut. Each side is one task at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Whoever answers the client: the wait for the answer's head, then its body, or a tunnel.
    Answer,
    /// Whoever sends the request's body up.
    Upload,
}

/// How long an exchange may go on: until its token is dead.
pub struct Term {
    claims: Arc<Claims>,
    ends: Option<Timestamp>,
    state: AtomicU8,
    leases: AtomicUsize,
    shard: Arc<Shard>,
    place: usize,
    answer: AtomicWaker,
    upload: AtomicWaker,
}

impl Term {
    /// A term with one lease, which has `place` in `shard`.
    pub(super) fn new(claims: Arc<Claims>, ends: Option<Timestamp>, (shard, place): (Arc<Shard>, usize)) -> Self {
        Self {
            claims,
            ends,
            state: AtomicU8::new(OPEN),
            leases: AtomicUsize::new(1),
            shard,
            place,
            answer: AtomicWaker::new(),
            upload: AtomicWaker::new(),
        }
    }

    /// One more lease.
    pub(super) fn hold(&self) {
        self.leases.fetch_add(1, Ordering::Relaxed);
    }

    /// One lease less; with the last one the place is left.
    pub(super) fn release(&self) {
        if self.leases.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shard.leave(self.place);
        }
    }

    pub(super) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The first second in which the token is dead by itself.
    pub(super) const fn ends(&self) -> Option<Timestamp> {
        self.ends
    }

    /// Why it is over; `None` while it is not.
    #[must_use]
    pub fn cut(&self) -> Option<Cut> {
        match self.state.load(Ordering::Acquire) {
            REVOKED => Some(Cut::Revoked),
            EXPIRED => Some(Cut::Expired),
            _ => None,
        }
    }

    /// Ready when it is over.
    pub fn poll_cut(&self, side: Side, cx: &Context<'_>) -> Poll<Cut> {
        if let Some(cut) = self.cut() {
            return Poll::Ready(cut);
        }
        match side {
            Side::Answer => self.answer.register(cx.waker()),
            Side::Upload => self.upload.register(cx.waker()),
        }
        // It may have been cut before the waker was there to be woken.
        self.cut().map_or(Poll::Pending, Poll::Ready)
    }

    /// It is over; false when it was before.
    pub(super) fn end(&self, cut: Cut) -> bool {
        let state = match cut {
            Cut::Revoked => REVOKED,
            Cut::Expired => EXPIRED,
        };
        if self.state.compare_exchange(OPEN, state, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return false;
        }
        self.answer.wake();
        self.upload.wake();
        true
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Term").field("token", &self.claims.digest).field("cut", &self.cut()).finish_non_exhaustive()
    }
}
