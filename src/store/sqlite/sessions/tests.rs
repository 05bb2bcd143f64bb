//! What is SQLite's own: files of an earlier version, plans, batches, and the search held against the plain rule.

use std::time::Duration;

use proptest::prelude::*;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, query_scalar, raw_sql};

use crate::domain::{
    Cutoff, Entry, Revocation, SeenToken, Session, SessionKey, SessionState, SessionType, Timestamp, TokenDigest,
    TokenKind,
};
use crate::store::testing::*;
use crate::store::{Backend, Claim, Lesson, Redeemed, SessionQuery, Sighting, SoughtDomain, Span, Store};

fn session(n: u32, user: &str) -> Session {
    let key = SessionKey { issuer: "https://id.example".into(), id: format!("s{n}").into() };
    let mut session = Session::new(key, NOW);
    (session.user, session.client) = (Some(user.into()), Some("app".into()));
    session
}

async fn touch(store: &Store, sessions: impl IntoIterator<Item = Session>) {
    let sightings = sessions.into_iter().map(|session| Sighting { session, token: None }).collect();
    store.sessions.touch(sightings).await.unwrap();
}

async fn total(store: &Store, query: SessionQuery) -> u64 {
    store.sessions.sessions(&SessionQuery { now: NOW, limit: 1, ..query }).await.unwrap().total
}

async fn in_state(store: &Store, state: SessionState) -> u64 {
    total(store, SessionQuery { state: Some(state), ..Default::default() }).await
}

async fn scalar(folder: &Folder, sql: &'static str) -> i64 {
    let mut connection = SqliteConnectOptions::new().filename(folder.file()).connect().await.unwrap();
    let value = query_scalar(sql).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    value
}

