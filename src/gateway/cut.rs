//! An exchange whose token dies while it goes on: before the answer's head is out it is refused like any other with that
//! token, afterwards its body ends (`ending`), whoever reads it or not.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::admission::Stop;
use crate::domain::Denial;
use crate::gateway::refusal::Refusal;
use crate::live::{Cut, Lease, Side, Term};
use crate::net::Fuse;

impl Fuse for Term {
    fn is_blown(&self) -> bool {
        self.cut().is_some()
    }

    fn poll_blown(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_cut(Side::Answer, cx).map(drop)
    }
}

/// What a request is told whose token died before it was answered.
pub(super) const fn refusal(cut: Cut) -> Refusal {
    let denial = match cut {
        Cut::Revoked => Denial::Revoked,
        Cut::Expired => Denial::Expired,
    };
    Refusal::Stopped { stop: Stop::Denied(denial), scope: None }
}

/// Does `work` as long as the lease lasts. Once it does not, whatever came of the work counts no more.
///
/// # Errors
///
/// The refusal that the cut means, or the work's own.
pub(super) async fn unless_cut<T>(
    lease: &Lease,
    mut work: Pin<&mut impl Future<Output = Result<T, Refusal>>>,
) -> Result<T, Refusal> {
    let done = std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(done),
        Poll::Pending => lease.term().poll_cut(Side::Answer, cx).map(|cut| Err(refusal(cut))),
    });
    let done = done.await;
    lease.term().cut().map_or(done, |cut| Err(refusal(cut)))
}
