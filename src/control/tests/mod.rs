//! The promises of revoking, on both stores, with the real index and its follower.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::{Clock, ManualClock};
use crate::control::{Caller, Control, ControlError, Receipt, Revoke, Settings, Target, Tokens};
use crate::domain::{
    BearerToken, Checkpoint, Claims, Cutoff, Denial, Disposition, InvalidSelector, Memo, Reach, Recorded, Revocation,
    RevocationId, Right, Rights, Selector, Timestamp, TokenDigest, TokenKind,
};
use crate::index::Index;
use crate::live::Live;
use crate::store::testing::{self, Folder, NOW};
use crate::store::{
    Appended, AuditQuery, AuditRecord, Backend, Batch, EventStream, Page, RevocationLog, RevocationQuery, SharedLog,
    Store, StoreError,
};
use crate::sync::{self, Follower};
use crate::telemetry::Metrics;
use crate::verify::{IssuerFacts, VerifyError};

mod histories;
mod own;
mod pairs;
mod passwords;
mod replicas;
mod rules;
mod sessions;

const MAIN: &str = "https://id.example";
const DAY: Duration = Duration::from_secs(86_400);
const LEEWAY: Duration = Duration::from_secs(30);

/// Issuers without keys: a token is the compact JSON of its claims, and good as long as `exp` lies ahead.
#[derive(Debug)]
struct Issuers {
    facts: Vec<IssuerFacts>,
    clock: Arc<ManualClock>,
}

fn issuer(name: &str, iss: &str) -> IssuerFacts {
    IssuerFacts {
        name: name.into(),
        issuer: iss.into(),
        max_token_lifetime: Some(DAY),
        max_refresh_token_lifetime: None,
        longest_life: Some(DAY),
        leeway: LEEWAY,
        lead: Duration::ZERO,
        uuid_sessions: false,
    }
}

fn digest_of(text: &str) -> TokenDigest {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    TokenDigest::new(digest.as_ref().try_into().unwrap())
}

#[async_trait]
impl Tokens for Issuers {
    async fn read(&self, token: &BearerToken) -> Result<Claims, Denial> {
        let json: serde_json::Value = serde_json::from_str(token.expose()).map_err(|_| Denial::Malformed)?;
        let text = |name: &str| json[name].as_str().map(Box::from);
        let time = |name: &str| json[name].as_u64().map(Timestamp::from_secs);
        Ok(Claims {
            issuer: json["iss"].as_str().unwrap_or_default().into(),
            kind: TokenKind::Access,
            digest: digest_of(token.expose()),
            token_id: text("jti"),
            session: text("sid"),
            user: text("sub"),
            username: None,
            client: text("azp"),
            key_id: text("kid"),
            issued_at: time("iat"),
            expires_at: time("exp"),
            scopes: Box::default(),
            other: Box::default(),
            family: None,
            twins: Box::default(),
            generation: None,
            memo: Memo::default(),
        })
    }

    async fn verify(&self, token: &BearerToken, _: TokenKind) -> Result<Arc<Claims>, VerifyError> {
        let claims = self.read(token).await.map_err(VerifyError::Denied)?;
        if claims.client.as_deref() == Some("unreachable") {
            return Err(VerifyError::Unavailable { issuer: claims.issuer });
        }
        let expired = claims.expires_at.is_some_and(|expires_at| expires_at <= self.clock.now());
        if expired { Err(VerifyError::Denied(Denial::Expired)) } else { Ok(Arc::new(claims)) }
    }

    /// A text that is no JSON is an opaque token.
    fn peek(&self, issuer: &str, token: &BearerToken, kind: TokenKind) -> Result<Claims, Denial> {
        if token.expose().starts_with('!') {
            return Err(Denial::Malformed);
        }
        Ok(Claims::bare(issuer.into(), kind, digest_of(token.expose())))
    }

