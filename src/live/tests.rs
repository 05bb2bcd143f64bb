//! Who is cut, who is not, and that nobody slips through.

use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::*;
use crate::clock::ManualClock;
use crate::domain::{Cutoff, Position, Reach, Recorded, Selector, TokenDigest, TokenKind};
use crate::index::Index;

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

fn claims(user: &str) -> Arc<Claims> {
    let bare = Claims::bare("https://id.example".into(), TokenKind::Access, TokenDigest::new([7; 32]));
    Arc::new(Claims { user: Some(user.into()), issued_at: Some(NOW), ..bare })
}

fn revocation(id: u128, user: &str) -> Revocation {
    let parts = [("issuer", "https://id.example"), ("user", user)];
    let parts = parts.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Revocation {
        id: RevocationId::from_random(id),
        selector: Selector::try_from(std::collections::BTreeMap::from(parts)).unwrap(),
        reach: Reach::LOGIN,
        cutoff: Cutoff::Until(NOW),
        created_at: NOW,
        expires_at: None,
        actor: "ops".into(),
        reason: None,
        named_for: None,
    }
}

fn change(position: u64, revocation: Revocation) -> Change {
    let position = Position::new(position);
    let cause = Some(Recorded { revocation: revocation.clone(), position, ending: None });
    Change { position, selector: revocation.selector.clone(), standing: vec![revocation], cause }
}

fn dead(users: &[&str]) -> impl Fn(&Claims) -> bool {
    move |claims| users.iter().any(|user| claims.user.as_deref() == Some(user))
}

fn live() -> Arc<Live> {
    Live::new(Metrics::new())
}

#[test]
fn a_revocation_cuts_those_it_covers_and_nobody_else() {
    let live = live();
    let alice: Vec<_> = (0..100).map(|_| live.join(&claims("alice"), None)).collect();
    let bob: Vec<_> = (0..100).map(|_| live.join(&claims("bob"), None)).collect();
    assert_eq!(live.concerned(&revocation(1, "alice")), 100);
    assert_eq!(live.cut(&[change(1, revocation(1, "alice"))], dead(&["alice"])), 100);
    assert!(alice.iter().all(|lease| lease.term().cut() == Some(Cut::Revoked)));
    assert!(bob.iter().all(|lease| lease.term().cut().is_none()));
    assert_eq!(live.cut_by(RevocationId::from_random(1)), 100);
    assert_eq!(live.concerned(&revocation(1, "alice")), 0, "what is cut already is not cut again");
    assert_eq!(live.cut(&[change(2, revocation(2, "alice"))], dead(&["alice"])), 0);
}

#[test]
fn the_index_has_the_last_word() {
    let live = live();
    let lease = live.join(&claims("alice"), None);
    assert_eq!(live.cut(&[change(1, revocation(1, "alice"))], |_| false), 0);
    let lifted = Change { standing: Vec::new(), ..change(2, revocation(1, "alice")) };
    assert_eq!(live.cut(&[lifted], |_| true), 0, "a lift cuts nothing");
    assert!(lease.term().cut().is_none());
}

#[test]
fn a_token_of_two_logins_is_cut_when_the_last_of_them_dies() {
    let live = live();
    let both = Claims { twins: [claims("second")].into(), ..(*claims("first")).clone() };
    let lease = live.join(&Arc::new(both), None);
    let index = Index::new(ManualClock::at(NOW), Duration::from_secs(10), [7; 16]);
    for (at, user, cut) in [(1, "second", 0), (2, "first", 1)] {
        let change = change(at, revocation(u128::from(at), user));
        index.apply(&change);
        assert_eq!(live.cut(&[change], |claims| index.covers(claims, NOW)), cut, "{user}");
    }
    assert!(lease.term().cut().is_some());
    assert_eq!(live.cut_by(RevocationId::from_random(2)), 1);
}

