//! A real identity provider: what it issues passes, what it issued and was revoked does not, and its own troubles are not
//! its users' troubles.

use serde_json::{Value, json};

use crate::rig::idp::{Idp, Login, refresh};
use crate::rig::{Rig, get, now, within};

/// A gateway that trusts the provider by discovery.
async fn trusting(idp: &Idp, more: &str) -> Rig {
    let builder = Rig::builder().await.word("idp", idp.issuer());
    let settings = "[[issuers]]\nname = 'idp'\nissuer = '{idp}'\naudiences = ['api']\n\
        algorithms = ['RS256', 'PS256', 'ES256', 'EdDSA']\ntoken_type = 'at+jwt'\nleeway = '5s'\nmax_token_lifetime = '1h'\n\
        jwks_cooldown = '1s'\nclaims = { client = 'client_id' }\n";
    builder.config(&format!("{settings}{more}")).start().await
}

/// A gateway that asks the provider about every token.
async fn asking(idp: &Idp, cache_ttl: &str) -> Rig {
    let builder = Rig::builder().await.word("idp", idp.issuer()).word("ask", idp.text("introspection_endpoint"));
    builder.folder().write("secret", "gateway-secret\n");
    let settings = "[[issuers]]\nname = 'idp'\nissuer = '{idp}'\nverification = 'introspection'\nintrospection_url = '{ask}'\n\
        introspection_client_id = 'gateway'\nintrospection_client_secret_file = '{folder}/secret'\naudiences = ['api']\n\
        leeway = '5s'\nmax_token_lifetime = '1h'\n";
    builder.config(&format!("{settings}introspection_cache_ttl = '{cache_ttl}'")).start().await
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

async fn status(rig: &Rig, login: &Value) -> u16 {
    rig.get("/", text(login, "access_token")).await.status
}

#[tokio::test]
async fn a_login_passes_and_its_session_can_be_revoked_in_every_algorithm() {
    let idp = Idp::start().await;
    let rig = trusting(&idp, "").await;
    for alg in ["RS256", "PS256", "ES256", "EdDSA"] {
        let alice = idp.login("alice", alg).await;
        let elsewhere = idp.login("alice", alg).await;
        assert_eq!(status(&rig, &alice).await, 200, "{alg}");
        let seen = rig.upstream.last();
        assert_eq!(seen.header("x-auth-user"), Some("u-alice"));
        assert_eq!(seen.header("x-auth-username"), Some("alice"));
        assert_eq!(seen.header("x-auth-session"), alice["sid"].as_str());
        assert_eq!(seen.header("x-auth-client"), Some("web"));
        rig.admin.revoke(json!({"issuer": "idp", "session": text(&alice, "sid")})).await;
        assert_eq!(status(&rig, &alice).await, 401, "{alg}");
        let renewed = idp.post("/test/refresh", json!({"refresh_token": text(&alice, "refresh_token")})).await;
        assert_eq!(status(&rig, &renewed).await, 401, "{alg}: a dead session yields no living token");
        assert_eq!(status(&rig, &elsewhere).await, 200, "{alg}: the other login lives");
    }
    assert_eq!(rig.get("/", text(&idp.login("alice", "RS256").await, "id_token")).await.status, 401, "an ID token");
}

#[tokio::test]
async fn a_user_wide_revoke_lets_the_next_login_pass() {
    let idp = Idp::start().await;
    let rig = trusting(&idp, "").await;
    let before = idp.login("alice", "ES256").await;
    assert_eq!(status(&rig, &before).await, 200);
    let receipt = rig.admin.revoke(json!({"issuer": "idp", "user": "u-alice"})).await;
    assert_eq!(status(&rig, &before).await, 401);
    let readmits_from = receipt["readmits_from"].as_u64().unwrap();
    let after = within("a login of a later second", async {
        loop {
            let login = idp.login("alice", "ES256").await;
            if login["claims"]["iat"].as_u64().unwrap() >= readmits_from {
                return login;
            }
            assert_eq!(status(&rig, &login).await, 401, "issued before {readmits_from}");
        }
    })
    .await;
    assert_eq!(status(&rig, &after).await, 200);
}

#[tokio::test]
async fn tokens_of_a_machine_are_revoked_by_client() {
    let idp = Idp::start().await;
    let rig = trusting(&idp, "").await;
    let machine = idp.post("/test/machine", json!({"alg": "EdDSA", "claims": {"device_id": "d9"}})).await;
    let alice = idp.login("alice", "EdDSA").await;
    assert_eq!(status(&rig, &machine).await, 200);
    rig.admin.revoke(json!({"issuer": "idp", "client": "machine", "claim:device_id": "d9"})).await;
    assert_eq!((status(&rig, &machine).await, status(&rig, &alice).await), (401, 200));
}

#[tokio::test]
async fn an_opaque_token_passes_by_introspection_and_is_revoked_by_any_claim() {
    let idp = Idp::start().await;
    let rig = asking(&idp, "30s").await;
    let (carol, dave) = (idp.login("carol", "opaque").await, idp.login("dave", "opaque").await);
    assert_eq!((status(&rig, &carol).await, status(&rig, &dave).await), (200, 200));
    assert_eq!(rig.upstream.last().header("x-auth-user"), Some("u-dave"));
    let asked = idp.asked("introspection").await;
    for _ in 0..10 {
        assert_eq!(status(&rig, &carol).await, 200);
    }
    assert_eq!(idp.asked("introspection").await, asked, "answers are remembered");
    rig.admin.revoke(json!({"issuer": "idp", "user": "u-carol"})).await;
    assert_eq!((status(&rig, &carol).await, status(&rig, &dave).await), (401, 200));
    rig.admin.revoke(json!({"token": text(&dave, "access_token")})).await;
    assert_eq!(status(&rig, &dave).await, 401);
    assert_eq!(rig.get("/", "no-such-token").await.status, 401);
}

#[tokio::test]
async fn an_issuer_that_cannot_be_asked_is_503_and_not_401() {
    let idp = Idp::start().await;
    let rig = asking(&idp, "30s").await;
    let (carol, dave) = (idp.login("carol", "opaque").await, idp.login("dave", "opaque").await);
    assert_eq!(status(&rig, &carol).await, 200);
    for mode in [json!(true), json!("garbage"), json!("close")] {
        idp.fail("introspection", mode.clone()).await;
        assert_eq!(status(&rig, &dave).await, 503, "{mode}");
        assert_eq!(status(&rig, &carol).await, 200, "what is remembered serves on");
    }
    idp.fail("introspection", json!(false)).await;
    assert_eq!(status(&rig, &dave).await, 200);
}

#[tokio::test]
async fn keys_rotate_under_traffic_without_one_failed_request() {
    let idp = Idp::start().await;
    let rig = trusting(&idp, "").await;
    let mut logins = vec![idp.login("alice", "ES256").await];
    assert_eq!(status(&rig, &logins[0]).await, 200);
    for round in 0..3 {
        idp.rotate("ES256", false).await;
        // The gateway fetches once in a cool-down: the next rotation comes when that is over.
        let next = now() + 3;
        while now() < next {
            logins.push(idp.login(&format!("user{round}"), "ES256").await);
            for login in logins.iter().rev().take(5).chain(&logins[..1]) {
                assert_eq!(status(&rig, login).await, 200, "round {round}");
            }
        }
    }
}

#[tokio::test]
async fn a_withdrawn_key_ends_its_tokens() {
    let idp = Idp::start().await;
    let rig = trusting(&idp, "jwks_refresh = '1s'\n").await;
    let alice = idp.login("alice", "ES256").await;
    assert_eq!(status(&rig, &alice).await, 200);
    idp.rotate("ES256", true).await;
    within("the withdrawal", async { while status(&rig, &alice).await == 200 {} }).await;
    assert_eq!(status(&rig, &idp.login("alice", "ES256").await).await, 200);
}

#[tokio::test]
async fn an_outage_of_the_key_set_keeps_the_last_good_keys() {
    let idp = Idp::start().await;
    let rig = trusting(&idp, "jwks_refresh = '1s'\n").await;
    let alice = idp.login("alice", "ES256").await;
    assert_eq!(status(&rig, &alice).await, 200);
    for mode in [json!(true), json!("garbage"), json!("close")] {
        idp.fail("jwks", mode.clone()).await;
        let asked = idp.asked("jwks").await;
        within("two fetches that fail", async { while idp.asked("jwks").await < asked + 2 {} }).await;
        assert_eq!(status(&rig, &alice).await, 200, "{mode}");
        assert_eq!(status(&rig, &idp.login("bob", "ES256").await).await, 200, "{mode}: a token not seen before");
    }
    idp.fail("jwks", json!(false)).await;
    idp.rotate("ES256", false).await;
    let later = idp.login("alice", "ES256").await;
    within("the recovery", async { while status(&rig, &later).await != 200 {} }).await;
}

/// Unknown keys are looked for once in a cool-down, however many tokens name them.
#[tokio::test]
async fn a_flood_of_unknown_keys_is_not_a_flood_of_fetches() {
    let rig = Rig::with("[cache]\nverified_bytes = '1MiB'").await;
    assert!(rig.passes(&rig.issuer.token(json!({}))).await);
    let (fetched, began) = (rig.issuer.fetches(), now());
    let mut connection = rig.connect(crate::rig::Wire::H1).await;
    for n in 0..300 {
        let token = rig.issuer.token_with(json!({"kid": format!("unknown-{n}")}), json!({}));
        assert_eq!(connection.send(get("/", &token.text)).await.unwrap().status, 401);
    }
    let allowed = usize::try_from(now() - began).unwrap() + 2;
    assert!(rig.issuer.fetches() - fetched <= allowed, "{} fetches", rig.issuer.fetches() - fetched);
}

#[tokio::test]
async fn a_gateway_starts_although_its_issuer_is_down_and_recovers() {
    let builder = Rig::builder().await;
    let rig = builder.start_with_issuer_down().await;
    let token = rig.issuer.token(json!({})).text;
    let blind = rig.get("/", &token).await;
    assert_eq!(blind.status, 503, "nobody knows yet: {}", blind.text());
    assert!(!blind.header("retry-after").is_empty());
    rig.issuer.fail_jwks(false);
    within("the recovery", async { while rig.get("/", &token).await.status != 200 {} }).await;
}

/// The provider is an upstream like any other: codes and refresh tokens may be redeemed through the gate.
#[tokio::test]
async fn its_token_endpoint_works_behind_the_gate() {
    for rotating in [true, false] {
        let idp = Idp::with(&["--rotate-refresh", &rotating.to_string(), "--access-ttl", "120"]).await;
        let routes = "[[routes]]\npath = '/token'\nupstreams = ['{idp}']\nauth = 'none'\n\
            [[routes]]\npath = '/'\nupstreams = ['{upstream}']\n";
        let rig = trusting(&idp, routes).await;
        for (client, alg) in [("web", "ES256"), ("mobile", "opaque")] {
            let via = Some(rig.gateway.proxy);
            let alice = idp.log_in(Login { client, alg, via, ..Login::default() }).await;
            let renewed = refresh(rig.gateway.proxy, client, &alice.refresh).await;
            assert_eq!(renewed.status, 200, "{}", renewed.text());
            let renewed = renewed.json();
            assert_eq!(text(&renewed, "refresh_token") != alice.refresh, rotating, "{client}");
            for token in [&*alice.access, text(&renewed, "access_token")] {
                assert_eq!(rig.get("/", token).await.status == 200, alg == "ES256", "{alg}");
            }
            assert_eq!(rig.get("/", &alice.id).await.status, 401, "an ID token");
            let again = refresh(idp.address(), client, &alice.refresh).await;
            assert_eq!(again.status == 400, rotating, "{}", again.text());
            idp.post("/test/logout", json!({"browser": alice.browser, "client_id": client})).await;
            assert!(!alice.session.is_empty());
        }
    }
}

/// Where codes and refresh tokens are redeemed through the gate.
const GUARDED: &str = "[[issuers.token_endpoints]]\npath = '/token'\n\
    [[routes]]\npath = '/token'\nupstreams = ['{idp}']\nauth = 'none'\n\
    [[routes]]\npath = '/'\nupstreams = ['{upstream}']\n";

/// A gateway that guards the provider's token endpoint too, and trusts its JWTs or asks about opaque tokens.
async fn guarding(idp: &Idp, opaque: bool, endpoint: &str) -> Rig {
    let builder = Rig::builder().await.word("idp", idp.issuer()).word("ask", idp.text("introspection_endpoint"));
    builder.folder().write("secret", "gateway-secret\n");
    let verified = if opaque {
        "verification = 'introspection'\nintrospection_url = '{ask}'\nintrospection_client_id = 'gateway'\n\
         introspection_client_secret_file = '{folder}/secret'\n"
    } else {
        "algorithms = ['ES256']\ntoken_type = 'at+jwt'\nclaims = { client = 'client_id' }\n"
    };
    let settings = format!(
        "[[issuers]]\nname = 'idp'\nissuer = '{{idp}}'\naudiences = ['api']\nleeway = '5s'\nmax_token_lifetime = '1h'\n\
         max_refresh_token_lifetime = '1h'\n{verified}{}",
        GUARDED.replace("'/token'\n[[routes", &format!("'/token'\n{endpoint}\n[[routes"))
    );
    builder.config(&settings).start().await
}

#[tokio::test]
async fn a_sessions_end_takes_its_refresh_tokens_along_rotating_or_not_opaque_or_jwt() {
    for rotating in [true, false] {
        let idp = Idp::with(&["--rotate-refresh", &rotating.to_string(), "--access-ttl", "120"]).await;
        for (client, alg) in [("web", "ES256"), ("mobile", "opaque")] {
            let rig = guarding(&idp, alg == "opaque", "").await;
            let wanted = Login { client, alg, via: Some(rig.gateway.proxy), ..Login::default() };
            let (alice, elsewhere) = (idp.log_in(wanted).await, idp.log_in(wanted).await);
            let renewed = refresh(rig.gateway.proxy, client, &alice.refresh).await.json();
            let access = [&*alice.access, text(&renewed, "access_token")];
            for token in access {
                assert_eq!(rig.get("/", token).await.status, 200, "{alg}");
            }
            let shown = rig.admin.get(&format!("/v1/sessions/{}", alice.session)).await;
            assert_eq!(shown["user"], "u-alice");
            let ended = rig.admin.call("DELETE", &format!("/v1/sessions/{}", alice.session), None).await;
            assert_eq!(ended.status, 201, "{}", ended.text());
            let asked = idp.asked("token").await;
            for token in [&*alice.refresh, text(&renewed, "refresh_token")] {
                let answer = refresh(rig.gateway.proxy, client, token).await;
                assert_eq!((answer.status, answer.json()["error"].as_str()), (400, Some("invalid_grant")), "{alg}");
                assert_eq!(answer.header("cache-control"), "no-store");
            }
            assert_eq!(idp.asked("token").await, asked, "{alg}: the provider heard of it");
            for token in access {
                assert_eq!(rig.get("/", token).await.status, 401, "{alg}, rotating {rotating}");
            }
            assert_eq!(rig.get("/", &elsewhere.access).await.status, 200, "{alg}: the other login");
            assert_eq!(refresh(rig.gateway.proxy, client, &elsewhere.refresh).await.status, 200, "{alg}");
        }
    }
}

/// The provider ends a grant whose refresh token comes twice; behind the gate two tabs never get that far.
#[tokio::test]
async fn two_tabs_at_a_rotating_provider_stay_logged_in() {
    let idp = Idp::with(&["--rotate-refresh", "true"]).await;
    let rig = guarding(&idp, false, "rotation = 'enforce'").await;
    let wanted = Login { via: Some(rig.gateway.proxy), ..Login::default() };
    let mut current = idp.log_in(wanted).await.refresh;
    for _ in 0..5 {
        let tab = || refresh(rig.gateway.proxy, "web", &current);
        let (first, second) = tokio::join!(tab(), tab());
        assert_eq!((first.status, &first.body), (200, &second.body), "{}", second.text());
        let again = tab().await;
        assert_eq!((again.status, &again.body), (200, &first.body));
        assert_eq!(rig.get("/", text(&first.json(), "access_token")).await.status, 200);
        current = text(&first.json(), "refresh_token").to_owned();
    }
}
