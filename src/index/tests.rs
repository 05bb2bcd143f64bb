//! The index against the plain rule, on histories nobody thought of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::ManualClock;
use crate::domain::{
    Claims, Cutoff, Entry, Lift, Memo, Merge, Reach, Recorded, Revocation, RevocationId, TokenDigest, TokenKind, merge,
};

const T0: u64 = 1_800_000_000;

fn index() -> Arc<Index> {
    Index::new(ManualClock::at(Timestamp::from_secs(T0)), Duration::from_secs(10), [7; 16])
}

fn selector(parts: &[(&str, &str)]) -> Selector {
    let parts: BTreeMap<String, String> = parts.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Selector::try_from(parts).unwrap()
}

fn claims() -> Claims {
    Claims {
        issuer: "https://id".into(),
        kind: TokenKind::Access,
        digest: TokenDigest::new([9; 32]),
        token_id: Some("t1".into()),
        session: Some("s1".into()),
        user: Some("u1".into()),
        username: None,
        client: Some("c1".into()),
        key_id: Some("k1".into()),
        issued_at: Some(Timestamp::from_secs(T0)),
        expires_at: Some(Timestamp::from_secs(T0 + 600)),
        scopes: Box::default(),
        other: Box::new([("group".into(), Box::new(["a".into(), "b".into()]))]),
        family: None,
        twins: Box::default(),
        generation: Some(T0),
        memo: Memo::default(),
    }
}

fn revocation(id: u128, selector: Selector, cutoff: Cutoff) -> Revocation {
    Revocation {
        id: RevocationId::from_random(id),
        selector,
        reach: Reach::LOGIN,
        cutoff,
        created_at: Timestamp::from_secs(T0),
        expires_at: None,
        actor: "ops".into(),
        reason: None,
        named_for: None,
    }
}

fn news(position: u64, selector: &Selector, standing: Vec<Revocation>) -> Change {
    let cause = revocation(0, selector.clone(), Cutoff::Absolute);
    let cause = Recorded { revocation: cause, position: Position::new(position), ending: None };
    Change { position: Position::new(position), selector: selector.clone(), standing, cause: Some(cause) }
}

#[test]
fn every_kind_of_name_stops_the_token_that_has_it_and_no_other() {
    let digest = TokenDigest::new([9; 32]).to_string();
    let sets: [&[(&str, &str)]; 11] = [
        &[("issuer", "https://id"), ("temporary", "u1")],
        &[("issuer", "https://id")],
        &[("issuer", "https://id"), ("token_id", "t1")],
        &[("token_sha256", &digest)],
        &[("issuer", "https://id"), ("session", "s1")],
        &[("issuer", "https://id"), ("user", "u1")],
        &[("issuer", "https://id"), ("client", "c1")],
        &[("issuer", "https://id"), ("user", "u1"), ("client", "c1")],
        &[("key_id", "k1")],
        &[("claim:group", "b")],
        &[("issuer", "https://id"), ("claim:group", "a")],
    ];
    for parts in sets {
        let index = index();
        let selector = selector(parts);
        index.apply(&news(1, &selector, vec![revocation(1, selector.clone(), Cutoff::Absolute)]));
        let now = Timestamp::from_secs(T0);
        assert!(index.covers(&claims(), now), "{parts:?}");
        assert_eq!(index.covering(&claims(), now), [selector]);
        let stranger = Claims {
            issuer: "https://other".into(),
            digest: TokenDigest::new([1; 32]),
            key_id: None,
            other: Box::default(),
            ..claims()
        };
        assert!(!index.covers(&stranger, now), "{parts:?}");
    }
}

#[test]
fn a_cutoff_for_temporary_tokens_counts_their_generations() {
    let index = index();
    let temporary = selector(&[("issuer", "https://id"), ("temporary", "u1")]);
    let cutoff = Cutoff::Until(Timestamp::from_secs(3));
    index.apply(&news(1, &temporary, vec![revocation(1, temporary.clone(), cutoff)]));
    let covered = |generation| index.covers(&Claims { generation, ..claims() }, Timestamp::from_secs(T0));
    assert!(covered(Some(1)) && covered(Some(3)));
    assert!(!covered(Some(4)) && !covered(None), "newer ones and named ones live");
}

#[test]
fn values_cannot_run_into_each_other() {
    let index = index();
    let split = selector(&[("issuer", "https://id"), ("claim:a", "xy"), ("claim:b", "z")]);
    index.apply(&news(1, &split, vec![revocation(1, split.clone(), Cutoff::Absolute)]));
    let with = |a: &str, b: &str| Claims {
        other: Box::new([("a".into(), Box::new([a.into()])), ("b".into(), Box::new([b.into()]))]),
        ..claims()
    };
    assert!(index.covers(&with("xy", "z"), Timestamp::from_secs(T0)));
    assert!(!index.covers(&with("x", "yz"), Timestamp::from_secs(T0)));
}