#[test]
fn many_changes_at_once_are_told_apart() {
    let live = live();
    let users: Vec<String> = (0..50).map(|n| format!("user-{n}")).collect();
    let leases: Vec<_> = users.iter().map(|user| live.join(&claims(user), None)).collect();
    let changes: Vec<_> = (0..20).map(|n| change(n + 1, revocation(u128::from(n), &format!("user-{n}")))).collect();
    let covered = |claims: &Claims| changes.iter().any(|change| change.standing[0].covers(claims));
    assert_eq!(live.cut(&changes, covered), 20);
    assert_eq!(leases.iter().filter(|lease| lease.term().cut().is_some()).count(), 20);
    assert!((0..20).all(|n| live.cut_by(RevocationId::from_random(n)) == 1));
    assert_eq!(live.sweep(dead(&["user-33"])), 1);
}

#[test]
fn an_expired_token_is_cut_when_its_time_has_come() {
    let live = live();
    let soon = live.join(&claims("alice"), Some(NOW.after(Duration::from_secs(5))));
    let later = live.join(&claims("alice"), Some(NOW.after(Duration::from_secs(9))));
    let never = live.join(&claims("alice"), None);
    let after = |secs| live.expire(NOW.after(Duration::from_secs(secs)));
    assert_eq!((after(4), after(5), after(6), after(9), after(99)), (0, 1, 0, 1, 0));
    assert_eq!(soon.term().cut(), Some(Cut::Expired));
    assert!(later.term().cut().is_some() && never.term().cut().is_none());
    let text = live.metrics.text();
    assert!(text.contains("portcullis_cut_total{reason=\"expired\"} 2"), "{text}");
}

#[test]
fn whoever_leaves_is_not_there_any_more() {
    let live = live();
    let lease = live.join(&claims("alice"), None);
    let clone = lease.clone();
    drop(lease);
    assert_eq!(live.open(), 1, "as long as one side goes on, the exchange does");
    drop(clone);
    assert_eq!((live.open(), live.cut(&[change(1, revocation(1, "alice"))], dead(&["alice"]))), (0, 0));
    let many: Vec<_> = (0..1000).map(|_| live.join(&claims("bob"), None)).collect();
    drop(many);
    let again: Vec<_> = (0..1000).map(|_| live.join(&claims("bob"), None)).collect();
    assert_eq!(live.open(), again.len(), "places are taken again");
}

#[tokio::test]
async fn who_waits_is_woken_on_both_sides() {
    let live = live();
    let lease = live.join(&claims("alice"), None);
    let wait = |side| {
        let lease = lease.clone();
        tokio::spawn(async move { std::future::poll_fn(|cx| lease.term().poll_cut(side, cx)).await })
    };
    let (answer, upload) = (wait(Side::Answer), wait(Side::Upload));
    tokio::task::yield_now().await;
    live.sweep(|_| true);
    assert_eq!((answer.await.unwrap(), upload.await.unwrap()), (Cut::Revoked, Cut::Revoked));
}

/// The promise everything rests on, with real threads: one joins and checks while the other revokes and cuts.
#[test]
fn an_exchange_that_begins_in_the_very_moment_of_the_revoke_is_refused_or_cut() {
    const ROUNDS: u64 = 5_000;
    let live = live();
    let index = Index::new(ManualClock::at(NOW), Duration::from_secs(10), [7; 16]);
    let start = Barrier::new(2);
    let missed = AtomicBool::new(false);
    let user = |round: u64| format!("user-{round}");
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for round in 0..ROUNDS {
                let change = change(round + 1, revocation(u128::from(round), &user(round)));
                start.wait();
                index.apply(&change);
                live.cut(std::slice::from_ref(&change), |claims| index.covers(claims, NOW));
                index.advance(change.position);
                start.wait();
            }
        });
        for round in 0..ROUNDS {
            let claims = claims(&user(round));
            start.wait();
            for _ in 0..round % 64 {
                std::hint::spin_loop();
            }
            let lease = live.join(&claims, None);
            let refused = index.covers(&claims, NOW);
            start.wait();
            if !refused && lease.term().cut().is_none() {
                missed.store(true, Ordering::SeqCst);
            }
        }
    });
    assert!(!missed.load(Ordering::SeqCst));
}
