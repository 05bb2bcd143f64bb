//! Each way to name tokens stops exactly the tokens it names; cut-offs, bans, lifts and kinds do what they say.

use serde_json::{Value, json};

use crate::rig::{Builder, Issuer, Rig, Token, id, now};

/// A second issuer beside the usual one, with the very same names in its tokens.
async fn two_issuers() -> (Rig, Issuer) {
    let other = Issuer::start("https://other.test/").await;
    let builder: Builder = Rig::builder().await.word("jwks_other", other.jwks_url());
    let rig = builder.config(
        r#"
        [[issuers]]
        name = "main"
        issuer = "https://id.test/"
        verification = "signature"
        jwks_url = "{jwks}"
        audiences = ["api"]
        algorithms = ["ES256"]
        leeway = "5s"
        max_token_lifetime = "24h"

        [[issuers]]
        name = "other"
        issuer = "https://other.test/"
        verification = "signature"
        jwks_url = "{jwks_other}"
        audiences = ["api"]
        algorithms = ["ES256"]
        leeway = "5s"
        max_token_lifetime = "24h"
        "#,
    );
    (rig.start().await, other)
}

/// The tokens of the table below, in the order of its columns.
fn tokens(rig: &Rig, other: &Issuer) -> Vec<(&'static str, Token)> {
    let claims = json!({"sub": "alice", "sid": "s1", "jti": "j1", "azp": "web", "device_id": "d1",
        "groups": ["staff", "admins"], "tenant": 7, "preferred_username": "alice@example.com"});
    let with = |over: Value| {
        let mut all = claims.clone();
        over.as_object().unwrap().iter().for_each(|(name, value)| all[name] = value.clone());
        all
    };
    vec![
        ("base", rig.issuer.token(claims.clone())),
        ("other token", rig.issuer.token(with(json!({"jti": "j2"})))),
        ("other session", rig.issuer.token(with(json!({"jti": "j3", "sid": "s2", "device_id": "d2"})))),
        (
            "other client",
            rig.issuer.token(with(json!({"jti": "j4", "sid": "s3", "azp": "mobile", "groups": ["staff"]}))),
        ),
        (
            "other user",
            rig.issuer.token(with(json!({"jti": "j5", "sid": "s4", "sub": "bob", "preferred_username": "bob"}))),
        ),
        (
            "case differs",
            rig.issuer.token(with(json!({"jti": "J1", "sid": "S1", "sub": "Alice", "azp": "Web",
            "device_id": "D1", "groups": ["Staff"], "tenant": 8, "preferred_username": "Alice@example.com"}))),
        ),
        ("other issuer", other.token(claims)),
    ]
}