#[test]
fn news_that_is_applied_already_does_not_undo_a_lift() {
    let index = index();
    let user = selector(&[("issuer", "https://id"), ("user", "u1")]);
    let revoked = news(1, &user, vec![revocation(1, user.clone(), Cutoff::Absolute)]);
    index.apply(&revoked);
    index.advance(Position::new(1));
    index.apply(&news(2, &user, Vec::new()));
    index.advance(Position::new(2));
    index.apply(&revoked);
    assert!(!index.covers(&claims(), Timestamp::from_secs(T0)));
}

#[test]
fn a_token_with_more_combinations_than_can_be_looked_up_is_refused() {
    let index = index();
    let three = selector(&[("claim:a", "?"), ("claim:b", "?"), ("claim:c", "?")]);
    index.apply(&news(1, &three, vec![revocation(1, three.clone(), Cutoff::Absolute)]));
    let many: Box<[Box<str>]> = (0..64).map(|n| n.to_string().into()).collect();
    let other = ["a", "b", "c"].map(|name| (name.into(), many.clone()));
    assert!(index.covers(&Claims { other: Box::new(other), ..claims() }, Timestamp::from_secs(T0)));
}

#[test]
fn claims_that_were_clear_are_looked_up_again_once_anything_was_revoked() {
    let (index, now) = (index(), Timestamp::from_secs(T0));
    let held = Arc::new(claims());
    let others = selector(&[("issuer", "https://id"), ("user", "u2")]);
    let own = selector(&[("issuer", "https://id"), ("session", "s1")]);
    let absolute = |selector: &Selector| revocation(1, selector.clone(), Cutoff::Absolute);
    assert!(!index.covers_shared(&held, now));
    index.apply(&news(1, &others, vec![absolute(&others)]));
    assert!(!index.covers_shared(&held, now) && !index.covers_shared(&held, now));
    index.apply(&news(2, &own, vec![absolute(&own)]));
    assert!(index.covers_shared(&held, now) && index.covers_shared(&held, now));
    index.apply(&news(3, &own, Vec::new()));
    assert!(!index.covers_shared(&held, now));
    index.remember(&absolute(&own));
    assert!(index.covers_shared(&held, now), "from a snapshot");
}

#[test]
fn what_one_index_found_clear_another_may_cover() {
    let (one, two, now) = (index(), index(), Timestamp::from_secs(T0));
    let user = selector(&[("issuer", "https://id"), ("user", "u1")]);
    let (held, shared) = (Arc::new(claims()), Index::new(ManualClock::at(now), Duration::from_secs(10), [8; 16]));
    for index in [&two, &shared] {
        index.apply(&news(1, &user, vec![revocation(1, user.clone(), Cutoff::Absolute)]));
    }
    assert!(!one.covers_shared(&held, now));
    assert!(two.covers_shared(&held, now) && shared.covers_shared(&held, now), "though their secrets differ");
    assert!(!one.covers_shared(&held, now));
}

#[test]
fn a_copy_of_claims_remembers_nothing_that_its_changes_may_belie() {
    let (index, now) = (index(), Timestamp::from_secs(T0));
    let user = selector(&[("issuer", "https://id"), ("user", "u2")]);
    index.apply(&news(1, &user, vec![revocation(1, user.clone(), Cutoff::Absolute)]));
    let held = Arc::new(claims());
    assert!(!index.covers_shared(&held, now));
    let changed = Arc::new(Claims { user: Some("u2".into()), ..Claims::clone(&held) });
    assert!(index.covers_shared(&changed, now));
}

#[test]
fn an_expired_revocation_counts_again_when_the_clock_is_set_back() {
    let index = index();
    let user = selector(&[("issuer", "https://id"), ("user", "u1")]);
    let expires_at = Some(Timestamp::from_secs(T0 + 10));
    index.apply(&news(1, &user, vec![Revocation { expires_at, ..revocation(1, user.clone(), Cutoff::Absolute) }]));
    let held = Arc::new(claims());
    assert!(!index.covers_shared(&held, Timestamp::from_secs(T0 + 10)));
    assert!(index.covers_shared(&held, Timestamp::from_secs(T0 + 9)));
}

#[test]
fn a_twin_that_is_alive_keeps_the_token_alive_until_it_dies_too() {
    let (index, now) = (index(), Timestamp::from_secs(T0));
    let twin = Arc::new(Claims { session: Some("s2".into()), ..claims() });
    let held = Arc::new(Claims { twins: [twin].into(), ..claims() });
    for (position, session, dead) in [(1, "s1", false), (2, "s2", true)] {
        let session = selector(&[("issuer", "https://id"), ("session", session)]);
        index.apply(&news(position, &session, vec![revocation(1, session.clone(), Cutoff::Absolute)]));
        assert_eq!(index.covers_shared(&held, now), dead);
        assert_eq!(index.covers_shared(&held, now), dead);
    }
}

