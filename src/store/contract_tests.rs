//! What every adapter must keep, held against each of them.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::domain::{Checkpoint, Disposition, Ending, Entry, Lift, Position, Reach, Recorded, TokenKind};
use crate::store::testing::*;
use crate::store::{AuditQuery, Batch, Beat, Replica, RevocationQuery, Store, StoreError};

async fn all(store: &Store, query: RevocationQuery) -> Vec<Recorded> {
    store.log.search(&RevocationQuery { limit: 1_000, now: NOW, ..query }).await.unwrap().items
}

async fn standing_users(store: &Store) -> Vec<String> {
    let held = all(store, RevocationQuery { standing_only: true, ..Default::default() }).await;
    held.iter().map(|held| held.revocation.selector.canonical()).collect()
}

#[tokio::test]
async fn what_was_appended_is_found_as_it_was() {
    on_each_store(async |store| {
        let mut odd = revocation(1, selector(r#"{"issuer":"i","user":"ä\"'%_ 🚪","claim:a.b":"x\n"}"#), 5);
        odd.reach = Reach::ALL;
        odd.expires_at = None;
        odd.reason = None;
        let appended = store.log.append(revoke(odd.clone())).await.unwrap();
        let found = store.log.find(id(1)).await.unwrap().unwrap();
        assert_eq!(found, Recorded { revocation: odd.clone(), position: appended.position, ending: None });
        assert_eq!(appended.dispositions, [Disposition::Created(found.clone())]);
        assert_eq!(store.log.standing(&odd.selector, NOW).await.unwrap(), [found]);
        assert_eq!(store.log.find(id(2)).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn the_same_append_twice_is_stored_once_and_answered_alike() {
    on_each_store(async |store| {
        let mut batch = revoke(revocation(1, user("a"), 0));
        batch.audit = vec![record("revoke", "ops")];
        let first = store.log.append(batch.clone()).await.unwrap();
        let again = store.log.append(batch).await.unwrap();
        assert_eq!(first.dispositions, again.dispositions);
        assert_eq!(first.position, again.position);
        let trail = store.audit.trail(&AuditQuery { limit: 10, ..Default::default() }).await.unwrap();
        assert_eq!(trail.items.len(), 1);
        assert_eq!((&*trail.items[0].result, trail.items[0].revocation), ("created", Some(id(1))));
    })
    .await;
}

#[tokio::test]
async fn a_lift_repeated_by_the_same_hand_is_answered_alike_and_another_one_comes_too_late() {
    on_each_store(async |store| {
        store.log.append(revoke(revocation(1, user("a"), 0))).await.unwrap();
        let first = store.log.append(lift(1)).await.unwrap();
        let again = store.log.append(lift(1)).await.unwrap();
        assert_eq!(first.dispositions, again.dispositions);
        let other = Entry::Lift { id: id(1), lift: Lift { at: NOW, actor: "eve".into() } };
        let late = store.log.append(batch([other])).await.unwrap();
        assert!(matches!(&late.dispositions[..], [Disposition::Ended(held)] if held.ending.is_some()));
        assert!(store.log.standing(&user("a"), NOW).await.unwrap().is_empty());
        let unknown = store.log.append(lift(9)).await.unwrap();
        assert_eq!(unknown.dispositions, [Disposition::Unknown(id(9))]);
    })
    .await;
}

#[tokio::test]
async fn a_later_cutoff_supersedes_an_earlier_and_never_the_other_way_round() {
    on_each_store(async |store| {
        store.log.append(revoke(revocation(1, user("a"), 0))).await.unwrap();
        let mut later = revocation(2, user("a"), 10);
        later.expires_at = Some(NOW.after(Duration::from_secs(3_610)));
        store.log.append(revoke(later)).await.unwrap();
        let first = store.log.find(id(1)).await.unwrap().unwrap();
        assert_eq!(first.ending, Some(Ending::Superseded(id(2))));
        let earlier = store.log.append(revoke(revocation(3, user("a"), 5))).await.unwrap();
        assert!(matches!(&earlier.dispositions[..], [Disposition::Already(held)] if held.revocation.id == id(2)));
        assert_eq!(store.log.find(id(3)).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn one_that_says_as_much_is_kept_longer_when_it_must_be() {
    on_each_store(async |store| {
        let before = store.log.append(revoke(revocation(1, user("a"), 10))).await.unwrap();
        let mut longer = revocation(2, user("a"), 0);
        longer.expires_at = None;
        let appended = store.log.append(revoke(longer)).await.unwrap();
        let held = store.log.find(id(1)).await.unwrap().unwrap();
        assert_eq!(held.revocation.expires_at, None);
        assert!(held.position > before.position, "followers must hear of it");
        assert_eq!(appended.dispositions, [Disposition::Already(held)]);
    })
    .await;
}

#[tokio::test]
async fn what_neither_includes_nor_is_included_stands_beside() {
    on_each_store(async |store| {
        store.log.append(revoke(revocation(1, user("a"), 10))).await.unwrap();
        let mut keys = revocation(2, user("a"), 0);
        keys.reach = Reach::from_iter([TokenKind::ApiKey]);
        store.log.append(revoke(keys)).await.unwrap();
        assert_eq!(store.log.standing(&user("a"), NOW).await.unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn what_has_expired_neither_stands_nor_absorbs_nor_can_be_lifted() {
    on_each_store(async |store| {
        store.log.append(revoke(revocation(1, user("a"), 10))).await.unwrap();
        let later = NOW.after(Duration::from_secs(3_600));
        let lifted = store.log.append(Batch { now: later, ..lift(1) }).await.unwrap();
        assert!(matches!(&lifted.dispositions[..], [Disposition::Ended(_)]));
        let mut anew = revocation(2, user("a"), 0);
        anew.expires_at = Some(later.after(Duration::from_secs(1)));
        let created = store.log.append(Batch { now: later, ..revoke(anew) }).await.unwrap();
        assert!(matches!(&created.dispositions[..], [Disposition::Created(_)]));
        let standing = store.log.standing(&user("a"), later).await.unwrap();
        assert_eq!(standing.iter().map(|held| held.revocation.id).collect::<Vec<_>>(), [id(2)]);
    })
    .await;
}

#[tokio::test]
async fn a_follower_from_the_start_sees_what_stands_and_nothing_else() {
    on_each_store(async |store| {
        store.log.append(revoke(revocation(1, user("a"), 0))).await.unwrap();
        store.log.append(revoke(revocation(2, user("b"), 0))).await.unwrap();
        let end = store.log.append(lift(1)).await.unwrap().position;
        let mut events = store.log.follow(Checkpoint::START).await.unwrap();
        let (changes, position) = until_caught_up(&mut events).await;
        assert_eq!(position, end);
        assert_eq!(changes.len(), 1);
        assert_eq!((&changes[0].selector, &changes[0].cause), (&user("b"), &None));
        assert_eq!(changes[0].standing, [revocation(2, user("b"), 0)]);
    })
    .await;
}

#[tokio::test]
async fn a_follower_hears_the_news_in_order_with_all_that_stands() {
    on_each_store(async |store| {
        let mut events = store.log.follow(Checkpoint::START).await.unwrap();
        until_caught_up(&mut events).await;
        store.log.append(revoke(revocation(1, user("a"), 0))).await.unwrap();
        let mut keys = revocation(2, user("a"), 0);
        keys.reach = Reach::from_iter([TokenKind::ApiKey]);
        let end = store.log.append(revoke(keys)).await.unwrap().position;
        let changes = until(&mut events, end).await;
        assert_eq!(changes.last().unwrap().standing.len(), 2);
        let end = store.log.append(lift(1)).await.unwrap().position;
        let changes = until(&mut events, end).await;
        let last = changes.last().unwrap();
        assert_eq!(last.standing.iter().map(|held| held.id).collect::<Vec<_>>(), [id(2)]);
        assert!(matches!(last.cause.as_ref().unwrap().ending, Some(Ending::Lifted(_))));
    })
    .await;
}

#[tokio::test]
async fn a_late_follower_goes_on_from_its_position_without_a_gap() {
    on_each_store(async |store| {
        let mut here = Position::START;
        for n in 0..1_500_u128 {
            let appended = store.log.append(revoke(revocation(n, user(&n.to_string()), 0))).await.unwrap();
            if n == 99 {
                here = appended.position;
            }
        }
        let mut events = store.log.follow(here.into()).await.unwrap();
        let (changes, _) = until_caught_up(&mut events).await;
        assert_eq!(changes.len(), 1_400);
        assert!(changes.is_sorted_by(|a, b| a.position < b.position));
        assert!(changes.iter().all(|change| change.cause.is_some() && change.standing.len() == 1));
        let mut events = store.log.follow(Checkpoint::START).await.unwrap();
        let (changes, _) = until_caught_up(&mut events).await;
        let selectors: BTreeSet<_> = changes.iter().map(|change| change.selector.canonical()).collect();
        assert_eq!((selectors.len(), changes.len()), (1_500, 1_500));
    })
    .await;
}

#[tokio::test]
async fn a_selector_with_more_than_a_page_stays_whole() {
    on_each_store(async |store| {
        // Each next one reaches further but is kept for less time, so none makes another needless.
        let crowd = |n: u64| {
            let mut one = revocation(n.into(), user("m"), n);
            one.expires_at = Some(NOW.after(Duration::from_secs(10_000 - n)));
            Entry::Revoke(one)
        };
        store.log.append(batch((1..=210).map(crowd))).await.unwrap();
        store.log.append(revoke(revocation(5_000, user("a"), 0))).await.unwrap();
        store.log.append(revoke(revocation(5_001, user("z"), 0))).await.unwrap();
        let mut events = store.log.follow(Checkpoint::START).await.unwrap();
        let (changes, _) = until_caught_up(&mut events).await;
        // In whatever order a store keeps its selectors.
        let mut sizes: Vec<_> = changes.iter().map(|change| change.standing.len()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 1, 210]);
    })
    .await;
}

#[tokio::test]
async fn a_follower_of_a_log_that_went_back_is_told_so() {
    on_each_store(async |store| {
        let mut events = store.log.follow(Position::new(7).into()).await.unwrap();
        let first = futures_util::StreamExt::next(&mut events).await.unwrap();
        assert!(matches!(first, Err(StoreError::Lost(_))));
    })
    .await;
}

#[tokio::test]
async fn fifty_writers_at_once_lose_nothing_and_share_no_position() {
    on_each_store(async |store| {
        let mut events = store.log.follow(Checkpoint::START).await.unwrap();
        let writers = (0..50_u128).map(|writer| {
            let log = store.log.clone();
            tokio::spawn(async move {
                for n in 0..20 {
                    let n = writer * 100 + n;
                    log.append(revoke(revocation(n, user(&n.to_string()), 0))).await.unwrap();
                    // Everyone also revokes the same one, over and over.
                    log.append(revoke(revocation(10_000 + n, user("shared"), 0))).await.unwrap();
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        let mut all = Vec::new();
        let mut query = RevocationQuery { limit: 300, now: NOW, ..Default::default() };
        loop {
            let page = store.log.search(&query).await.unwrap();
            all.extend(page.items);
            let Some(next) = page.next else { break };
            query.before = Some(Position::new(next));
        }
        assert_eq!(all.len(), 1_001);
        assert!(all.is_sorted_by(|a, b| a.position > b.position), "newest first, each position once");
        let seen = until(&mut events, all[0].position).await;
        let selectors: BTreeSet<_> = seen.iter().map(|change| change.selector.canonical()).collect();
        assert_eq!(selectors.len(), 1_001);
    })
    .await;
}

#[tokio::test]
async fn a_batch_supersedes_within_itself_in_order() {
    on_each_store(async |store| {
        let mut later = revocation(2, user("a"), 9);
        later.expires_at = None;
        let entries = [Entry::Revoke(revocation(1, user("a"), 0)), Entry::Revoke(later)];
        let appended = store.log.append(batch(entries)).await.unwrap();
        assert!(matches!(&appended.dispositions[..], [Disposition::Created(_), Disposition::Created(_)]));
        assert_eq!(store.log.standing(&user("a"), NOW).await.unwrap().len(), 1);
        assert_eq!(store.log.find(id(2)).await.unwrap().unwrap().position, appended.position);
    })
    .await;
}

#[tokio::test]
async fn searches_find_by_claim_actor_and_state_page_by_page() {
    on_each_store(async |store| {
        for n in 0..10_u128 {
            let mut one = revocation(n, user(if n % 2 == 0 { "even" } else { "odd" }), u64::try_from(n).unwrap());
            one.expires_at = Some(NOW.after(Duration::from_secs(3_600 + u64::try_from(n).unwrap())));
            one.actor = if n < 5 { "ann".into() } else { "ben".into() };
            store.log.append(revoke(one)).await.unwrap();
        }
        let having = |name: &str, value: &str| RevocationQuery {
            having: vec![(name.to_owned(), value.to_owned())],
            ..Default::default()
        };
        assert_eq!(all(&store, having("user", "odd")).await.len(), 5);
        assert_eq!(all(&store, having("issuer", "https://id.example")).await.len(), 10);
        assert_eq!(all(&store, having("issuer", "other")).await.len(), 0);
        let both = [("user", "even"), ("issuer", "https://id.example")];
        let both = both.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let found =
            all(&store, RevocationQuery { having: both, actor: Some("ann".into()), ..Default::default() }).await;
        assert_eq!(found.iter().map(|held| held.revocation.id).collect::<Vec<_>>(), [id(4), id(2), id(0)]);
        assert_eq!(standing_users(&store).await.len(), 2);
        let first = RevocationQuery { limit: 2, now: NOW, ..having("user", "even") };
        let page = store.log.search(&first).await.unwrap();
        let ids: Vec<_> = page.items.iter().map(|held| held.revocation.id).collect();
        assert_eq!(ids, [id(8), id(6)]);
        let next = RevocationQuery { before: page.next.map(Position::new), limit: 3, ..first };
        let page = store.log.search(&next).await.unwrap();
        assert_eq!((page.items.len(), page.next), (3, None));
    })
    .await;
}

#[tokio::test]
async fn what_expired_is_forgotten_and_its_position_is_not_given_out_again() {
    on_each_store(async |store| {
        let entries = (0..1_200_u128).map(|n| Entry::Revoke(revocation(n, user(&n.to_string()), 0)));
        let end = store.log.append(batch(entries)).await.unwrap().position;
        let mut ban = revocation(5_000, user("ban"), 0);
        ban.expires_at = None;
        store.log.append(revoke(ban)).await.unwrap();
        let later = NOW.after(Duration::from_secs(3_600));
        assert_eq!(store.log.forget(NOW).await.unwrap(), 0);
        assert_eq!(store.log.forget(later).await.unwrap(), 1_200);
        assert_eq!(all(&store, RevocationQuery::default()).await.len(), 1);
        let having = vec![("user".to_owned(), "7".to_owned())];
        assert!(all(&store, RevocationQuery { having, ..Default::default() }).await.is_empty());
        let lifted = store.log.append(lift(5_000)).await.unwrap();
        assert!(lifted.position > end.next());
        assert_eq!(store.log.forget(later).await.unwrap(), 0, "a follower may not have heard of the lift yet");
        assert_eq!(store.log.forget(NOW.after(Duration::from_secs(31 * 86_400))).await.unwrap(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_trail_keeps_the_order_and_is_filtered() {
    on_each_store(async |store| {
        let mut batch = batch([
            Entry::Revoke(revocation(1, user("a"), 0)),
            Entry::Lift { id: id(1), lift: Lift { at: NOW, actor: "ops".into() } },
        ]);
        batch.audit = vec![record("revoke", "ann"), record("lift", "ben"), record("import", "ann")];
        store.log.append(batch).await.unwrap();
        store.audit.record(vec![record("authenticate", "?")]).await.unwrap();
        let trail = async |query: AuditQuery| store.audit.trail(&AuditQuery { limit: 3, ..query }).await.unwrap();
        let page = trail(AuditQuery::default()).await;
        let told: Vec<_> = page.items.iter().map(|record| (&*record.action, &*record.result)).collect();
        assert_eq!(told, [("authenticate", "refused"), ("import", "refused"), ("lift", "lifted")]);
        let rest = trail(AuditQuery { before: page.next, ..Default::default() }).await;
        assert_eq!((rest.items.len(), rest.next, &*rest.items[0].result), (1, None, "created"));
        assert_eq!(trail(AuditQuery { actor: Some("ann".into()), ..Default::default() }).await.items.len(), 2);
        assert_eq!(trail(AuditQuery { action: Some("lift".into()), ..Default::default() }).await.items.len(), 1);
        assert_eq!(trail(AuditQuery { revocation: Some(id(1)), ..Default::default() }).await.items.len(), 2);
        assert_eq!(trail(AuditQuery { until: Some(NOW), ..Default::default() }).await.items.len(), 0);
        assert_eq!(trail(AuditQuery { since: Some(NOW), ..Default::default() }).await.items.len(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_closed_store_answers_with_an_error_and_its_followers_end() {
    on_each_store(async |store| {
        let mut events = store.log.follow(Checkpoint::START).await.unwrap();
        until_caught_up(&mut events).await;
        store.close().await;
        assert!(store.log.append(revoke(revocation(1, user("a"), 0))).await.is_err());
        while futures_util::StreamExt::next(&mut events).await.expect("it ends with an error").is_ok() {}
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_was_lost_is_put_back_as_it_was_and_once() {
    on_each_store(async |store| {
        let lost = |n, ending| Recorded { revocation: revocation(n, user("a"), 0), position: Position::START, ending };
        let put_back = async |lost: Recorded| {
            let appended = store.log.append(batch([Entry::Restore(Box::new(lost))])).await.unwrap();
            appended.dispositions.into_iter().next().unwrap()
        };
        let lift = Ending::Lifted(Lift { at: NOW, actor: "ops".into() });
        assert!(matches!(put_back(lost(1, None)).await, Disposition::Created(_)));
        let first = store.log.find(id(1)).await.unwrap().unwrap();
        assert!(matches!(put_back(lost(1, None)).await, Disposition::Already(_)));
        assert_eq!(store.log.find(id(1)).await.unwrap(), Some(first), "nothing was written");
        assert!(matches!(put_back(lost(1, Some(lift.clone()))).await, Disposition::Ended(_)));
        assert!(matches!(put_back(lost(1, None)).await, Disposition::Ended(_)), "an ending is for good");
        assert!(matches!(put_back(lost(2, Some(lift.clone()))).await, Disposition::Created(_)));
        assert_eq!(store.log.find(id(2)).await.unwrap().unwrap().ending, Some(lift));
        assert!(standing_users(&store).await.is_empty());
        let mut longer = lost(3, None);
        put_back(longer.clone()).await;
        longer.revocation.expires_at = None;
        put_back(longer).await;
        assert_eq!(store.log.find(id(3)).await.unwrap().unwrap().revocation.expires_at, None);
    })
    .await;
}

#[tokio::test]
async fn a_log_takes_nothing_from_a_replica_that_has_read_further() {
    on_each_store(async |store| {
        let far = Batch { seen: Position::new(7).into(), ..revoke(revocation(1, user("a"), 0)) };
        assert!(matches!(store.log.append(far).await, Err(StoreError::Lost(_))));
        assert_eq!(store.log.find(id(1)).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn replicas_are_known_by_their_signs_of_life_until_they_leave() {
    on_each_store(async |store| {
        let beat = |id: &str, position| Beat {
            id: id.into(),
            name: "gate".into(),
            version: "1".into(),
            checkpoint: Checkpoint { position: Position::new(position), mark: None },
            standing: "in_step".into(),
            lease: Duration::from_secs(10),
            started_at: NOW,
        };
        store.log.append(revoke(revocation(1, user("a"), 0))).await.unwrap();
        store.replicas.beat(beat("one", 0)).await.unwrap();
        store.replicas.beat(beat("two", 1)).await.unwrap();
        store.replicas.beat(beat("one", 1)).await.unwrap();
        assert!(matches!(store.replicas.beat(beat("two", 9)).await, Err(StoreError::Lost(_))));
        let known = store.replicas.replicas().await.unwrap();
        let told: Vec<_> = known.iter().map(|known| (&*known.beat.id, known.beat.checkpoint.position.get())).collect();
        assert_eq!(told, [("one", 1), ("two", 1)]);
        assert!(known.iter().all(Replica::is_live));
        store.replicas.leave("one").await.unwrap();
        assert_eq!(store.replicas.replicas().await.unwrap().len(), 1);
    })
    .await;
}