#[tokio::test]
async fn a_file_of_the_first_version_is_brought_up_to_date_and_loses_nothing() {
    let folder = Folder::new();
    let options = SqliteConnectOptions::new().filename(folder.file()).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    raw_sql(include_str!("../migrations/1.sql")).execute(&mut connection).await.unwrap();
    raw_sql(
        "PRAGMA application_id = 1886675820; PRAGMA user_version = 1; \
         INSERT INTO revocations (id, selector, reach, cutoff, created_at, actor, position) VALUES \
         ('00000000000000000000000000000001', '{\"issuer\":\"https://id.example\",\"session\":\"s1\"}', 3, NULL, 7, 'ops', 1); \
         UPDATE log SET head = 1",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    let store = open_file(&folder).await;
    assert!(store.log.find(id(1)).await.unwrap().is_some());
    touch(&store, [session(1, "ann"), session(2, "ann")]).await;
    assert_eq!(in_state(&store, SessionState::Revoked).await, 1, "what stood before names a session learned now");
    store.close().await;
    assert_eq!(scalar(&folder, "PRAGMA user_version").await, 3);
    let store = open_file(&folder).await;
    assert_eq!(total(&store, SessionQuery::default()).await, 2);
}

#[tokio::test]
async fn what_was_learned_survives_a_power_cut() {
    let folder = Folder::new();
    let store = open_file(&folder).await;
    let digest = TokenDigest::new([7; 32]);
    let token = SeenToken {
        digest,
        token_id: None,
        kind: TokenKind::Refresh,
        issued_at: None,
        expires_at: None,
        generation: None,
    };
    let redeemed = Redeemed { digest, sealed: None, grace_until: NOW };
    let lesson =
        Lesson { session: session(1, "ann"), family: "f".into(), tokens: vec![token], redeemed: Some(redeemed) };
    store.sessions.learn(lesson).await.unwrap();
    let claim = Claim {
        digest,
        text: digest,
        client: digest,
        now: NOW,
        given_up_at: Timestamp::default(),
        max_replays: 1,
        expires_at: None,
    };
    let other = TokenDigest::new([8; 32]);
    store.sessions.claim(Claim { digest: other, ..claim }).await.unwrap();
    let image = folder.crashed();
    let after = open_file(&image).await;
    assert_eq!(&*after.sessions.known(digest).await.unwrap().unwrap().logins[0].session.id, "s1");
    for (digest, client) in [(digest, digest), (other, digest)] {
        let client = if digest == other { TokenDigest::new([9; 32]) } else { client };
        let claimed = after.sessions.claim(Claim { digest, client, ..claim }).await.unwrap();
        assert_eq!(claimed, crate::store::Claimed::Reused);
    }
}

#[tokio::test]
async fn a_revocation_of_very_many_sessions_is_finished_by_upkeep() {
    let folder = Folder::new();
    let store = open_file(&folder).await;
    touch(&store, (0..23).map(|n| session(n, "ann"))).await;
    let all = Revocation { cutoff: Cutoff::Absolute, ..revocation(1, user("ann"), 0) };
    store.log.append(revoke(all)).await.unwrap();
    assert_eq!(in_state(&store, SessionState::Revoked).await, 5, "as many as one step ends");
    store.sessions.tidy(NOW).await.unwrap();
    assert_eq!(in_state(&store, SessionState::Revoked).await, 23);
    store.log.append(lift(1)).await.unwrap();
    assert_eq!(in_state(&store, SessionState::Revoked).await, 18);
    store.sessions.tidy(NOW).await.unwrap();
    assert_eq!(in_state(&store, SessionState::Active).await, 23);
    assert_eq!(scalar(&folder, "SELECT count(*) FROM sweeps").await, 0);
}

#[tokio::test]
async fn a_lift_overtakes_the_revocation_that_is_still_being_carried_over() {
    let folder = Folder::new();
    let store = open_file(&folder).await;
    touch(&store, (0..23).map(|n| session(n, "ann"))).await;
    let all = Revocation { cutoff: Cutoff::Absolute, ..revocation(1, user("ann"), 0) };
    store.log.append(batch([Entry::Revoke(all)])).await.unwrap();
    store.log.append(lift(1)).await.unwrap();
    store.sessions.tidy(NOW).await.unwrap();
    assert_eq!(in_state(&store, SessionState::Active).await, 23);
}

#[tokio::test]
async fn upkeep_leaves_no_trace_of_what_is_forgotten() {
    let folder = Folder::new();
    let store = open_file(&folder).await;
    let crowd = |expires_at| {
        (0..23).map(move |n| {
            let mut one = session(n, "ann");
            (one.user_agent, one.username) = (Some(format!("Browser/{n}").into()), Some("Ann".into()));
            one.expires_at = Some(expires_at);
            one
        })
    };
    touch(&store, crowd(NOW)).await;
    let mut moved = session(0, "ann");
    (moved.user_agent, moved.address) = (Some("Other/1".into()), Some("192.0.2.1".into()));
    touch(&store, [moved]).await;
    let words = |word: &str| SessionQuery { keywords: vec![word.to_owned()], ..Default::default() };
    assert_eq!(total(&store, words("192.0.2")).await, 1);
    assert_eq!(total(&store, words("browser/0")).await, 0);
    assert_eq!(store.sessions.tidy(NOW).await.unwrap(), 23);
    assert_eq!(total(&store, words("ann")).await, 0);
    store.close().await;
    for table in [
        "SELECT count(*) FROM sessions",
        "SELECT count(*) FROM agents",
        "SELECT count(*) FROM words",
        "SELECT count(*) FROM census",
        "SELECT count(*) FROM grams WHERE grams MATCH '\"ann\"'",
    ] {
        assert_eq!(scalar(&folder, table).await, 0, "{table}");
    }
}

fn text() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "ann", "Ann@Example.com", "ÄNN", "x%_*?[a]", "\"q\" 'r'", "ben", "ı", "Σς"])
        .prop_map(str::to_owned)
}

fn time() -> impl Strategy<Value = Timestamp> {
    (0_u64..6).prop_map(|secs| NOW.after(Duration::from_secs(secs)))
}

fn span() -> impl Strategy<Value = Span> {
    (prop::option::weighted(0.2, time()), prop::option::weighted(0.2, time()))
        .prop_map(|(since, until)| Span { since, until })
}