#[test]
fn more_shapes_than_have_a_place_beside_the_claims_are_all_looked_up() {
    let now = Timestamp::from_secs(T0);
    let other: Box<[_]> = (0..12).map(|n| (format!("c{n:02}").into(), Box::from(["x".into()]))).collect();
    let held = Arc::new(Claims { other, ..claims() });
    let index = index();
    for n in 0..12 {
        let name = format!("claim:c{n:02}");
        let (miss, hit) = (selector(&[(&name, "y")]), selector(&[(&name, "x")]));
        index.apply(&news(3 * n + 1, &miss, vec![revocation(1, miss.clone(), Cutoff::Absolute)]));
        assert!(!index.covers_shared(&held, now) && !index.covers_shared(&held, now));
        index.apply(&news(3 * n + 2, &hit, vec![revocation(2, hit.clone(), Cutoff::Absolute)]));
        assert!(index.covers_shared(&held, now), "{name}");
        index.apply(&news(3 * n + 3, &hit, Vec::new()));
    }
}

#[test]
fn whoever_asks_after_a_revoke_was_answered_is_refused() {
    let (index, now) = (index(), Timestamp::from_secs(T0));
    let tokens: Vec<_> =
        (0..2_000).map(|n| Arc::new(Claims { user: Some(format!("u-{n}").into()), ..claims() })).collect();
    let answered = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let before = answered.load(Ordering::Acquire);
                    for (n, token) in tokens.iter().enumerate().skip(before.saturating_sub(8)).take(16) {
                        let covered = index.covers_shared(token, now);
                        assert!(covered || n >= before, "token {n} of {before}");
                    }
                    if before == tokens.len() {
                        break;
                    }
                }
            });
        }
        for n in 0..tokens.len() {
            let user = selector(&[("issuer", "https://id"), ("user", &format!("u-{n}"))]);
            index.apply(&news(n as u64 + 1, &user, vec![revocation(1, user.clone(), Cutoff::Absolute)]));
            answered.store(n + 1, Ordering::Release);
        }
    });
    assert!(tokens.iter().all(|token| index.covers_shared(token, now)));
}

#[test]
fn a_shape_without_entries_is_no_longer_probed() {
    let index = index();
    let user = selector(&[("issuer", "https://id"), ("user", "u1")]);
    let expires_at = Some(Timestamp::from_secs(T0 + 10));
    let revoked = Revocation { expires_at, ..revocation(1, user.clone(), Cutoff::Absolute) };
    index.apply(&news(1, &user, vec![revoked]));
    assert_eq!(index.shapes(), [("issuer+user".to_owned(), 1)]);
    assert_eq!(index.expire(Timestamp::from_secs(T0 + 9)), 0);
    assert_eq!(index.expire(Timestamp::from_secs(T0 + 10)), 1);
    assert!(index.shapes().is_empty());
}

#[tokio::test]
async fn whoever_waits_for_a_position_is_woken_when_it_is_applied() {
    let index = index();
    let waiting = tokio::spawn({
        let index = index.clone();
        async move { index.reached(Position::new(3)).await }
    });
    index.advance(Position::new(2));
    assert!(!waiting.is_finished());
    index.advance(Position::new(4));
    waiting.await.unwrap();
    assert_eq!(index.position(), Position::new(4));
}

/// The log in its plainest form: who stands, by selector.
#[derive(Default)]
struct Plain {
    standing: BTreeMap<Selector, Vec<Revocation>>,
    position: u64,
}

impl Plain {
    /// Carries out `entry`, and says what a follower would hear.
    fn append(&mut self, entry: Entry, now: Timestamp) -> Option<Change> {
        let selector = match &entry {
            Entry::Revoke(revocation) => revocation.selector.clone(),
            Entry::Lift { id, .. } => {
                let holds = |(_, held): &(&Selector, &Vec<Revocation>)| held.iter().any(|one| one.id == *id);
                self.standing.iter().find(holds).map(|(selector, _)| selector.clone())?
            }
            Entry::Restore(_) => return None,
        };
        let held = self.standing.entry(selector.clone()).or_default();
        held.retain(|one| one.in_force(now));
        match entry {
            Entry::Restore(_) => {}
            Entry::Lift { id, .. } => held.retain(|one| one.id != id),
            Entry::Revoke(incoming) => match merge(held, &incoming) {
                Merge::Already(_) => {}
                Merge::Extend(id, until) => {
                    held.iter_mut().filter(|one| one.id == id).for_each(|one| one.expires_at = until);
                }
                Merge::Replace(outdone) => {
                    held.retain(|one| !outdone.contains(&one.id));
                    held.push(incoming);
                }
            },
        }
        self.position += 1;
        Some(news(self.position, &selector, held.clone()))
    }

