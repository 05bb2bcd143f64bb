//! The ledger against a plain list of all that was added.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::{Ending, Lift, Position};
use crate::store::testing::{NOW, id, revocation, selector, user};

/// A record of revocation `n`, standing or lifted, at this position.
fn record(n: u128, position: u64, lifted: bool) -> Recorded {
    let ending = lifted.then(|| Ending::Lifted(Lift { at: NOW, actor: "ops".into() }));
    Recorded { revocation: revocation(n, user(&format!("u{n}")), 0), position: Position::new(position), ending }
}

/// The newest record of each revocation, by its id.
fn latest(ledger: &Ledger) -> HashMap<u128, Kept> {
    let mut latest = Latest::of(ledger.image());
    let mut all = HashMap::new();
    while let Some(some) = latest.next() {
        for kept in some.unwrap() {
            let twice = all.insert(kept.recorded.revocation.id.bits(), kept);
            assert!(twice.is_none(), "each is told once");
        }
    }
    all
}

fn compact(ledger: &Ledger, now: Timestamp) {
    if let Some(compaction) = ledger.due() {
        ledger.compact(compaction, now).unwrap();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add {
        n: u128,
        lifted: bool,
    },
    /// Packs what is there.
    Image,
    /// All that stands is told anew, apart from every third.
    Reload,
    Compact,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0_u128..40, any::<bool>()).prop_map(|(n, lifted)| Step::Add { n, lifted }),
        2 => Just(Step::Image),
        1 => Just(Step::Reload),
        2 => Just(Step::Compact),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_newest_record_of_each_is_found(steps in proptest::collection::vec(step(), 0..120)) {
        let (ledger, mut model) = (Ledger::default(), HashMap::new());
        for (at, step) in steps.iter().enumerate() {
            match step {
                Step::Add { n, lifted } => {
                    let recorded = record(*n, at as u64, *lifted);
                    ledger.add(recorded.clone(), NOW);
                    model.insert(recorded.revocation.id.bits(), recorded);
                }
                Step::Image => drop(ledger.image()),
                Step::Reload => {
                    ledger.reload();
                    model.retain(|id, recorded: &mut Recorded| recorded.ending.is_some() || id % 3 != 0);
                    model.values().filter(|recorded| recorded.ending.is_none()).for_each(|recorded| {
                        ledger.add(recorded.clone(), NOW);
                    });
                    ledger.reloaded();
                }
                Step::Compact => compact(&ledger, NOW),
            }
        }
        let found = latest(&ledger);
        prop_assert_eq!(found.len(), model.len());
        for (id, recorded) in &model {
            prop_assert_eq!(&found[id].recorded, recorded);
        }
    }
}

#[test]
fn what_nobody_needs_is_dropped_and_what_came_meanwhile_stays() {
    let ledger = Ledger::default();
    for position in 0..40_000 {
        ledger.add(record(u128::from(position % 100), position, false), NOW);
    }
    let compaction = ledger.due().expect("there are far more records than revocations");
    assert!(ledger.due().is_none(), "one at a time");
    ledger.add(record(5, 50_000, true), NOW);
    ledger.add(record(777, 50_001, false), NOW);
    ledger.compact(compaction, NOW).unwrap();
    assert_eq!(ledger.size().0, 102);
    let found = latest(&ledger);
    assert_eq!(found.len(), 101);
    assert!(found[&id(5).bits()].recorded.ending.is_some());
}

#[test]
fn what_is_over_is_dropped_in_its_time() {
    let (hour, day) = (Duration::from_secs(3_600), Duration::from_secs(24 * 3_600));
    let ended = Recorded {
        revocation: crate::domain::Revocation { expires_at: None, ..revocation(1, user("a"), 0) },
        ..record(1, 1, true)
    };
    let over = |recorded: &Recorded, after| {
        Kept { recorded: recorded.clone(), seen_at: NOW }.is_over(NOW.after(after), hour, day * 30)
    };
    assert!(!over(&ended, day * 29) && over(&ended, day * 30));
    let standing = record(2, 2, false);
    assert!(!over(&standing, hour + hour / 2) && over(&standing, hour * 2));
}

#[test]
fn a_reload_that_a_compaction_overtakes_outdates_only_what_came_before() {
    let ledger = Ledger::default();
    (0..20_000).for_each(|n| ledger.add(record(n % 10, 1, false), NOW));
    let compaction = ledger.due().expect("it is worth it");
    ledger.reload();
    ledger.add(record(3, 2, false), NOW);
    ledger.reloaded();
    ledger.compact(compaction, NOW).unwrap();
    assert_eq!(latest(&ledger).into_keys().collect::<Vec<_>>(), [id(3).bits()]);
    compact(&ledger, NOW);
    assert_eq!(ledger.size().0, 1);
}

#[test]
#[ignore = "prints a figure; takes a while without optimisation"]
fn a_million_revocations_take_few_bytes_each() {
    let ledger = Ledger::default();
    let mut bits = 1_u128;
    let mut random = || {
        bits = bits.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(0x5851_f42d_4c95_7f2d);
        bits ^ (bits >> 64)
    };
    let count = 1_000_000_u64;
    for position in 0..count {
        let hex = format!("{:032x}", random());
        let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
        let token = format!(r#"{{"issuer":"https://id.example","token_id":"{a}-{b}-{c}-{d}-{e}"}}"#);
        let mut revocation = revocation(random(), selector(&token), 0);
        revocation.created_at = NOW.after(Duration::from_secs(position / 100));
        revocation.expires_at = Some(revocation.created_at.after(Duration::from_secs(86_430)));
        ledger.add(Recorded { revocation, position: Position::new(position), ending: None }, NOW);
    }
    let (_, bytes) = ledger.size();
    println!("{} bytes for each of {count}", bytes as u64 / count);
    assert!(bytes as u64 / count <= 60);
    let began = std::time::Instant::now();
    assert_eq!(latest(&ledger).len() as u64, count);
    println!("read in {:?}", began.elapsed());
}