    async fn vouched(
        &self,
        issuer: &str,
        token: &BearerToken,
        kind: TokenKind,
    ) -> Result<Option<Arc<Claims>>, VerifyError> {
        let of_it = |claims: &Arc<Claims>| self.issuer(issuer).is_some_and(|facts| facts.issuer == claims.issuer);
        match self.verify(token, kind).await {
            Ok(claims) => Ok(Some(claims).filter(of_it)),
            Err(VerifyError::Denied(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn issuer(&self, name_or_iss: &str) -> Option<IssuerFacts> {
        self.facts.iter().find(|facts| *facts.name == *name_or_iss || *facts.issuer == *name_or_iss).cloned()
    }

    fn issuers(&self) -> Vec<IssuerFacts> {
        self.facts.clone()
    }

    fn would_kill(&self, _: &Revocation) -> usize {
        3
    }
}

/// Control, and everything it stands on.
struct Rig {
    store: Store,
    clock: Arc<ManualClock>,
    index: Arc<Index>,
    live: Arc<Live>,
    follower: Follower,
    control: Arc<Control>,
}

impl Rig {
    async fn on(store: Store, facts: Vec<IssuerFacts>) -> Self {
        let clock = ManualClock::at(NOW);
        let index = Index::new(clock.clone(), Duration::from_secs(10), [7; 16]);
        let live = Live::new(Metrics::new());
        let settings = sync::Settings::default();
        let (log, on_change) = (store.log.clone(), Arc::new(|_: &_| {}));
        let follower =
            Follower::start(log, (index.clone(), live.clone()), clock.clone(), Metrics::new(), on_change, settings);
        follower.loaded().await.unwrap();
        let tokens = Arc::new(Issuers { facts, clock: clock.clone() });
        let control = Control::new(&store, (index.clone(), live.clone()), tokens, clock.clone(), Settings::default());
        Self { store, clock, index, live, follower, control }
    }

    async fn in_memory() -> Self {
        Self::on(testing::open(Backend::Memory).await, vec![issuer("main", MAIN)]).await
    }

    async fn revoke(&self, json: &str) -> Receipt {
        self.control.revoke(&admin(), about(json)).await.unwrap()
    }

    fn covers(&self, claims: &Claims) -> bool {
        self.index.covers(claims, self.clock.now())
    }

    async fn stop(self) {
        self.follower.stop().await;
        self.store.close().await;
    }

    async fn trail(&self) -> Vec<AuditRecord> {
        self.store.audit.trail(&AuditQuery { limit: 100, ..Default::default() }).await.unwrap().items
    }
}

async fn on_each_store(promise: impl AsyncFn(&Rig)) {
    let folder = Folder::new();
    for backend in [Backend::Memory, Backend::Sqlite(folder.file())] {
        let rig = Rig::on(testing::open(backend).await, vec![issuer("main", MAIN)]).await;
        promise(&rig).await;
        rig.stop().await;
    }
}

fn caller(rights: impl IntoIterator<Item = Right>) -> Caller {
    Caller { name: "ops".into(), rights: Rights::from_iter(rights), address: None }
}

fn admin() -> Caller {
    caller([Right::Admin])
}

fn revoker() -> Caller {
    caller([Right::SessionsRevoke])
}

fn command(target: Target) -> Revoke {
    Revoke { target, reach: None, cutoff: None, block: false, reason: None, expires_at: None }
}

fn about(json: &str) -> Revoke {
    command(Target::Selector(serde_json::from_str::<BTreeMap<String, String>>(json).unwrap()))
}

fn token(json: &str) -> BearerToken {
    BearerToken::parse(json).unwrap()
}

/// An access token of user `a`, issued so many seconds after now.
fn claims(issued_after: u64) -> Claims {
    Claims {
        issuer: MAIN.into(),
        kind: TokenKind::Access,
        digest: TokenDigest::new([1; 32]),
        token_id: Some("t1".into()),
        session: Some("s1".into()),
        user: Some("a".into()),
        username: None,
        client: Some("web".into()),
        key_id: None,
        issued_at: Some(NOW.after(Duration::from_secs(issued_after))),
        expires_at: None,
        scopes: Box::default(),
        other: Box::default(),
        family: None,
        twins: Box::default(),
        generation: None,
        memo: Memo::default(),
    }
}

fn held(receipt: &Receipt) -> &Recorded {
    match &receipt.disposition {
        Disposition::Created(held)
        | Disposition::Already(held)
        | Disposition::Lifted(held)
        | Disposition::Ended(held) => held,
        Disposition::Unknown(id) => panic!("{id} is unknown"),
    }
}

#[tokio::test]
async fn what_was_answered_is_refused_at_once_and_found_in_the_store() {
    on_each_store(async |rig| {
        for n in 0..20 {
            let mut other = claims(0);
            other.user = Some(format!("u{n}").into());
            assert!(!rig.covers(&other));
            let receipt = rig.revoke(&format!(r#"{{"issuer":"main","user":"u{n}"}}"#)).await;
            assert!(rig.covers(&other), "the answer came before the index knew");
            assert_eq!(rig.store.log.find(held(&receipt).revocation.id).await.unwrap().as_ref(), Some(held(&receipt)));
        }
        assert!(!rig.covers(&claims(0)));
    })
    .await;
}

#[tokio::test]
async fn what_was_lifted_passes_at_once_and_stays_lifted() {
    on_each_store(async |rig| {
        let receipt = rig.revoke(r#"{"user":"a"}"#).await;
        let id = held(&receipt).revocation.id;
        let lifted = rig.control.lift(&admin(), id, Some("found it".into())).await.unwrap();
        assert!(matches!(lifted.disposition, Disposition::Lifted(_)));
        assert!(!rig.covers(&claims(0)));
        let again = rig.control.lift(&admin(), id, None).await.unwrap();
        assert!(matches!(again.disposition, Disposition::Lifted(_) | Disposition::Ended(_)));
        // News that is delivered once more does not bring it back.
        let mut cause = held(&receipt).clone();
        cause.position = receipt.position;
        rig.index.apply(&crate::domain::Change {
            position: receipt.position,
            selector: cause.revocation.selector.clone(),
            standing: vec![cause.revocation.clone()],
            cause: Some(cause),
        });
        assert!(!rig.covers(&claims(0)));
        let unknown = RevocationId::from_random(9);
        let refusal = rig.control.lift(&admin(), unknown, None).await.unwrap_err();
        assert!(matches!(refusal, ControlError::NotFound(id) if id == unknown));
        let trail = rig.trail().await;
        let told: Vec<_> = trail.iter().map(|record| (&*record.action, &*record.result)).collect();
        assert_eq!(told.last(), Some(&("revoke", "created")));
        assert!(told.contains(&("lift", "lifted")));
    })
    .await;
}

#[tokio::test]
async fn revoking_what_is_dead_already_says_so_and_a_later_cutoff_replaces_an_earlier() {
    on_each_store(async |rig| {
        let first = rig.revoke(r#"{"user":"a"}"#).await;
        let again = rig.revoke(r#"{"user":"a"}"#).await;
        assert!(matches!(again.disposition, Disposition::Already(_)));
        assert_eq!(held(&again).revocation.id, held(&first).revocation.id);
        rig.clock.advance(Duration::from_secs(5));
        let later = rig.revoke(r#"{"user":"a"}"#).await;
        assert!(matches!(later.disposition, Disposition::Created(_)));
        assert!(rig.covers(&claims(5)) && !rig.covers(&claims(6)));
        let lifted = rig.control.lift(&admin(), held(&first).revocation.id, None).await.unwrap();
        assert!(matches!(lifted.disposition, Disposition::Ended(_)), "it was superseded");
        assert!(rig.covers(&claims(0)));
    })
    .await;
}

#[tokio::test]
async fn after_a_power_cut_the_acknowledged_refuse_and_the_lifted_do_not() {
    let folder = Folder::new();
    let rig = Rig::on(testing::open_file(&folder).await, vec![issuer("main", MAIN)]).await;
    let mut expected = Vec::new();
    for n in 0..30 {
        let receipt = rig.revoke(&format!(r#"{{"user":"u{n}"}}"#)).await;
        if n % 3 == 0 {
            rig.control.lift(&admin(), held(&receipt).revocation.id, None).await.unwrap();
        }
        expected.push(n % 3 != 0);
        if n % 10 == 9 {
            let image = folder.crashed();
            let after = Rig::on(testing::open_file(&image).await, vec![issuer("main", MAIN)]).await;
            for (n, dead) in expected.iter().enumerate() {
                let mut user = claims(0);
                user.user = Some(format!("u{n}").into());
                assert_eq!(after.covers(&user), *dead, "u{n}");
            }
            after.stop().await;
        }
    }
}

#[tokio::test]
async fn fifty_callers_at_once_each_see_their_own_revocation() {
    on_each_store(async |rig| {
        let callers = (0..50).map(|n| {
            let (control, index) = (rig.control.clone(), rig.index.clone());
            tokio::spawn(async move {
                for m in 0..10 {
                    let user = format!("{n}-{m}");
                    control.revoke(&revoker(), about(&format!(r#"{{"user":"{user}"}}"#))).await.unwrap();
                    let claims = Claims { user: Some(user.into()), ..claims(0) };
                    assert!(index.covers(&claims, NOW));
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
    })
    .await;
}

/// A log that fails so often, after having stored what it was given.
#[derive(Debug)]
struct Flaky {
    log: SharedLog,
    failures: AtomicU32,
    /// So many appends are good first.
    good: AtomicU32,
}

#[async_trait]
impl RevocationLog for Flaky {
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        let appended = self.log.append(batch).await?;
        if self.good.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |good| good.checked_sub(1)).is_ok() {
            return Ok(appended);
        }
        let left = self.failures.load(Ordering::SeqCst);
        if left == 0 {
            return Ok(appended);
        }
        self.failures.store(left - 1, Ordering::SeqCst);
        Err(StoreError::Unavailable("the line went dead".into()))
    }

    async fn follow(&self, from: Checkpoint) -> Result<EventStream, StoreError> {
        self.log.follow(from).await
    }

    async fn find(&self, id: RevocationId) -> Result<Option<Recorded>, StoreError> {
        self.log.find(id).await
    }

    async fn standing(&self, selector: &Selector, now: Timestamp) -> Result<Vec<Recorded>, StoreError> {
        self.log.standing(selector, now).await
    }

    async fn search(&self, query: &RevocationQuery) -> Result<Page<Recorded>, StoreError> {
        self.log.search(query).await
    }

    async fn forget(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.log.forget(now).await
    }

    async fn close(&self) {
        self.log.close().await;
    }
}

async fn flaky(failures: u32) -> Rig {
    let store = testing::open(Backend::Memory).await;
    let log = Arc::new(Flaky { log: store.log.clone(), failures: failures.into(), good: 0.into() });
    Rig::on(Store { log, ..store }, vec![issuer("main", MAIN)]).await
}

#[tokio::test]
async fn an_append_whose_answer_was_lost_is_repeated_and_stored_once() {
    let rig = flaky(3).await;
    let receipt = rig.revoke(r#"{"user":"a"}"#).await;
    assert!(matches!(receipt.disposition, Disposition::Created(_)));
    assert_eq!(rig.trail().await.len(), 1, "audited once");
}

#[tokio::test]
async fn a_store_that_stays_down_is_never_answered_with_success() {
    let rig = flaky(u32::MAX).await;
    let answer = rig.control.revoke(&admin(), about(r#"{"user":"a"}"#)).await;
    assert!(matches!(answer, Err(ControlError::Store(StoreError::Unavailable(_)))));
    let many = (0..2_500).map(|n| about(&format!(r#"{{"user":"{n}"}}"#))).collect();
    let answers = rig.control.revoke_all(&admin(), many).await;
    assert_eq!(answers.len(), 2_500);
    assert!(answers.iter().all(|answer| matches!(answer, Err(ControlError::Store(_)))));
}

#[tokio::test]
async fn an_index_that_does_not_follow_is_never_answered_with_success() {
    let store = testing::open(Backend::Memory).await;
    let clock = ManualClock::at(NOW);
    let index = Index::new(clock.clone(), Duration::from_secs(10), [7; 16]);
    let tokens = Arc::new(Issuers { facts: vec![issuer("main", MAIN)], clock: clock.clone() });
    let settings = Settings { timeout: Duration::from_millis(20), ..Settings::default() };
    let control = Control::new(&store, (index, Live::new(Metrics::new())), tokens, clock, settings);
    let answer = control.revoke(&admin(), about(r#"{"user":"a"}"#)).await;
    assert!(matches!(answer, Err(ControlError::Store(StoreError::Unavailable(_)))));
}