/// Selectors and the tokens they stop: one letter for each column, `x` for dead.
const TABLE: &[(&str, &str)] = &[
    (r#"{"issuer":"main","token_id":"j1"}"#, "x......"),
    (r#"{"issuer":"https://id.test/","token_id":"j1"}"#, "x......"),
    (r#"{"issuer":"other","token_id":"j1"}"#, "......x"),
    (r#"{"issuer":"main","token_id":"j9"}"#, "......."),
    (r#"{"issuer":"main","session":"s1"}"#, "xx....."),
    (r#"{"issuer":"main","user":"alice"}"#, "xxxx..."),
    (r#"{"issuer":"main","client":"web"}"#, "xxx.x.."),
    (r#"{"issuer":"main","user":"alice","client":"web"}"#, "xxx...."),
    (r#"{"issuer":"main","user":"alice","client":"mobile"}"#, "...x..."),
    (r#"{"username":"alice@example.com"}"#, "xxxx..x"),
    (r#"{"issuer":"main","username":"alice@example.com"}"#, "xxxx..."),
    (r#"{"issuer":"main","claim:device_id":"d1"}"#, "xx.xx.."),
    (r#"{"issuer":"main","claim:device_id":"d2"}"#, "..x...."),
    (r#"{"issuer":"main","claim:groups":"admins"}"#, "xxx.x.."),
    (r#"{"issuer":"main","claim:groups":"staff"}"#, "xxxxx.."),
    (r#"{"issuer":"main","claim:tenant":"7"}"#, "xxxxx.."),
    (r#"{"issuer":"main","user":"alice","claim:device_id":"d1"}"#, "xx.x..."),
    (r#"{"issuer":"main","claim:device_id":"d1","claim:groups":"admins"}"#, "xx..x.."),
    (r#"{"issuer":"main"}"#, "xxxxxx."),
    (r#"{"key_id":"k0"}"#, "xxxxxxx"),
    (r#"{"issuer":"other","key_id":"k0"}"#, "......x"),
];

/// Which of the tokens are dead, spelled as in the table.
async fn dead(rig: &Rig, tokens: &[(&str, Token)]) -> String {
    let mut dead = String::new();
    for (_, token) in tokens {
        dead.push(if rig.passes(token).await { '.' } else { 'x' });
    }
    dead
}

#[tokio::test]
async fn each_selector_stops_exactly_the_tokens_it_names() {
    let (rig, other) = two_issuers().await;
    let tokens = tokens(&rig, &other);
    assert_eq!(dead(&rig, &tokens).await, ".......", "all are good before anything is revoked");
    let mut faults = Vec::new();
    for (selector, expected) in TABLE {
        let receipt = rig.admin.revoke(serde_json::from_str(selector).unwrap()).await;
        let found = dead(&rig, &tokens).await;
        if found != *expected {
            faults.push(format!("{selector}: expected {expected}, found {found}"));
        }
        rig.admin.lift(&id(&receipt)).await;
        assert_eq!(dead(&rig, &tokens).await, ".......", "{selector} was lifted");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn revoking_by_token_stops_that_token_alone_also_without_a_jti() {
    let rig = Rig::start().await;
    let (named, sibling) = (rig.issuer.token(json!({})), rig.issuer.token(json!({})));
    let nameless = rig.issuer.token(json!({"jti": null, "nonce": 1}));
    let other_nameless = rig.issuer.token(json!({"jti": null, "nonce": 2}));
    rig.admin.revoke(json!({ "token": named.text })).await;
    rig.admin.revoke(json!({ "token": nameless.text })).await;
    assert!(!rig.passes(&named).await);
    assert!(!rig.passes(&nameless).await);
    assert!(rig.passes(&sibling).await);
    assert!(rig.passes(&other_nameless).await);
}

#[tokio::test]
async fn a_login_after_a_user_wide_revoke_passes_from_readmits_from_on() {
    let rig = Rig::start().await;
    // The cut-off lies back, so that the first passing second is no later than now.
    let cutoff = now() - 60;
    let receipt = rig.admin.revoke_as(json!({"selector": {"issuer": "main", "user": "alice"}, "cutoff": cutoff})).await;
    let readmits_from = receipt["readmits_from"].as_u64().expect("a wide revoke says when it readmits");
    assert!(readmits_from > cutoff && readmits_from <= cutoff + 6, "{receipt}");
    let issued = |at: u64| rig.issuer.token(json!({"iat": at, "exp": now() + 600}));
    assert!(!rig.passes(&issued(cutoff)).await, "issued in the second of the cut-off");
    assert!(!rig.passes(&issued(readmits_from - 1)).await);
    assert!(rig.passes(&issued(readmits_from)).await);
    assert!(!rig.passes(&rig.issuer.token(json!({"iat": null}))).await, "no iat counts as older");
}

#[tokio::test]
async fn a_login_in_the_second_that_a_revoke_now_readmits_passes() {
    let rig = Rig::start().await;
    let before = rig.issuer.token(json!({}));
    assert!(rig.passes(&before).await);
    let receipt = rig.admin.revoke(json!({"issuer": "main", "user": "alice"})).await;
    let readmits_from = receipt["readmits_from"].as_u64().unwrap();
    assert!(!rig.passes(&before).await);
    // Within the leeway an issuer's clock may run ahead of ours.
    assert!(rig.passes(&rig.issuer.token(json!({"iat": readmits_from, "exp": readmits_from + 600}))).await);
    assert!(!rig.passes(&rig.issuer.token(json!({"iat": readmits_from - 1}))).await);
}

#[tokio::test]
async fn an_issuer_that_runs_ahead_is_cut_off_ahead() {
    let rig = Rig::start().await;
    let ahead = rig.issuer.token(json!({"iat": now() + 4, "exp": now() + 600}));
    assert!(rig.passes(&ahead).await, "the issuer's lead has been observed");
    rig.admin.revoke(json!({"issuer": "main", "user": "alice"})).await;
    assert!(!rig.passes(&ahead).await, "issued before the revoke, by a clock that runs ahead");
}

#[tokio::test]
async fn the_later_cutoff_wins_and_an_earlier_one_takes_nothing_back() {
    let rig = Rig::start().await;
    let user = json!({"issuer": "main", "user": "alice"});
    let late = now() - 30;
    let token = rig.issuer.token(json!({"iat": late - 1, "exp": now() + 600}));
    rig.admin.revoke_as(json!({"selector": user, "cutoff": late})).await;
    let earlier = rig.admin.revoke_as(json!({"selector": user, "cutoff": late - 100})).await;
    assert_eq!(earlier["already"], true, "{earlier}");
    assert!(!rig.passes(&token).await);
}

#[tokio::test]
async fn a_ban_holds_until_it_is_lifted() {
    let rig = Rig::start().await;
    let ban = rig.admin.revoke_as(json!({"selector": {"issuer": "main", "user": "alice"}, "block": true})).await;
    assert_eq!(ban["readmits_from"], Value::Null);
    let login = || rig.issuer.token(json!({"iat": now() + 5, "exp": now() + 600}));
    assert!(!rig.passes(&login()).await, "the next login is banned too");
    assert!(rig.passes(&rig.issuer.token(json!({"sub": "bob"}))).await);
    rig.admin.lift(&id(&ban)).await;
    assert!(rig.passes(&login()).await);
}

#[tokio::test]
async fn lifting_one_of_two_revocations_leaves_the_other() {
    let rig = Rig::start().await;
    let token = rig.issuer.token(json!({}));
    let by_token = rig.admin.revoke(json!({ "token": token.text })).await;
    let by_session = rig.admin.revoke(json!({"issuer": "main", "session": token.claim("sid")})).await;
    rig.admin.lift(&id(&by_token)).await;
    assert!(!rig.passes(&token).await);
    rig.admin.lift(&id(&by_session)).await;
    assert!(rig.passes(&token).await);
}

#[tokio::test]
async fn a_revocation_stops_only_the_kinds_it_reaches() {
    let rig = Rig::start().await;
    let token = rig.issuer.token(json!({}));
    let user = json!({"issuer": "main", "user": "alice"});
    for kinds in [json!(["refresh"]), json!(["api_key"]), json!(["refresh", "api_key"])] {
        rig.admin.revoke_as(json!({"selector": user, "kinds": kinds, "block": true})).await;
        assert!(rig.passes(&token).await, "{kinds} is not access");
    }
    rig.admin.revoke_as(json!({"selector": user, "kinds": ["access"], "block": true})).await;
    assert!(!rig.passes(&token).await);
}

#[tokio::test]
async fn revoking_again_is_success_and_says_so() {
    let rig = Rig::start().await;
    let body = json!({"selector": {"issuer": "main", "session": "s-1"}});
    let first = rig.admin.try_revoke(&body).await;
    let second = rig.admin.try_revoke(&body).await;
    assert_eq!((first.status, second.status), (201, 200));
    assert_eq!((&first.json()["already"], &second.json()["already"]), (&json!(false), &json!(true)));
    assert_eq!(id(&first.json()), id(&second.json()));
}

#[tokio::test]
async fn a_revocation_may_come_before_its_token() {
    let rig = Rig::start().await;
    rig.admin.revoke(json!({"issuer": "main", "token_id": "not-yet-issued"})).await;
    assert!(!rig.passes(&rig.issuer.token(json!({"jti": "not-yet-issued"}))).await);
}

#[tokio::test]
async fn an_expired_ban_says_nothing_any_more() {
    let rig = Rig::start().await;
    let ends = now() + 2;
    let body = json!({"selector": {"issuer": "main", "user": "alice"}, "block": true, "expires_at": ends});
    rig.admin.revoke_as(body).await;
    let token = rig.issuer.token(json!({}));
    let mut refused = 0;
    crate::rig::within("the ban's end", async {
        while !rig.passes(&token).await {
            refused += 1;
        }
    })
    .await;
    assert!(now() >= ends && refused > 0, "the ban ended early");
}
