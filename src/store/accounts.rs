//! Accounts of sessions, as they come from traffic and token endpoints, before they meet what a store holds.

use std::collections::HashMap;

use crate::domain::{Session, SessionKey};

/// The accounts of each session in their order, the sessions in the order in which they were first named. They are not
/// joined with each other before they meet what is held: what a late account says counts only where nothing newer is known.
pub(super) fn by_session(told: Vec<Session>) -> Vec<(SessionKey, Vec<Session>)> {
    let mut places: HashMap<SessionKey, usize> = HashMap::with_capacity(told.len());
    let mut sessions: Vec<(SessionKey, Vec<Session>)> = Vec::with_capacity(told.len());
    for account in told {
        let place = *places.entry(account.key.clone()).or_insert(sessions.len());
        match sessions.get_mut(place) {
            Some((_, accounts)) => accounts.push(account),
            None => sessions.push((account.key.clone(), vec![account])),
        }
    }
    sessions
}

/// A session as its first accounts tell it; how it ended is not theirs to tell.
pub(super) fn begin(accounts: Vec<Session>) -> Option<Session> {
    let mut accounts = accounts.into_iter();
    let mut session = Session { ended: None, ..accounts.next()? };
    accounts.for_each(|account| session.learn(account));
    Some(session)
}
