//! Ends an exchange from outside, also when nobody looks at it any more.
//!
//! The body of an answer is asked for more only as long as its client takes what it was given, so a body cannot end an exchange
//! whose client reads nothing. Whoever answers therefore ties the exchange to a [`Fuse`]; it is looked at whenever the
//! connection (HTTP/1.1) or the stream (HTTP/2) has nothing to do, and once it has blown the body gets a moment for its
//! last words. After that the connection is closed, or the stream is reset, and what was still to be sent is dropped.
//!
//! The tie is the running task's own, so it costs no look-up and no lock: in HTTP/1.1 a connection has one exchange at a time,
//! in HTTP/2 a stream has a task of its own.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::task::futures::TaskLocalFuture;
use tokio::time::Instant;

use super::alarm::{Alarm, after};

/// How long the body has for its last words.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Says when an exchange must end.
pub trait Fuse: Send + Sync + 'static {
    /// Whether it must.
    fn is_blown(&self) -> bool;

    /// Ready, and it stays so, when it must.
    fn poll_blown(&self, cx: &mut Context<'_>) -> Poll<()>;
}

/// What the running task's exchange is tied to.
#[derive(Default)]
pub(super) struct Tied {
    fuse: Option<Arc<dyn Fuse>>,
    blown: Option<Instant>,
    /// Nothing is left to be said.
    over: bool,
    alarm: Alarm,
}

tokio::task_local! {
    static TIED: RefCell<Tied>;
}

/// Ties the exchange at which the running task works to `fuse`, until it ends. False in a task that works at none.
pub fn tie<T: Fuse>(fuse: &Arc<T>) -> bool {
    with(|tied| tied.fuse = Some(fuse.clone()))
}

/// Does `work` on an exchange, or nothing more once that must end. `None` when it had to. What is large comes in a box.
pub async fn until_blown<F: Future + Unpin>(mut work: F) -> Option<F::Output> {
    let until = std::future::poll_fn(|cx| match Pin::new(&mut work).poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => poll_over(cx).map(|()| None),
    });
    scope(until).await
}

/// Makes the exchanges of `work` ones that can be tied.
pub(super) fn scope<F: Future>(work: F) -> TaskLocalFuture<RefCell<Tied>, F> {
    TIED.scope(RefCell::default(), work)
}

/// Waits until the exchange at hand must be ended from outside. To be looked at after the exchange itself.
pub(super) async fn over() {
    std::future::poll_fn(poll_over).await;
}

/// The exchange has ended: what comes next on the connection is another one's.
pub(super) fn untie() {
    with(|tied| *tied = Tied::default());
}

/// Whether the exchange breaks off because its fuse has blown. Then it is to be left alone: it is ended from outside, at once, a
/// stream by a reset that blames nobody.
pub(super) fn breaks_off() -> bool {
    let mut over = false;
    with(|tied| {
        tied.over = tied.fuse.as_ref().is_some_and(|fuse| fuse.is_blown());
        over = tied.over;
    });
    over
}

/// False when this task works at no exchange. What changes it calls nothing that would come back here.
fn with(change: impl FnOnce(&mut Tied)) -> bool {
    let changed = |tied: &RefCell<Tied>| {
        tied.try_borrow_mut().is_ok_and(|mut tied| {
            change(&mut tied);
            true
        })
    };
    TIED.try_with(changed).unwrap_or(false)
}

fn poll_over(cx: &mut Context<'_>) -> Poll<()> {
    let mut polled = Poll::Pending;
    with(|tied| polled = tied.poll_over(cx));
    polled
}

impl Tied {
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.over {
            return Poll::Ready(());
        }
        let Some(fuse) = &self.fuse else { return Poll::Pending };
        ready!(fuse.poll_blown(cx));
        let since = *self.blown.get_or_insert_with(Instant::now);
        self.alarm.poll(cx, after(since, LAST_WORDS))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Blows when it is told to, and is looked at whenever the task is.
    #[derive(Default)]
    struct Told(AtomicBool);

    impl Fuse for Told {
        fn is_blown(&self) -> bool {
            self.0.load(Ordering::SeqCst)
        }

        fn poll_blown(&self, _: &mut Context<'_>) -> Poll<()> {
            if self.is_blown() { Poll::Ready(()) } else { Poll::Pending }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_does_not_end_is_ended_after_its_last_words() {
        let blown = Arc::new(Told(AtomicBool::new(true)));
        let started = Instant::now();
        let work = Box::pin(async {
            assert!(tie(&blown));
            std::future::pending::<()>().await;
        });
        assert_eq!(until_blown(work).await, None);
        assert!(started.elapsed() >= LAST_WORDS);
        let quick = Box::pin(async {
            tie(&blown);
            7
        });
        assert_eq!(until_blown(quick).await, Some(7), "what ends by itself is not ended");
    }

    #[tokio::test(start_paused = true)]
    async fn what_breaks_off_is_ended_at_once_and_the_next_exchange_is_free() {
        let fuse = Arc::new(Told::default());
        let started = Instant::now();
        let work = Box::pin(async {
            tie(&fuse);
            assert!(!breaks_off(), "it may fail for other reasons");
            fuse.0.store(true, Ordering::SeqCst);
            assert!(breaks_off());
            std::future::pending::<()>().await;
        });
        assert_eq!(until_blown(work).await, None);
        assert_eq!(started.elapsed(), Duration::ZERO);
        let next = Box::pin(async {
            tie(&fuse);
            untie();
            tokio::time::sleep(LAST_WORDS * 2).await;
        });
        assert_eq!(until_blown(next).await, Some(()));
        assert!(!tie(&fuse), "outside an exchange nothing is tied");
    }
}
