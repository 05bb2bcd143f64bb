//! What every store of session passwords must keep, held against each of them.

use std::time::Duration;

use crate::domain::{Claims, Timestamp, TokenDigest, TokenKind};
use crate::store::testing::*;
use crate::store::{PasswordId, PasswordRecord, Store};

fn later(secs: u64) -> Timestamp {
    NOW.after(Duration::from_secs(secs))
}

fn password(n: u8, session: &str) -> PasswordRecord {
    let mut claims = Claims::bare("https://id.example".into(), TokenKind::Access, TokenDigest::new([n; 32]));
    claims.session = Some(session.into());
    claims.expires_at = Some(later(60));
    let phc = format!("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ${n}").into();
    PasswordRecord { id: id_of(n), username: "ann".into(), phc, claims, created_at: NOW, expires_at: later(60) }
}

fn id_of(n: u8) -> PasswordId {
    PasswordId([n; 12])
}

async fn kept(store: &Store, ids: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let mut kept = Vec::new();
    for n in ids {
        kept.extend(store.passwords.password(id_of(n)).await.unwrap().map(|_| n));
    }
    kept
}

#[tokio::test]
async fn a_password_is_found_with_all_that_is_true_of_it() {
    on_each_store(async |store| {
        let mut whole = password(1, "s1");
        let text = |text: &str| Some(text.into());
        whole.claims = Claims {
            token_id: text("t1"),
            family: text("f1"),
            user: text("u1"),
            username: text("Ann: the first"),
            client: text("web"),
            key_id: text("k1"),
            issued_at: Some(NOW),
            scopes: ["read".into(), "write".into()].into(),
            other: [("device_id".into(), ["phone".into(), "ünïcode \"".into()].into())].into(),
            ..whole.claims
        };
        let bare = password(2, "s2");
        for record in [&whole, &bare] {
            store.passwords.keep(record.clone()).await.unwrap();
            assert_eq!(store.passwords.password(record.id).await.unwrap().as_ref(), Some(record));
        }
        assert_eq!(store.passwords.password(id_of(3)).await.unwrap(), None);
        assert!(!format!("{whole:?}").contains("argon2"), "the digest is nobody's business");
    })
    .await;
}

#[tokio::test]
async fn a_session_keeps_its_newest_passwords() {
    on_each_store(async |store| {
        store.passwords.keep(password(100, "other")).await.unwrap();
        for n in 0..8 {
            store.passwords.keep(password(n, "s1")).await.unwrap();
        }
        assert_eq!(kept(&store, 0..=100).await, [3, 4, 5, 6, 7, 100]);
    })
    .await;
}

#[tokio::test]
async fn what_has_expired_is_forgotten() {
    on_each_store(async |store| {
        for n in 0..20 {
            let record = PasswordRecord { expires_at: later(u64::from(n)), ..password(n, &n.to_string()) };
            store.passwords.keep(record).await.unwrap();
        }
        assert_eq!(store.sessions.tidy(later(16)).await.unwrap(), 17);
        assert_eq!(kept(&store, 0..20).await, [17, 18, 19]);
    })
    .await;
}

#[tokio::test]
async fn a_password_survives_a_power_cut() {
    let folder = Folder::new();
    let store = open_file(&folder).await;
    store.passwords.keep(password(1, "s1")).await.unwrap();
    let crashed = folder.crashed();
    store.close().await;
    let store = open_file(&crashed).await;
    assert_eq!(store.passwords.password(id_of(1)).await.unwrap(), Some(password(1, "s1")));
    store.close().await;
}