prop_compose! {
    fn a_session()(
        (id, issuer) in (0_u32..40, text()),
        (user, username, parent, domain) in
            (prop::option::of(text()), prop::option::of(text()), prop::option::of(text()), prop::option::of(text())),
        (client, address, user_agent) in (prop::option::of(text()), prop::option::of(text()), prop::option::of(text())),
        sso in any::<bool>(),
        (created_at, updated_at) in (time(), time()),
        (expires_at, token_expires_at) in (prop::option::of(time()), prop::option::of(time())),
    ) -> Session {
        let key = SessionKey { issuer: issuer.into(), id: format!("Id-{id}").into() };
        let boxed = |text: Option<String>| text.map(String::into_boxed_str);
        Session {
            user: boxed(user), username: boxed(username), parent: boxed(parent), domain: boxed(domain),
            client: boxed(client), address: boxed(address), user_agent: boxed(user_agent),
            kind: if sso { SessionType::Sso } else { SessionType::Login },
            created_at, updated_at, expires_at, token_expires_at,
            ..Session::new(key, NOW)
        }
    }
}

prop_compose! {
    fn a_query()(
        (issuer, user, username, client) in (rare(), rare(), rare(), rare()),
        (parent, address) in (rare(), rare()),
        domain in prop::option::weighted(0.15, prop_oneof![
            text().prop_map(SoughtDomain::Named), Just(SoughtDomain::Unknown)]),
        kind in prop::option::weighted(0.2, prop::sample::select(vec![SessionType::Login, SessionType::Sso])),
        state in prop::option::weighted(0.4, prop::sample::select(
            vec![SessionState::Active, SessionState::Revoked, SessionState::Expired])),
        keywords in prop::collection::vec(prop_oneof![text(), Just("id-1".to_owned()), Just("nn".to_owned())], 0..3),
        with_words in prop::bool::weighted(0.3),
        (created, updated, expires) in (span(), span(), span()),
        sort in prop::sample::select(SORT_KEYS.to_vec()),
        descending in any::<bool>(),
        now in time(),
        (offset, limit) in (prop_oneof![3 => Just(0), 1 => 0_u64..9], 1_u32..7),
    ) -> SessionQuery {
        let keywords = if with_words { keywords } else { Vec::new() };
        SessionQuery { issuer, user, username, client, parent, domain, address, kind, state, keywords, created, updated,
            expires, sort, descending, now, after: None, offset, limit }
    }
}

fn rare() -> impl Strategy<Value = Option<String>> {
    prop::option::weighted(0.15, text())
}

/// Walks both stores page by page, and compares.
async fn agree(query: &SessionQuery, plain: &Store, sqlite: &Store) {
    let mut query = query.clone();
    loop {
        let expected = plain.sessions.sessions(&query).await.unwrap();
        let found = sqlite.sessions.sessions(&query).await.unwrap();
        assert_eq!(
            (&found.items, found.total, &found.next),
            (&expected.items, expected.total, &expected.next),
            "{query:?}"
        );
        let Some(next) = found.next else { return };
        query.after = Some(next);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_search_finds_what_the_plain_rule_finds(
        sightings in prop::collection::vec(a_session(), 1..60),
        ended in prop::collection::vec((0_u128..9, text(), time()), 0..3),
        queries in prop::collection::vec(a_query(), 40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = Folder::new();
            let (plain, sqlite) = (open(Backend::Memory).await, open_file(&folder).await);
            for store in [&plain, &sqlite] {
                for some in sightings.chunks(13) {
                    touch(store, some.iter().cloned()).await;
                }
                for (n, username, until) in &ended {
                    let parts = [(crate::domain::Name::Username, username.clone())];
                    let selector = crate::domain::Selector::new(parts).unwrap();
                    let one = Revocation { cutoff: Cutoff::Until(*until), ..revocation(*n, selector, 0) };
                    store.log.append(revoke(one)).await.unwrap();
                }
                store.sessions.tidy(Timestamp::default()).await.unwrap();
            }
            for query in &queries {
                agree(query, &plain, &sqlite).await;
            }
            sqlite.close().await;
        });
    }
}