    fn covers(&self, claims: &Claims, now: Timestamp) -> bool {
        self.standing.values().flatten().any(|one| one.in_force(now) && one.covers(claims))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Revoke { selector: Selector, reach: u8, cutoff: Option<u64>, lives: Option<u64> },
    Lift(prop::sample::Index),
    Wait(u64),
    Sweep,
    Redeliver(prop::sample::Index),
}

fn any_selector() -> impl Strategy<Value = Selector> {
    let value = || (0_u8..3).prop_map(|n| n.to_string());
    let names = ["token_id", "session", "user", "temporary", "username", "client", "key_id", "claim:a", "claim:b"];
    let parts = prop::collection::btree_map(prop::sample::select(names.to_vec()), value(), 0..3);
    (value(), parts).prop_map(|(issuer, parts)| {
        let parts = parts.into_iter().map(|(name, value)| (name.to_owned(), value));
        Selector::try_from(parts.chain([("issuer".to_owned(), issuer)]).collect::<BTreeMap<_, _>>()).unwrap()
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (any_selector(), 1_u8..8, prop::option::of(0..60_u64), prop::option::of(1..60_u64))
            .prop_map(|(selector, reach, cutoff, lives)| Step::Revoke { selector, reach, cutoff, lives }),
        2 => any::<prop::sample::Index>().prop_map(Step::Lift),
        1 => (1..30_u64).prop_map(Step::Wait),
        1 => Just(Step::Sweep),
        1 => any::<prop::sample::Index>().prop_map(Step::Redeliver),
    ]
}

prop_compose! {
    fn any_claims()(
        texts in prop::array::uniform7(prop::option::of(0_u8..3)),
        kind in prop::sample::select(TokenKind::ALL.to_vec()),
        issued in prop::option::of(0..60_u64),
        members in prop::collection::vec(0_u8..3, 0..3),
        generation in prop::option::of(T0..T0 + 60),
    ) -> Claims {
        let text = |at: usize| texts[at].map(|n| n.to_string().into_boxed_str());
        Claims {
            issuer: texts[0].unwrap_or_default().to_string().into(),
            kind,
            token_id: text(1),
            session: text(2),
            user: text(3),
            username: text(4),
            client: text(5),
            key_id: text(6),
            issued_at: issued.map(|secs| Timestamp::from_secs(T0 + secs)),
            generation,
            other: Box::new([
                ("a".into(), members.iter().map(|n| n.to_string().into()).collect()),
                ("b".into(), text(1).into_iter().collect()),
            ]),
            ..claims()
        }
    }
}

proptest! {
    #[test]
    fn the_index_answers_as_the_plain_rule_does(
        steps in prop::collection::vec(any_step(), 0..40),
        tokens in prop::collection::vec(any_claims(), 1..20),
    ) {
        let (index, mut plain, mut now) = (index(), Plain::default(), T0);
        let (mut ids, mut delivered) = (Vec::new(), Vec::<Change>::new());
        let tokens: Vec<_> = tokens.into_iter().map(Arc::new).collect();
        for (n, step) in steps.into_iter().enumerate() {
            let at = Timestamp::from_secs(now);
            let entry = match step {
                Step::Wait(secs) => { now += secs; continue }
                Step::Sweep => { index.expire(at); continue }
                Step::Redeliver(which) => {
                    if !delivered.is_empty() { index.apply(which.get(&delivered)); }
                    continue
                }
                Step::Revoke { selector, reach, cutoff, lives } => Entry::Revoke(Revocation {
                    reach: Reach::from_bits(reach),
                    expires_at: lives.map(|secs| Timestamp::from_secs(now + secs)),
                    ..revocation(n as u128, selector, cutoff.map_or(Cutoff::Absolute, |secs| Cutoff::Until(Timestamp::from_secs(T0 + secs))))
                }),
                Step::Lift(which) => {
                    if ids.is_empty() { continue }
                    Entry::Lift { id: *which.get(&ids), lift: Lift { at, actor: "ops".into() } }
                }
            };
            if let Entry::Revoke(revocation) = &entry { ids.push(revocation.id); }
            if let Some(change) = plain.append(entry, at) {
                index.apply(&change);
                index.advance(change.position);
                delivered.push(change);
            }
            for token in &tokens {
                let at = Timestamp::from_secs(now);
                prop_assert_eq!(index.covers(token, at), plain.covers(token, at), "{:?}", token);
                prop_assert_eq!(index.covers_shared(token, at), plain.covers(token, at), "{:?}", token);
                prop_assert_eq!(!index.covering(token, at).is_empty(), plain.covers(token, at));
            }
        }
    }
}
