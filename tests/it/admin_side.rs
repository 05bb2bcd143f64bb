//! The admin side: who may do what, what is written down about it, and what it answers.

use serde_json::{Value, json};

use crate::rig::http::{Connection, Wire, get};
use crate::rig::{AUDITOR, Admin, OPS, READER, REVOKER, Rig, Token, id};

/// Every call, and the right that opens it; `*` for any, `-` for none.
const CALLS: &[(&str, &str, &str, &str)] = &[
    ("GET", "/healthz", "", "-"),
    ("GET", "/readyz", "", "-"),
    ("GET", "/metrics", "", "*"),
    ("GET", "/v1/status", "", "*"),
    ("GET", "/v1/revocations", "", "sessions:read"),
    ("GET", "/v1/revocations/00000000000000000000000000000000", "", "sessions:read"),
    ("GET", "/v1/revocations/bulk", "", "sessions:read"),
    ("POST", "/v1/check", r#"{"token":"x"}"#, "sessions:read"),
    ("GET", "/v1/sessions", "", "sessions:read"),
    ("GET", "/v1/sessions/s", "", "sessions:read"),
    ("GET", "/v1/users/alice/sessions", "", "sessions:read"),
    ("DELETE", "/v1/sessions/s", "", "sessions:revoke"),
    ("DELETE", "/v1/users/alice/sessions", "", "sessions:revoke"),
    ("POST", "/v1/revocations", r#"{"selector":{"issuer":"main","session":"s"}}"#, "sessions:revoke"),
    ("DELETE", "/v1/revocations/00000000000000000000000000000000", "", "sessions:revoke"),
    ("POST", "/v1/invalidate", r#"{"token":"x"}"#, "sessions:revoke"),
    ("GET", "/v1/audit", "", "audit:read"),
    ("POST", "/v1/revocations/bulk", r#"{"selector":{"issuer":"main","session":"s"}}"#, "admin"),
    ("POST", "/v1/revocations", r#"{"selector":{"issuer":"main"}}"#, "admin"),
    ("POST", "/v1/revocations", r#"{"selector":{"key_id":"k"}}"#, "admin"),
];

#[tokio::test]
async fn each_call_opens_to_its_right_and_to_no_other() {
    let rig = Rig::start().await;
    let callers = [(OPS, "admin"), (READER, "sessions:read"), (REVOKER, "sessions:revoke"), (AUDITOR, "audit:read")];
    for (method, path, body, right) in CALLS {
        let media = match (body.is_empty(), path.ends_with("bulk")) {
            (true, _) => None,
            (_, true) => Some("application/x-ndjson"),
            _ => Some("application/json"),
        };
        for (credential, held) in callers {
            let answer = rig.admin.by(credential).send(method, path, media, *body).await;
            let may = held == "admin" || held == *right || matches!(*right, "*" | "-");
            assert_eq!(answer.status != 403, may, "{held} {method} {path} {body}: {} {}", answer.status, answer.text());
            assert!(answer.status < 500, "{method} {path}: {}", answer.text());
        }
        let anonymous = rig.admin.anonymous().send(method, path, media, *body).await;
        assert_eq!(
            anonymous.status == 401,
            *right != "-",
            "{method} {path} without a credential: {}",
            anonymous.status
        );
    }
}

#[tokio::test]
async fn nothing_else_is_open_and_nothing_is_cross_origin() {
    let rig = Rig::start().await;
    for path in ["/", "/v1", "/v2/status", "/v1/../healthz", "/healthz/x", "/favicon.ico", "/v1/revocations/"] {
        let answer = rig.admin.anonymous().call("GET", path, None).await;
        assert!(matches!(answer.status, 400 | 401 | 404), "{path}: {}", answer.status);
    }
    let preflight = rig.admin.anonymous().send("OPTIONS", "/v1/revocations", None, "").await;
    assert!(preflight.headers.keys().all(|name| !name.as_str().starts_with("access-control")));
}

#[tokio::test]
async fn wrong_credentials_are_401_then_429_and_good_ones_still_pass() {
    let rig = Rig::with("[admin]\nfailures_per_minute = 5").await;
    let mut statuses = Vec::new();
    for n in 0..8 {
        let answer = rig.admin.by(&format!("wrong-{n}")).call("GET", "/v1/status", None).await;
        assert!(answer.status == 401 || !answer.header("retry-after").is_empty());
        statuses.push(answer.status);
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429, 429]);
    let good = rig.admin.call("GET", "/v1/status", None).await.status;
    assert_eq!(good, 200, "nobody can keep the right one from revoking");
}

#[tokio::test]
async fn unknown_and_wrong_credentials_look_alike() {
    let rig = Rig::start().await;
    let strip =
        |answer: crate::rig::Answer| (answer.status, answer.header("www-authenticate").to_owned(), answer.text());
    let wrong = strip(rig.admin.by(&format!("{OPS}x")).call("GET", "/v1/status", None).await);
    let unknown = strip(rig.admin.by("someone-else").call("GET", "/v1/status", None).await);
    assert_eq!(wrong, unknown);
}

#[tokio::test]
async fn an_admin_credential_opens_no_route_of_the_proxy_and_no_token_opens_the_admin_side() {
    let rig = Rig::start().await;
    assert_eq!(rig.get("/", OPS).await.status, 401);
    assert_eq!(rig.get("/v1/status", OPS).await.status, 401);
    let token = rig.issuer.token(json!({})).text;
    let answer = rig.admin.by(&token).call("GET", "/v1/status", None).await;
    assert!(matches!(answer.status, 401 | 403), "{}", answer.status);
}

const TOKENS: &str = "[[admin.tokens]]\nissuer = 'main'\nclaim = 'scope'\nvalue = 'gate:revoke'\nrights = ['sessions:revoke']\n\
    [[admin.tokens]]\nissuer = 'main'\nclaim = 'role'\nvalue = 'admin'\nrights = ['admin']";

#[tokio::test]
async fn a_jwt_has_the_rights_its_claims_give_until_it_is_revoked() {
    let rig = Rig::with(TOKENS).await;
    let revoker = rig.issuer.token(json!({"sub": "rita", "scope": "read gate:revoke"}));
    let operator = rig.issuer.token(json!({"sub": "olga", "role": "admin"}));
    let nobody = rig.issuer.token(json!({"sub": "nina", "scope": "gate:revoker", "role": "administrator"}));
    let by = |token: &Token| rig.admin.by(&token.text);
    by(&revoker).revoke(json!({"issuer": "main", "session": "x"})).await;
    assert_eq!(by(&revoker).call("GET", "/v1/audit", None).await.status, 403);
    assert!(matches!(by(&nobody).call("GET", "/v1/status", None).await.status, 401 | 403));
    let trail = by(&operator).get("/v1/audit").await;
    assert!(trail.to_string().contains("rita"), "the trail names the user: {trail}");
    by(&operator).revoke(json!({"issuer": "main", "user": "rita"})).await;
    assert_eq!(by(&revoker).call("GET", "/v1/status", None).await.status, 401, "a revoked token revokes nothing");
}

#[tokio::test]
async fn a_client_certificate_has_its_rights_and_a_strange_one_none() {
    let builder = Rig::builder().await;
    let (known, strange) = (builder.certs().client("known"), builder.certs().client("strange"));
    let builder = builder.word("fingerprint", known.fingerprint());
    let rig = builder
        .config(
            "[admin.tls]\ncert = '{cert}'\nkey = '{key}'\nclient_ca = '{ca}'\n\
             [[admin.certificates]]\nname = 'console'\nsha256 = '{fingerprint}'\nrights = ['sessions:revoke', 'audit:read']",
        )
        .start()
        .await;
    let with = |pair| Admin {
        tls: Some(rig.certs.trusting(&["http/1.1"], Some(pair))),
        credential: None,
        ..rig.admin.clone()
    };
    with(&known).revoke(json!({"issuer": "main", "session": "x"})).await;
    let trail = with(&known).get("/v1/audit").await;
    assert!(trail.to_string().contains("console"), "{trail}");
    let refused = with(&strange).try_send("GET", "/v1/status", None, "").await;
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.status == 401));
    let plain = Connection::open(rig.gateway.admin, Wire::H1, None).await.unwrap().send(get("/healthz", OPS)).await;
    assert!(plain.is_err(), "the TLS listener speaks no plain HTTP");
}

/// The items of the trail, the oldest first.
async fn trail(rig: &Rig) -> Vec<Value> {
    let mut items = rig.admin.by(AUDITOR).get("/v1/audit?limit=1000").await["items"].as_array().unwrap().clone();
    items.reverse();
    items
}

#[tokio::test]
async fn everything_that_was_done_or_refused_is_in_the_trail() {
    let rig = Rig::start().await;
    let token = rig.issuer.token(json!({}));
    let by_revoker = rig.admin.by(REVOKER);
    let body = json!({"selector": {"token": token.text}, "reason": "stolen"});
    let receipt = by_revoker.revoke_as(body.clone()).await;
    by_revoker.revoke_as(body).await;
    rig.admin.lift(&id(&receipt)).await;
    rig.admin.by("wrong").call("GET", "/v1/status", None).await;
    rig.admin.by(READER).try_revoke(&json!({"selector": {"issuer": "main", "session": "s"}})).await;
    let items = trail(&rig).await;
    let has = |actor: &str, action: &str, result: &str| {
        items.iter().any(|item| item["actor"] == actor && item["action"] == action && item["result"] == result)
    };
    assert!(has("revoker", "revoke", "created"), "{items:#?}");
    assert!(has("revoker", "revoke", "already"), "{items:#?}");
    assert!(has("ops", "lift", "lifted"), "{items:#?}");
    assert!(items.iter().any(|item| item["result"] == "refused" && item["actor"] == "reader"), "{items:#?}");
    assert!(items.iter().any(|item| item["result"] == "refused" && item["actor"] != "reader"), "{items:#?}");
    let text = json!(items).to_string();
    assert!(text.contains("stolen") && text.contains("127.0.0.1"));
    assert!(!crate::rig::gateway::holds_a_token(&text) && !text.contains("credential-"), "no secret is in the trail");
}

#[tokio::test]
async fn the_trail_and_the_list_are_paged_without_gap_or_repeat() {
    let rig = Rig::start().await;
    for n in 0..25 {
        rig.admin.revoke(json!({"issuer": "main", "session": format!("s{n}")})).await;
    }
    for path in ["/v1/revocations", "/v1/audit"] {
        let (mut cursor, mut seen) = (String::new(), Vec::new());
        loop {
            let page = rig.admin.get(&format!("{path}?limit=7{cursor}")).await;
            let items = page["items"].as_array().unwrap().clone();
            seen.extend(
                items
                    .iter()
                    .map(|item| item["selector"]["session"].as_str().or(item["subject"].as_str()).unwrap().to_owned()),
            );
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let found: Vec<usize> = (0..25)
            .map(|n| {
                seen.iter()
                    .filter(|text| text.ends_with(&format!("s{n}")) || text.contains(&format!("\"s{n}\"")))
                    .count()
            })
            .collect();
        assert_eq!(found, [1; 25], "{path}: {seen:?}");
    }
    let filtered = rig.admin.get("/v1/revocations?session=s7").await;
    assert_eq!(filtered["items"].as_array().unwrap().len(), 1, "{filtered}");
}

#[tokio::test]
async fn a_dry_run_says_what_it_would_hit_and_hits_nothing() {
    let rig = Rig::start().await;
    let tokens: Vec<Token> = (0..3).map(|_| rig.issuer.token(json!({}))).collect();
    let other = rig.issuer.token(json!({"sub": "bob"}));
    for token in tokens.iter().chain([&other]) {
        assert!(rig.passes(token).await);
    }
    let body = json!({"selector": {"issuer": "main", "user": "alice"}});
    let answer = rig.admin.call("POST", "/v1/revocations?dry_run=true", Some(&body)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        (&answer.json()["dry_run"], &answer.json()["recent_tokens"]),
        (&json!(true), &json!(3)),
        "{}",
        answer.text()
    );
    for token in &tokens {
        assert!(rig.passes(token).await);
    }
    assert_eq!(rig.admin.get("/v1/revocations").await["items"], json!([]));
}

#[tokio::test]
async fn revocations_go_out_in_bulk_and_come_back_in() {
    let rig = Rig::start().await;
    let tokens: Vec<Token> = (0..50).map(|n| rig.issuer.token(json!({"sub": format!("user-{n}")}))).collect();
    let mut lines: Vec<String> = tokens
        .iter()
        .map(|token| {
            json!({"selector": {"issuer": "main", "session": token.claim("sid")}, "reason": "bulk"}).to_string()
        })
        .collect();
    lines.insert(10, "{ this is no JSON".to_owned());
    lines.insert(20, json!({"selector": {"nonsense": "x"}}).to_string());
    let answer = rig.admin.send("POST", "/v1/revocations/bulk", Some("application/x-ndjson"), lines.join("\n")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let results: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(results.len(), lines.len(), "an answer for each line");
    let failed: Vec<usize> = (0..results.len()).filter(|at| results[*at]["status"].as_u64().unwrap() >= 400).collect();
    assert_eq!(failed, [10, 20], "one bad line spoils no other");
    for token in &tokens {
        assert!(!rig.passes(token).await);
    }
    let exported = rig.admin.send("GET", "/v1/revocations/bulk", None, "").await;
    assert_eq!(exported.text().lines().count(), 50, "{}", exported.text());

    let second = Rig::start().await;
    let imported =
        second.admin.send("POST", "/v1/revocations/bulk", Some("application/x-ndjson"), exported.body.clone()).await;
    let statuses: Vec<Value> =
        imported.text().lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["status"].clone()).collect();
    assert_eq!(statuses, vec![json!(201); 50], "what goes out comes back in: {}", imported.text());
    let again = second.admin.send("GET", "/v1/revocations/bulk", None, "").await;
    let essence = |text: &str| {
        let mut all: Vec<String> = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|line| format!("{} {} {} {}", line["selector"], line["kinds"], line["reason"], line["expires_at"]))
            .collect();
        all.sort();
        all
    };
    assert_eq!(essence(&again.text()), essence(&exported.text()));
}

#[tokio::test]
async fn tokens_can_be_invalidated_by_their_text_alone() {
    let rig = Rig::start().await;
    let tokens: Vec<Token> = (0..4).map(|_| rig.issuer.token(json!({}))).collect();
    let body = json!({"token": tokens[0].text, "tokens": [tokens[1].text, tokens[2].text]});
    let answer = rig.admin.call("POST", "/v1/invalidate", Some(&body)).await;
    assert_eq!((answer.status, answer.json()["invalidated"].as_u64()), (200, Some(3)), "{}", answer.text());
    let mut dead = Vec::new();
    for token in &tokens {
        dead.push(!rig.passes(token).await);
    }
    assert_eq!(dead, [true, true, true, false]);
    let again = rig.admin.call("POST", "/v1/invalidate", Some(&body)).await.json();
    assert_eq!(
        (again["invalidated"].as_u64(), again["previously_invalidated"].as_u64()),
        (Some(0), Some(3)),
        "{again}"
    );
}

#[tokio::test]
async fn a_check_says_what_stops_a_token_and_never_shows_it() {
    let rig = Rig::with("[[routes]]\npath = '/'\nupstreams = ['{upstream}']\n[[routes]]\npath = '/reports'\nupstreams = ['{upstream}']\nscopes = ['reports']").await;
    let token = rig.issuer.token(json!({}));
    let good = rig.admin.check(&token.text).await;
    assert_eq!((&good["admitted"], &good["reason"]), (&json!(true), &Value::Null), "{good}");
    let on = |path: &str| json!({"token": token.text, "path": path});
    let scoped = rig.admin.call("POST", "/v1/check", Some(&on("/reports/7"))).await.json();
    assert_eq!((&scoped["admitted"], &scoped["reason"]), (&json!(false), &json!("scope")), "{scoped}");
    let receipt = rig.admin.revoke(json!({"issuer": "main", "user": "alice"})).await;
    let dead = rig.admin.check(&token.text).await;
    assert_eq!(dead["reason"], "revoked");
    assert_eq!(dead["revocations"][0]["id"], json!(id(&receipt)));
    let expired = rig.admin.check(&rig.issuer.token(json!({"iat": 1000, "exp": 1600})).text).await;
    assert_eq!(expired["reason"], "expired");
    assert!(!crate::rig::gateway::holds_a_token(&dead.to_string()));
}

#[tokio::test]
async fn the_api_describes_itself() {
    let rig = Rig::start().await;
    let document = rig.admin.get("/v1/openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let paths = document["paths"].as_object().unwrap();
    for (method, path, _, _) in CALLS {
        let template = match *path {
            "/v1/sessions/s" => "/v1/sessions/{id}",
            "/v1/users/alice/sessions" => "/v1/users/{user}/sessions",
            path if path.contains("00000000") => "/v1/revocations/{id}",
            path => path,
        };
        assert!(
            paths.get(template).is_some_and(|item| item.get(method.to_lowercase()).is_some()),
            "{method} {template}"
        );
    }
}

#[tokio::test]
async fn health_tells_alive_from_ready() {
    let rig = Rig::start().await;
    assert_eq!(rig.admin.anonymous().call("GET", "/healthz", None).await.status, 200);
    assert_eq!(rig.admin.anonymous().call("GET", "/readyz", None).await.status, 200);
    let status = rig.admin.get("/v1/status").await;
    assert_eq!((&status["standing"], &status["store"]), (&json!("in_step"), &json!("sqlite")), "{status}");
}

/// The names in the tables at the heads of the sources are what is served, and nothing else is.
#[tokio::test]
async fn the_metrics_that_are_documented_are_the_metrics_that_are_served() {
    let rig = Rig::start().await;
    stir(&rig).await;
    let sources = ["src/telemetry/metrics.rs", "src/telemetry/sync_metrics.rs"];
    let source = sources.map(|file| std::fs::read_to_string(crate::rig::program::project(file)).unwrap()).concat();
    let table = source.lines().filter_map(|line| line.strip_prefix("//! | `")?.split('`').next());
    let documented: std::collections::BTreeSet<String> = table.map(str::to_owned).collect();
    let mut text = rig.admin.metrics().await;
    // What the index holds is published now and then.
    crate::rig::within("the figures of the index", async {
        while !text.contains("portcullis_index_entries{") {
            text = rig.admin.metrics().await;
        }
    })
    .await;
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next());
    let plain = |name: &str| {
        ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
    };
    let served: std::collections::BTreeSet<String> = samples.map(plain).collect();
    let undocumented: Vec<_> = served.difference(&documented).collect();
    assert!(undocumented.is_empty(), "served but not in the table: {undocumented:?}");
    let described: Vec<_> =
        documented.iter().filter(|name| !served.contains(*name) && !RARE.contains(&name.as_str())).collect();
    assert!(described.is_empty(), "in the table but not served: {described:?}");
    let secret = text.contains("alice") || text.contains(OPS) || crate::rig::gateway::holds_a_token(&text);
    assert!(!secret, "a user or a secret is in the figures");
}

/// What counts only what went wrong in ways that this story does not bring about.
const RARE: &[&str] = &[
    "portcullis_healed_entries_total",
    "portcullis_heals_total",
    "portcullis_introspections_total",
    "portcullis_store_errors_total",
    "portcullis_token_endpoint_total",
    "portcullis_upstream_retries_total",
];

/// Makes something happen of every other kind.
async fn stir(rig: &Rig) {
    let token = rig.issuer.token(json!({}));
    rig.get("/", &token.text).await;
    rig.get("/", "garbage").await;
    rig.get("/a/../b", &token.text).await;
    rig.get("/truncated", &token.text).await;
    crate::rig::raw::exchange(rig.gateway.proxy, b"GET /a%2fb HTTP/1.1\r\nHost: x\r\n\r\n").await;
    rig.admin.revoke(json!({ "token": token.text })).await;
    rig.get("/", &token.text).await;
    rig.reload().await;
}
