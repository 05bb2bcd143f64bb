//! What tests of other modules need: a book that is kept nowhere, a revoker that remembers.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use crate::sessions::{Bindings, Book, End, Limits, MaxSessions, Revoker};
use crate::store::testing::{clock, open};
use crate::store::{Backend, Store, StoreError};

/// Remembers what was to be ended.
#[derive(Debug, Default)]
pub(crate) struct Ends(Mutex<Vec<End>>);

impl Ends {
    pub(crate) fn all(&self) -> Vec<End> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl Revoker for Ends {
    async fn end(&self, end: End) -> Result<(), StoreError> {
        self.0.lock().unwrap().push(end);
        Ok(())
    }
}

pub(crate) async fn book() -> Arc<Book> {
    book_in(&open(Backend::Memory).await).0
}

pub(crate) fn book_in(store: &Store) -> (Arc<Book>, Arc<Ends>) {
    let (table, ends) = (store.sessions.clone(), Arc::<Ends>::default());
    let limits = Limits::new(table.clone(), ends.clone(), clock(), MaxSessions::default());
    (Book::new(table.clone(), Bindings::new(table), ends.clone(), limits, clock()), ends)
}
