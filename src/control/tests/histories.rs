//! Random histories of revoking, lifting and the passing of time: the index says what the standing records say, token by
//! token, and nothing that was asked for is ever forgotten.

use proptest::prelude::*;

use super::*;

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    Revoke { selector: usize, reach: u8, cutoff_ago: Option<u64>, block: bool, keep_secs: Option<u64> },
    Lift(prop::sample::Index),
    Wait(u64),
    Expire,
}

const SELECTORS: [&str; 7] = [
    r#"{"user":"a"}"#,
    r#"{"user":"b"}"#,
    r#"{"session":"s1"}"#,
    r#"{"token_id":"t1"}"#,
    r#"{"issuer":"main"}"#,
    r#"{"user":"a","client":"web"}"#,
    r#"{"key_id":"k1"}"#,
];

fn step() -> impl Strategy<Value = Step> {
    let revoke = (
        0..SELECTORS.len(),
        1_u8..8,
        prop::option::of(0_u64..20),
        prop::bool::weighted(0.2),
        prop::option::of(1_u64..60),
    );
    prop_oneof![
        6 => revoke.prop_map(|(selector, reach, cutoff_ago, block, keep_secs)| Step::Revoke {
            selector, reach, cutoff_ago, block, keep_secs
        }),
        3 => any::<prop::sample::Index>().prop_map(Step::Lift),
        2 => (1_u64..40).prop_map(Step::Wait),
        1 => Just(Step::Expire),
    ]
}

/// What was asked for, and which record stands for it now.
struct Asked {
    revocation: Revocation,
    by: RevocationId,
}

struct History {
    rig: Rig,
    asked: Vec<Asked>,
    ids: Vec<RevocationId>,
}

impl History {
    async fn take(&mut self, step: Step) {
        match step {
            Step::Revoke { selector, reach, cutoff_ago, block, keep_secs } => {
                let now = self.rig.clock.now();
                let mut command = about(SELECTORS[selector]);
                let absolute =
                    block || SELECTORS[selector].contains("session") || SELECTORS[selector].contains("token");
                command.reach = Some(Reach::from_bits(reach));
                command.block = block;
                command.cutoff = cutoff_ago.filter(|_| !absolute).map(|ago| now.before(Duration::from_secs(ago)));
                command.expires_at = keep_secs.map(|secs| now.after(Duration::from_secs(secs)));
                self.revoke(command).await;
            }
            Step::Lift(index) if !self.ids.is_empty() => self.lift(*index.get(&self.ids)).await,
            Step::Lift(_) => {}
            Step::Wait(secs) => self.rig.clock.advance(Duration::from_secs(secs)),
            Step::Expire => {
                let now = self.rig.clock.now();
                self.rig.index.expire(now);
                self.rig.store.log.forget(now).await.unwrap();
            }
        }
    }

    async fn revoke(&mut self, command: Revoke) {
        let now = self.rig.clock.now();
        let (reach, expires_at, block, cutoff) = (command.reach, command.expires_at, command.block, command.cutoff);
        let receipt = self.rig.control.revoke(&admin(), command).await.unwrap();
        let mut revocation = held(&receipt).revocation.clone();
        let by = revocation.id;
        if matches!(receipt.disposition, Disposition::Already(_)) {
            // Only what was asked for, not what it was merged into.
            revocation.reach = reach.unwrap();
            revocation.expires_at = expires_at.or(revocation.expires_at);
            let absolute = block || revocation.selector.is_absolute();
            revocation.cutoff = if absolute { Cutoff::Absolute } else { Cutoff::Until(cutoff.unwrap_or(now)) };
        }
        self.asked.push(Asked { revocation, by });
        self.ids.push(by);
        self.follow_successors().await;
    }

    /// What was superseded stands through its successor.
    async fn follow_successors(&mut self) {
        for asked in &mut self.asked {
            while let Some(Recorded { ending: Some(crate::domain::Ending::Superseded(by)), .. }) =
                self.rig.store.log.find(asked.by).await.unwrap()
            {
                asked.by = by;
            }
        }
    }

    async fn lift(&mut self, id: RevocationId) {
        match self.rig.control.lift(&admin(), id, None).await {
            Ok(Receipt { disposition: Disposition::Lifted(_), .. }) => self.asked.retain(|asked| asked.by != id),
            Ok(_) | Err(ControlError::NotFound(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    async fn hold(&self) {
        let now = self.rig.clock.now();
        let query = RevocationQuery { standing_only: true, now, limit: 1_000, ..Default::default() };
        let standing = self.rig.store.log.search(&query).await.unwrap().items;
        for claims in tokens(now) {
            let covered = self.rig.covers(&claims);
            let plain = standing.iter().any(|held| held.revocation.covers(&claims));
            assert_eq!(covered, plain, "{claims:?}\n{standing:#?}");
            let wanted =
                self.asked.iter().any(|asked| asked.revocation.in_force(now) && asked.revocation.covers(&claims));
            assert!(covered || !wanted, "forgotten: {claims:?}\n{standing:#?}");
        }
    }
}

/// Tokens of all sorts, issued around now.
fn tokens(now: Timestamp) -> Vec<Claims> {
    let mut all = Vec::new();
    for (user, session, token, key) in [("a", "s1", "t1", "k1"), ("a", "s2", "t2", "k2"), ("b", "s3", "t1", "k1")] {
        for kind in TokenKind::ALL {
            for issued_at in [None, Some(30), Some(10), Some(1), Some(0)] {
                all.push(Claims {
                    kind,
                    user: Some(user.into()),
                    session: Some(session.into()),
                    token_id: Some(token.into()),
                    key_id: Some(key.into()),
                    issued_at: issued_at.map(|ago| now.before(Duration::from_secs(ago))),
                    ..claims(0)
                });
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_says_what_the_log_says_whatever_happened(steps in prop::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut history = History { rig: Rig::in_memory().await, asked: Vec::new(), ids: Vec::new() };
            for step in steps {
                history.take(step).await;
                history.hold().await;
            }
            history.rig.stop().await;
        });
    }
}
