//! Random searches among random sessions, each adapter's answers held against the plain rule of the in-memory store.

use std::time::Duration;

use proptest::prelude::*;

use crate::domain::{Cutoff, Name, Revocation, Selector, Session, SessionKey, SessionState, SessionType, Timestamp};
use crate::store::testing::*;
use crate::store::{Backend, SessionQuery, Sighting, SoughtDomain, Span, Store};

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

/// Sessions as traffic tells of them, and revocations that end some.
#[derive(Debug)]
struct History {
    told: Vec<Session>,
    ended: Vec<(u128, String, Timestamp)>,
}

impl History {
    async fn write(&self, store: &Store) {
        for some in self.told.chunks(13) {
            let sightings = some.iter().map(|session| Sighting { session: session.clone(), token: None }).collect();
            store.sessions.touch(sightings).await.unwrap();
        }
        for (n, username, until) in &self.ended {
            let selector = Selector::new([(Name::Username, username.clone())]).unwrap();
            let one = Revocation { cutoff: Cutoff::Until(*until), ..revocation(*n, selector, 0) };
            store.log.append(revoke(one)).await.unwrap();
        }
        store.sessions.tidy(Timestamp::default()).await.unwrap();
    }
}

/// Walks both stores page by page, and compares.
async fn agree(query: &SessionQuery, plain: &Store, store: &Store) {
    let mut query = query.clone();
    loop {
        let expected = plain.sessions.sessions(&query).await.unwrap();
        let found = store.sessions.sessions(&query).await.unwrap();
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
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn a_search_finds_what_the_plain_rule_finds(
        told in prop::collection::vec(a_session(), 1..60),
        ended in prop::collection::vec((0_u128..9, text(), time()), 0..3),
        queries in prop::collection::vec(a_query(), 60),
    ) {
        let history = History { told, ended };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(on_each_store(async |store| {
            let plain = open(Backend::Memory).await;
            history.write(&plain).await;
            history.write(&store).await;
            for query in &queries {
                agree(query, &plain, &store).await;
            }
        }));
    }
}
