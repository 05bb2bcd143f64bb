//! One redemption of a refresh token at a time: whoever comes with the same token while it is under way waits for the same
//! answer, if it is the same client.
//!
//! The redemption runs in a task of its own, so that a client that goes away in the middle does not leave a token redeemed
//! whose successor nobody received: the answer is written down, and the client gets it when it asks again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::domain::TokenDigest;

/// The redemptions under way, and those who wait for them. `O` is what came of one.
#[derive(Debug)]
pub(in crate::gateway) struct Flights<O> {
    /// Locked for a look-up, never across an await.
    under_way: Mutex<HashMap<TokenDigest, Flight<O>>>,
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Flight<O> {
    by: Bearer,
    waiting: u32,
    outcome: watch::Receiver<Option<O>>,
}

/// Who redeems, and by which text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::gateway) struct Bearer {
    /// What tells clients apart, digested.
    pub(in crate::gateway) client: TokenDigest,
    /// The whole text's digest.
    pub(in crate::gateway) text: TokenDigest,
}

/// What someone who comes with a token is to do.
#[derive(Debug)]
pub(in crate::gateway) enum Boarding<O> {
    /// Redeem it; whoever waits hears of it by this.
    Lead(watch::Sender<Option<O>>),
    /// Wait for who redeems it.
    Join(watch::Receiver<Option<O>>),
    /// Another client redeems it just now.
    Contested,
    /// Too many wait already.
    Crowded,
    /// Another text that says the same is being redeemed just now.
    Contended,
}

impl<O> Default for Flights<O> {
    fn default() -> Self {
        Self { under_way: Mutex::default(), tasks: Mutex::default() }
    }
}

impl<O: Clone + Send + Sync + 'static> Flights<O> {
    /// Joins the redemption of a token, or begins it. At most `most` wait for one.
    pub(in crate::gateway) fn board(&self, digest: TokenDigest, by: Bearer, most: u32) -> Boarding<O> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        match under_way.entry(digest) {
            Entry::Vacant(place) => {
                let (tell, outcome) = watch::channel(None);
                place.insert(Flight { by, waiting: 0, outcome });
                Boarding::Lead(tell)
            }
            Entry::Occupied(flight) if flight.get().by.text != by.text => Boarding::Contended,
            Entry::Occupied(flight) if flight.get().by != by => Boarding::Contested,
            Entry::Occupied(flight) if flight.get().waiting >= most => Boarding::Crowded,
            Entry::Occupied(mut flight) => {
                flight.get_mut().waiting += 1;
                Boarding::Join(flight.get().outcome.clone())
            }
        }
    }

    /// Carries a redemption to its end, whoever goes away meanwhile. Then the token may be boarded anew.
    pub(in crate::gateway) fn fly(
        self: &Arc<Self>,
        digest: TokenDigest,
        tell: watch::Sender<Option<O>>,
        redemption: impl Future<Output = O> + Send + 'static,
    ) {
        let landing = Landing { flights: self.clone(), digest };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let _landing = landing;
            tell.send_replace(Some(redemption.await));
        });
    }

    /// Waits until the redemptions under way now have come to their end; each is bounded by the upstream's time.
    pub(in crate::gateway) async fn landed(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        while tasks.join_next().await.is_some() {}
    }
}

/// Gives the token free when its redemption is over, also when it ends in a panic.
struct Landing<O> {
    flights: Arc<Flights<O>>,
    digest: TokenDigest,
}

impl<O> Drop for Landing<O> {
    fn drop(&mut self) {
        self.flights.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
    }
}

/// What came of a redemption; `None` when it broke off.
pub(in crate::gateway) async fn outcome<O: Clone>(mut told: watch::Receiver<Option<O>>) -> Option<O> {
    told.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: TokenDigest = TokenDigest::new([1; 32]);

    fn bearer(client: u8, text: u8) -> Bearer {
        Bearer { client: TokenDigest::new([client; 32]), text: TokenDigest::new([text; 32]) }
    }

    #[tokio::test]
    async fn the_same_client_gets_the_same_outcome_once_redeemed() {
        let flights: Arc<Flights<u32>> = Arc::default();
        let Boarding::Lead(tell) = flights.board(DIGEST, bearer(1, 1), 2) else { panic!("the first leads") };
        let mine = tell.subscribe();
        let Boarding::Join(second) = flights.board(DIGEST, bearer(1, 1), 2) else { panic!("the second joins") };
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        flights.fly(DIGEST, tell, async move {
            let _ = gone.await;
            7
        });
        assert!(matches!(flights.board(DIGEST, bearer(2, 1), 2), Boarding::Contested), "another client");
        assert!(matches!(flights.board(DIGEST, bearer(1, 2), 2), Boarding::Contended), "another text");
        assert!(matches!(flights.board(DIGEST, bearer(1, 1), 2), Boarding::Join(_)));
        assert!(matches!(flights.board(DIGEST, bearer(1, 1), 2), Boarding::Crowded), "too many wait");
        go.send(()).unwrap();
        assert_eq!((outcome(mine).await, outcome(second).await), (Some(7), Some(7)));
        flights.landed().await;
        assert!(matches!(flights.board(DIGEST, bearer(2, 1), 2), Boarding::Lead(_)));
    }

    #[tokio::test]
    async fn a_redemption_that_panics_sets_the_token_free() {
        let flights: Arc<Flights<u32>> = Arc::default();
        let Boarding::Lead(tell) = flights.board(DIGEST, bearer(1, 1), 2) else { panic!("the first leads") };
        let mine = tell.subscribe();
        flights.fly(DIGEST, tell, async { panic!("on purpose") });
        assert_eq!(outcome(mine).await, None);
        flights.landed().await;
        assert!(matches!(flights.board(DIGEST, bearer(1, 1), 2), Boarding::Lead(_)));
    }
}
