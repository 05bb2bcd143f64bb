//! Bluesky's session revoke as its real client knows it, in front of the real server: the same call, the same answers, and
//! what the server itself cannot do.

use hyper::Request;
use hyper::header::{AUTHORIZATION, COOKIE, ETAG, IF_NONE_MATCH};
use serde_json::{Value, json};

use crate::rig::bluesky::{Bluesky, Tokens, WHOAMI, below, contract, login, refresh, whoami};
use crate::rig::http::{Answer, ask};
use crate::rig::program::{project, succeed};
use crate::rig::serve::{Server, full};
use crate::rig::{OPS, READER, REVOKER, Rig, now, until, within};

/// As an operator sets it up for a client that has one base URL.
const GUARDED: &str = "[[issuers]]\nname = 'bluesky'\nissuer = 'bluesky'\npreset = 'bluesky'\nleeway = '5s'\n\
    max_token_lifetime = '24h'\nmax_refresh_token_lifetime = '30d'\n\
    [[issuers.token_endpoints]]\npreset = 'bluesky'\n\
    [[routes]]\npath = '/'\nupstreams = ['{bluesky}']\nauth = 'optional'\n\
    dialect = 'bluesky'\n\
    [[routes]]\npath = '/api/auth/provider'\nupstreams = ['{bluesky}']\nauth = 'none'\n\
    [[routes]]\npath = '/api/auth/session/refresh'\nupstreams = ['{bluesky}']\nauth = 'none'\n\
    [dialects.bluesky]\non = ['admin', 'proxy']\nupstream = '{bluesky}'\n";

/// What a foreign session and none are told alike.
const FOREIGN: &str = "Sessions does not exist or requester has insufficient permissions";

async fn guarded(more: &str) -> (Rig, Bluesky) {
    let bluesky = Bluesky::start().await;
    let settings = format!("{GUARDED}{more}");
    let rig = Rig::builder().await.word("bluesky", bluesky.url()).config(&settings).start().await;
    (rig, bluesky)
}

fn bearer(tokens: &Tokens) -> String {
    format!("Bearer {}", tokens.access)
}

/// `DELETE` of a session, as the client sends it.
fn revoking(id: &str, credential: Option<&str>) -> Request<crate::rig::Body> {
    let request = Request::delete(format!("/api/auth/session/revoke/{id}")).header("content-type", "application/json");
    let request = credential.into_iter().fold(request, |request, value| request.header(AUTHORIZATION, value));
    request.body(full("{}")).unwrap()
}

async fn revoke(rig: &Rig, id: &str, credential: Option<&str>) -> Answer {
    ask(rig.gateway.proxy, revoking(id, credential)).await
}

fn assert_done(answer: &Answer) {
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"success":true,"msg":""}"#));
}

fn assert_refused(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/json");
    answer.json()["detail"].as_str().unwrap_or_else(|| panic!("no detail in {}", answer.text())).to_owned()
}

async fn api_key(rig: &Rig, tokens: &Tokens) -> String {
    let request = Request::post("/api/auth/apikey").header(AUTHORIZATION, bearer(tokens));
    let request = request.header("content-type", "application/json").body(full(r#"{"expires_in": 300}"#));
    ask(rig.gateway.proxy, request.unwrap()).await.json()["secret"].as_str().unwrap().to_owned()
}

async fn is_alive(rig: &Rig, tokens: &Tokens) -> bool {
    let access = whoami(rig.gateway.proxy, &bearer(tokens)).await.status;
    let refresh = refresh(rig.gateway.proxy, &tokens.refresh).await.status;
    assert_eq!(access, refresh, "both or none");
    access == 200
}

fn dashed(id: &str) -> String {
    [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]].join("-")
}

/// Who is told, and whether the server's list marks that session.
fn is_marked(list: &Value, session: &str) -> bool {
    let sessions = list["sessions"].as_array().unwrap();
    let found = sessions.iter().find(|found| found["uuid"] == dashed(session));
    found.unwrap_or_else(|| panic!("no {session} in {list}"))["revoked"].as_bool().unwrap()
}

#[tokio::test]
async fn its_client_finds_the_original_or_something_stricter() {
    for (access_tokens, after) in [("as_original", "works"), ("strict", "blocked")] {
        let (rig, _bluesky) = guarded(&format!("access_tokens = '{access_tokens}'\n")).await;
        succeed(contract(&format!("http://{}", rig.gateway.proxy), Some(after))).await;
    }
}

#[tokio::test]
async fn its_client_finds_it_below_another_base_path() {
    let bluesky = Bluesky::start().await;
    let lab = below("/lab", &bluesky).await;
    let settings = GUARDED
        .replace("[[issuers.token_endpoints]]\npreset = 'bluesky'\n", "")
        .replace("path = '/api", "path = '/lab/api")
        .replace("[[routes]]\npath = '/'", "{endpoints}[[routes]]\npath = '/lab'")
        .replace("[dialects.bluesky]\n", "[dialects.bluesky]\nprefix = '/lab'\n");
    let endpoints = "[[issuers.token_endpoints]]\npreset = 'bluesky'\npath = '/lab/api/auth/provider/*/token'\n\
        refresh_token = []\n\
        [[issuers.token_endpoints]]\npreset = 'bluesky'\npath = '/lab/api/auth/session/refresh'\n";
    let settings = settings.replace("{endpoints}", endpoints);
    let url = format!("http://{}/lab", lab.address);
    let settings = settings.replace("upstream = '{bluesky}'", &format!("upstream = '{url}/'"));
    let server = format!("http://{}", lab.address);
    let rig = Rig::builder().await.word("bluesky", server).config(&settings).start().await;
    succeed(contract(&format!("http://{}/lab", rig.gateway.proxy), Some("blocked"))).await;
}

#[tokio::test]
async fn every_spelling_of_an_id_is_that_session() {
    let (rig, _bluesky) = guarded("").await;
    login(rig.gateway.proxy, "tom").await;
    let spellings: [fn(&str) -> String; 8] = [
        str::to_owned,
        dashed,
        |id| id.to_uppercase(),
        |id| format!("{{{}}}", dashed(id)),
        |id| format!("%7B{}%7d", dashed(id)),
        |id| format!("urn:uuid:{}", dashed(id)),
        |id| format!("urn%3Auuid:{}", dashed(id).to_uppercase()),
        |id| format!("{}-{}-", &id[..3], &id[3..]),
    ];
    for spelling in spellings {
        until(now() + 1).await;
        let tom = login(rig.gateway.proxy, "tom").await;
        let spelled = spelling(&tom.session);
        assert_done(&revoke(&rig, &spelled, Some(&bearer(&tom))).await);
        assert!(!is_alive(&rig, &tom).await, "{spelled}");
    }
    let tom = login(rig.gateway.proxy, "tom").await;
    for wrong in [&tom.session[1..], "x", &format!("{}0", tom.session), "me", "%C3%A9", "urn:uuid:"] {
        let detail = assert_refused(&revoke(&rig, wrong, Some(&bearer(&tom))).await, 404);
        assert!(detail.starts_with("No session "), "{detail}");
    }
    assert!(is_alive(&rig, &tom).await);
}

#[tokio::test]
async fn nobody_ends_what_is_not_theirs_and_nobody_learns_whether_it_is_there() {
    let (rig, _bluesky) = guarded("").await;
    let (tom, alice) = (login(rig.gateway.proxy, "tom").await, login(rig.gateway.proxy, "alice").await);
    let key = format!("ApiKey {}", api_key(&rig, &alice).await);
    let unknown = "00000000-0000-4000-8000-000000000000";
    for credential in [None, Some(&*bearer(&alice)), Some(&*key)] {
        for id in [&*tom.session, unknown] {
            assert_eq!(assert_refused(&revoke(&rig, id, credential).await, 404), FOREIGN, "{credential:?}");
        }
    }
    for (wrong, status, detail) in [
        ("Bearer a.b.c", 401, "Could not validate credentials"),
        ("Bearer", 401, "Could not validate credentials"),
        ("ApiKey 00ff", 401, "Invalid API key"),
        ("ApiKey wrong", 401, "Invalid API key"),
        ("Basic b2s6b2s=", 400, "Authorization header must include"),
    ] {
        let said = assert_refused(&revoke(&rig, &tom.session, Some(wrong)).await, status);
        assert!(said.starts_with(detail), "{wrong}: {said}");
    }
    let reader = format!("Bearer {READER}");
    assert_refused(&revoke(&rig, &tom.session, Some(&reader)).await, 403);
    assert!(is_alive(&rig, &tom).await);
    let trail = rig.admin.get("/v1/audit?limit=100").await;
    let records = trail["items"].as_array().unwrap();
    let refused: Vec<_> = records.iter().filter(|record| record["result"] == "refused").collect();
    let actors: Vec<_> = refused.iter().map(|record| record["actor"].as_str().unwrap()).collect();
    assert!(actors.contains(&&*format!("{}@bluesky", alice.user)) && actors.contains(&"-"), "{actors:?}");
    assert!(actors.contains(&"reader"), "{actors:?}");
    assert!(!trail.to_string().contains(&alice.access), "no token is written down");
}

#[tokio::test]
async fn an_administrator_ends_anybodys_session() {
    let (rig, bluesky) = guarded("").await;
    login(rig.gateway.proxy, "tom").await;
    let bob = login(rig.gateway.proxy, "bob").await;
    let key = api_key(&rig, &bob).await;
    let operator = format!("Bearer {REVOKER}");
    let by_key = format!("apikey {OPS}");
    for credential in [&*bearer(&bob), &format!("ApiKey {key}"), &operator, &by_key] {
        until(now() + 1).await;
        let tom = login(rig.gateway.proxy, "tom").await;
        let original = ask(bluesky.address(), revoking(&tom.session, Some(&bearer(&bob)))).await;
        assert_eq!(original.status, 404, "the server itself lets nobody");
        assert!(is_alive(&rig, &tom).await);
        assert_done(&revoke(&rig, &tom.session, Some(credential)).await);
        assert_done(&revoke(&rig, &dashed(&tom.session), Some(credential)).await);
        assert!(!is_alive(&rig, &tom).await);
        let shown = rig.admin.get(&format!("/v1/sessions/{}", tom.session)).await;
        assert_eq!(shown["state"], "revoked", "{shown}");
    }
    assert!(is_alive(&rig, &bob).await);
    let unknown = "00000000-0000-4000-8000-000000000000";
    for credential in [&operator, &bearer(&bob)] {
        assert!(assert_refused(&revoke(&rig, unknown, Some(credential)).await, 404).starts_with("No session "));
    }
    let unseen = login(bluesky.address(), "tom").await;
    assert_refused(&revoke(&rig, &unseen.session, Some(&operator)).await, 404);
    assert_done(&revoke(&rig, &unseen.session, Some(&bearer(&bob))).await);
    assert_eq!(refresh(rig.gateway.proxy, &unseen.refresh).await.status, 401);
}

#[tokio::test]
async fn the_admin_listener_has_the_call_too() {
    let (rig, _bluesky) = guarded("").await;
    let (tom, alice) = (login(rig.gateway.proxy, "tom").await, login(rig.gateway.proxy, "alice").await);
    assert_done(&ask(rig.gateway.admin, revoking(&tom.session, Some(&bearer(&tom)))).await);
    assert_done(&ask(rig.gateway.admin, revoking(&alice.session, Some(&format!("Bearer {OPS}")))).await);
    assert!(!is_alive(&rig, &tom).await && !is_alive(&rig, &alice).await);
    let wrong = ask(rig.gateway.admin, Request::post("/api/auth/session/revoke/x").body(full("")).unwrap()).await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, "DELETE"));
    assert_refused(&wrong, 405);
    let document = rig.admin.get("/v1/openapi/bluesky.json").await;
    assert!(document["paths"]["/api/auth/session/revoke/{session_uid}"]["delete"].is_object(), "{document}");
}

/// What the server lists as alive is dead here. Its list says so, in every form that can be put right.
#[tokio::test]
async fn lists_of_sessions_tell_what_has_ended_here() {
    let (rig, bluesky) = guarded("").await;
    let proxy = rig.gateway.proxy;
    let tom = login(proxy, "tom").await;
    until(now() + 1).await;
    let (again, bob) = (login(proxy, "tom").await, login(proxy, "bob").await);
    let key = format!("ApiKey {}", api_key(&rig, &tom).await);
    let before = whoami(proxy, &key).await;
    assert!(!is_marked(&before.json(), &tom.session) && !is_marked(&before.json(), &again.session));
    let held = |tag: &str, path: &str| {
        Request::get(path).header(AUTHORIZATION, &key).header(IF_NONE_MATCH, tag).body(full("")).unwrap()
    };
    assert_done(&revoke(&rig, &tom.session, Some(&key)).await);
    let after = whoami(proxy, &key).await;
    let original = whoami(bluesky.address(), &key).await;
    assert!(is_marked(&after.json(), &tom.session) && !is_marked(&after.json(), &again.session));
    assert!(!is_marked(&original.json(), &tom.session), "the server was told nothing");
    assert_eq!(after.header("content-length"), after.body.len().to_string());
    assert_ne!(after.header("etag"), original.header("etag"));
    // Nothing but the word, and the moment of the key's last use.
    let same = |text: String| text.replacen("true", "false", 1).len();
    assert_eq!(same(after.text()), original.text().len());
    let tag = |answer: &Answer| answer.headers[ETAG].to_str().unwrap().to_owned();
    let other = ask(proxy, held(&tag(&before), WHOAMI)).await;
    assert_eq!(other.status, 200, "what the client holds is of before");
    // The server's document tells when the key was last used: within one second it stays the same.
    let unchanged = within("the same document twice", async {
        loop {
            let first = whoami(proxy, &key).await;
            let second = ask(proxy, held(&tag(&first), WHOAMI)).await;
            if second.status == 304 {
                break second;
            }
        }
    });
    let unchanged = unchanged.await;
    assert!(unchanged.body.is_empty() && !unchanged.header("etag").is_empty());
    for path in ["/api/auth/principal".to_owned(), format!("/api/auth/principal/{}", dashed(&tom.user))] {
        let listed = ask(proxy, Request::get(&path).header(AUTHORIZATION, bearer(&bob)).body(full("")).unwrap()).await;
        let told = listed.json();
        let principals = told.as_array().cloned().unwrap_or_else(|| vec![told.clone()]);
        let user = principals.iter().find(|principal| principal["uuid"] == dashed(&tom.user));
        assert!(is_marked(user.unwrap_or_else(|| panic!("{path}: {told}")), &tom.session), "{path}");
    }
    let packed = Request::get(WHOAMI).header(AUTHORIZATION, &key).header("accept", "application/x-msgpack");
    let packed = ask(proxy, packed.body(full("")).unwrap()).await;
    assert_eq!((packed.status, packed.header("content-type")), (200, "application/x-msgpack"));
    assert!(packed.body.windows(9).any(|bytes| bytes == b"\xa7revoked\xc2"), "untouched");
}

/// An upstream that is none of the server's: what cannot be put right is not handed on as if it were.
#[tokio::test]
async fn a_list_that_cannot_be_read_is_withheld() {
    let session = "11111111111141118111111111111111";
    let listed = json!({"sessions": [{"uuid": dashed(session), "revoked": false}]}).to_string();
    let server = Server::start(None, move |request| {
        let listed = listed.clone();
        async move {
            let answer = hyper::Response::builder().header("content-type", "application/json").header("etag", "\"x\"");
            let answer = answer.header("content-digest", "sha-256=:AA==:");
            let (answer, body) = match request.uri().query() {
                Some("long") => (answer, format!("{listed}{}", " ".repeat(9 << 20))),
                Some("broken") => (answer, listed.replace('}', "")),
                Some("gone") => (answer.status(404), listed),
                Some("coded") => (answer.header("content-encoding", "x"), listed),
                _ => (answer, listed),
            };
            answer.body(full(body)).unwrap()
        }
    })
    .await;
    let url = format!("http://{}", server.address);
    let rig = Rig::builder().await.word("bluesky", url).config(GUARDED).start().await;
    rig.admin.revoke(json!({"issuer": "bluesky", "session": session})).await;
    let get = async |method: &str, path: &str| {
        ask(rig.gateway.proxy, Request::builder().method(method).uri(path).body(full("")).unwrap()).await
    };
    let right = get("GET", "/x/api/auth/whoami").await;
    assert!(is_marked(&right.json(), session));
    assert!(right.header("etag").starts_with('"') && right.header("etag") != "\"x\"");
    assert_eq!(right.header("content-digest"), "");
    for (query, status, mark) in [("gone", 404, false), ("coded", 200, false)] {
        let answer = get("GET", &format!("/api/auth/whoami?{query}")).await;
        assert_eq!((answer.status, is_marked(&answer.json(), session), answer.header("etag")), (status, mark, "\"x\""));
    }
    for query in ["long", "broken"] {
        assert_refused_by_us(&get("GET", &format!("/api/auth/whoami?{query}")).await);
    }
    let head = get("HEAD", "/api/auth/whoami").await;
    assert_eq!((head.status, head.header("etag"), head.header("content-length")), (200, "", ""));
    assert!(!is_marked(&get("GET", "/elsewhere").await.json(), session), "another path");
}

fn assert_refused_by_us(answer: &Answer) {
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(answer.json()["detail"].is_string());
}

/// Tokens that are dead do not authorise, whatever the server thinks; and the client is told so in words that it knows.
#[tokio::test]
async fn a_dead_credential_ends_nothing() {
    let (rig, bluesky) = guarded("").await;
    let proxy = rig.gateway.proxy;
    let tom = login(proxy, "tom").await;
    until(now() + 1).await;
    let again = login(proxy, "tom").await;
    let (key, lost) = (api_key(&rig, &tom).await, api_key(&rig, &tom).await);
    rig.admin.revoke(json!({ "token": lost })).await;
    assert_done(&revoke(&rig, &tom.session, Some(&bearer(&tom))).await);
    assert_eq!(whoami(bluesky.address(), &bearer(&tom)).await.status, 200, "the server still takes it");
    for dead in [bearer(&tom), format!("ApiKey {lost}")] {
        for session in [&tom.session, &again.session] {
            let said = assert_refused(&revoke(&rig, session, Some(&dead)).await, 401);
            assert_eq!(said, "Session has expired. Please re-authenticate.");
        }
    }
    assert!(is_alive(&rig, &again).await);
    assert_done(&revoke(&rig, &tom.session, Some(&format!("ApiKey {key}"))).await);
    let by_query = format!("{}?api_key={key}", again.session);
    assert_done(&revoke(&rig, &by_query, Some("Bearer ignored")).await);
    assert!(!is_alive(&rig, &again).await);
}

/// The server decodes a key, and takes it in three places; a key that was revoked here is dead in all of them, as it is
/// spelled or otherwise.
#[tokio::test]
async fn a_revoked_api_key_is_dead_wherever_it_stands_and_however_it_is_spelled() {
    let (rig, bluesky) = guarded("").await;
    let tom = login(rig.gateway.proxy, "tom").await;
    let (key, other) = (api_key(&rig, &tom).await, api_key(&rig, &tom).await);
    let shown = |place: usize, key: &str| {
        let request = Request::get(if place == 0 { format!("{WHOAMI}?a=1&api_key={key}") } else { WHOAMI.to_owned() });
        let request = match place {
            1 => request.header(AUTHORIZATION, format!("APIkey {key}")),
            2 => request.header(COOKIE, format!("a=b; bluesky_httpserver_api_key={key}")),
            _ => request,
        };
        request.body(full("")).unwrap()
    };
    let spellings = [key.clone(), key.to_uppercase(), format!("{}{}", key[..9].to_uppercase(), &key[9..])];
    let statuses = async |at| {
        let mut statuses = Vec::new();
        for place in 0..3 {
            for spelling in &spellings {
                statuses.push(ask(at, shown(place, spelling)).await.status);
            }
        }
        statuses
    };
    assert_eq!(statuses(rig.gateway.proxy).await, [200; 9]);
    rig.admin.revoke(json!({ "token": spellings[1] })).await;
    assert_eq!(statuses(rig.gateway.proxy).await, [401; 9]);
    assert_eq!(statuses(bluesky.address()).await, [200; 9], "the server knows nothing of it");
    assert_refused(&revoke(&rig, &tom.session, Some(&format!("ApiKey {}", spellings[2]))).await, 401);
    for place in 0..3 {
        assert_eq!(ask(rig.gateway.proxy, shown(place, &other)).await.status, 200);
    }
    let mut both = shown(0, &other);
    both.headers_mut().insert(AUTHORIZATION, format!("ApiKey {other}").parse().unwrap());
    assert_refused(&ask(rig.gateway.proxy, both).await, 400);
    let mut again = shown(0, &other);
    again.headers_mut().insert(COOKIE, format!("bluesky_httpserver_api_key={other}").parse().unwrap());
    assert_eq!(ask(rig.gateway.proxy, again).await.status, 200, "as the server's own cookie makes a browser repeat it");
}

#[tokio::test]
async fn a_cookie_ends_nothing_on_another_sites_word() {
    let (rig, _bluesky) = guarded("").await;
    let tom = login(rig.gateway.proxy, "tom").await;
    let cookie = format!("bluesky_httpserver_api_key={}; bluesky_httpserver_csrf=c", api_key(&rig, &tom).await);
    let with = |csrf: Option<&str>| {
        let mut request = revoking(&tom.session, None);
        request.headers_mut().insert(COOKIE, cookie.parse().unwrap());
        csrf.map(|csrf| request.headers_mut().insert("x-csrf", csrf.parse().unwrap()));
        request
    };
    assert_refused(&ask(rig.gateway.proxy, with(None)).await, 403);
    assert_refused(&ask(rig.gateway.proxy, with(Some("d"))).await, 403);
    assert!(is_alive(&rig, &tom).await);
    assert_done(&ask(rig.gateway.proxy, with(Some("c"))).await);
    assert!(!is_alive(&rig, &tom).await);
}

/// Operators have the id that the server shows: dashed, or however they spell it.
#[tokio::test]
async fn the_native_calls_know_a_session_as_the_server_shows_it() {
    let (rig, _bluesky) = guarded("").await;
    let proxy = rig.gateway.proxy;
    login(proxy, "tom").await;
    for way in 0..3 {
        until(now() + 1).await;
        let tom = login(proxy, "tom").await;
        let listed = whoami(proxy, &bearer(&tom)).await.json();
        let mut ids = listed["sessions"].as_array().unwrap().iter().map(|shown| shown["uuid"].as_str().unwrap());
        let shown = ids.find(|id| id.replace('-', "") == tom.session).unwrap().to_owned();
        assert_ne!(shown, tom.session);
        let upper = shown.to_uppercase();
        match way {
            0 => {
                let ended = rig.admin.call("DELETE", &format!("/v1/sessions/{shown}?issuer=bluesky"), None).await;
                assert_eq!(ended.status, 201, "{}", ended.text());
            }
            1 => drop(rig.admin.revoke(json!({"issuer": "bluesky", "session": shown})).await),
            _ => drop(rig.admin.revoke(json!({"issuer": "bluesky", "session": upper})).await),
        }
        assert!(!is_alive(&rig, &tom).await, "{way}");
        let known = rig.admin.get(&format!("/v1/sessions/{upper}?issuer=bluesky")).await;
        assert_eq!((&known["id"], &known["state"]), (&json!(tom.session), &json!("revoked")), "{known}");
    }
}

/// Two logins of one second share their access token; each is ended for itself.
#[tokio::test]
async fn a_shared_access_token_ends_with_the_last_of_its_sessions() {
    let (rig, _bluesky) = guarded("").await;
    let proxy = rig.gateway.proxy;
    login(proxy, "tom").await;
    let (first, second) = within("two logins in one second", async {
        loop {
            until(now() + 1).await;
            let both = tokio::join!(login(proxy, "tom"), login(proxy, "tom"));
            if both.0.access == both.1.access {
                return both;
            }
        }
    })
    .await;
    assert_done(&revoke(&rig, &first.session, Some(&bearer(&first))).await);
    assert_eq!(refresh(proxy, &first.refresh).await.status, 401);
    let listed = whoami(proxy, &bearer(&first)).await.json();
    assert!(is_marked(&listed, &first.session) && !is_marked(&listed, &second.session));
    assert_done(&revoke(&rig, &second.session, Some(&bearer(&first))).await);
    assert_eq!(whoami(proxy, &bearer(&first)).await.status, 401);
}

/// A session that was begun before anybody looked is its user's all the same; and a server that is gone ends nothing.
#[tokio::test]
async fn what_was_never_seen_is_ended_by_its_user_and_nobody_is_believed_unasked() {
    let (rig, bluesky) = guarded("").await;
    let tom = login(bluesky.address(), "tom").await;
    assert_done(&revoke(&rig, &tom.session, Some(&bearer(&tom))).await);
    assert_eq!(refresh(rig.gateway.proxy, &tom.refresh).await.status, 401);
    let alice = login(rig.gateway.proxy, "alice").await;
    drop(bluesky);
    let answer = revoke(&rig, &alice.session, Some(&bearer(&alice))).await;
    assert_refused(&answer, 503);
    assert!(!answer.header("retry-after").is_empty());
    assert_done(&revoke(&rig, &alice.session, Some(&format!("Bearer {OPS}"))).await);
}

/// More callers than the server is asked for at once: each has its turn.
#[tokio::test]
async fn many_callers_at_once_are_all_served() {
    let session = "11111111111141118111111111111111";
    let asked = std::sync::Arc::new(tokio::sync::watch::Sender::new(0));
    let server = Server::start(None, move |_| {
        let asked = asked.clone();
        async move {
            asked.send_modify(|asked| *asked += 1);
            // The first are kept waiting until as many have come as are let in together.
            asked.subscribe().wait_for(|asked| *asked >= 32).await.unwrap();
            let user = "33333333-3333-4333-8333-333333333333";
            let told = json!({"uuid": user, "sessions": [{"uuid": dashed(session)}]});
            hyper::Response::new(full(told.to_string()))
        }
    })
    .await;
    let url = format!("http://{}", server.address);
    let rig = Rig::builder().await.word("bluesky", url).config(GUARDED).start().await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let (proxy, request) = (rig.gateway.proxy, revoking(session, Some("ApiKey 00ff")));
        callers.spawn(async move { ask(proxy, request).await });
    }
    for answer in callers.join_all().await {
        assert_done(&answer);
    }
}

/// A session that the gateway never saw begin counts as older than a cut-off, and so the list tells of it, before its
/// refresh token is tried and after; one that began here later is alive.
#[tokio::test]
async fn a_cut_off_ends_what_was_never_seen_and_the_list_says_so() {
    let (rig, bluesky) = guarded("").await;
    let proxy = rig.gateway.proxy;
    let unseen = login(bluesky.address(), "tom").await;
    let seen = login(proxy, "tom").await;
    let key = format!("ApiKey {}", api_key(&rig, &seen).await);
    let marks = async |sessions: &[&Tokens]| {
        let listed = whoami(proxy, &key).await.json();
        sessions.iter().map(|tokens| is_marked(&listed, &tokens.session)).collect::<Vec<_>>()
    };
    assert_eq!(marks(&[&unseen, &seen]).await, [false, false]);
    rig.admin.revoke(json!({"issuer": "bluesky", "user": seen.user})).await;
    assert_eq!(marks(&[&unseen, &seen]).await, [true, true]);
    for tokens in [&unseen, &seen] {
        assert_eq!(refresh(proxy, &tokens.refresh).await.status, 401);
    }
    until(now() + 1).await;
    let later = login(proxy, "tom").await;
    assert_eq!(marks(&[&unseen, &seen, &later]).await, [true, true, false]);
    assert_eq!(refresh(proxy, &unseen.refresh).await.status, 401);
    assert!(is_alive(&rig, &later).await);
    let never = login(bluesky.address(), "alice").await;
    let alice = whoami(proxy, &bearer(&never)).await.json();
    assert!(!is_marked(&alice, &never.session), "somebody else's");
}

/// What schemathesis makes of the description, against both listeners.
#[tokio::test]
async fn no_input_breaks_the_call() {
    let server = Server::start(None, |request| async move {
        let told = match request.uri().path() {
            WHOAMI => json!({"uuid": "33333333-3333-4333-8333-333333333333", "sessions": []}),
            "/api/auth/principal" => json!([]),
            _ => json!({"scopes": ["admin:apikeys"]}),
        };
        hyper::Response::new(full(told.to_string()))
    })
    .await;
    // It also shows wrong credentials, and would not be listened to for long.
    let builder = Rig::builder().await.word("bluesky", format!("http://{}", server.address)).config(GUARDED);
    let rig = builder.config("[admin]\nfailures_per_minute = 100000").start().await;
    let document = rig.admin.call("GET", "/v1/openapi/bluesky.json", None).await.text();
    let schema = rig.folder.write("bluesky.json", document);
    for (address, credential) in
        [(rig.gateway.proxy, "ApiKey 00ff".to_owned()), (rig.gateway.admin, format!("Bearer {OPS}"))]
    {
        let mut command = std::process::Command::new(project("tests/env/schemathesis/bin/schemathesis"));
        command.arg("run").arg(&schema).args(["--url", &format!("http://{address}")]);
        command.args(["-H", &format!("Authorization: {credential}")]);
        command.args(["--checks", "not_a_server_error", "--max-examples", "50", "--seed", "1", "--no-color"]);
        command.args(["--generation-database", ":memory:"]).current_dir(rig.folder.path()).env("NO_PROXY", "*");
        succeed(command).await;
    }
    assert_eq!(rig.admin.call("GET", "/healthz", None).await.status, 200);
}

/// An expired access token is refused in the words at which the client renews it.
#[tokio::test]
async fn the_client_renews_a_token_that_has_expired() {
    let bluesky = Bluesky::with(&["--access-ttl", "1"]).await;
    let settings = GUARDED.replace("leeway = '5s'", "leeway = '0s'");
    let rig = Rig::builder().await.word("bluesky", bluesky.url()).config(&settings).start().await;
    let tom = login(rig.gateway.proxy, "tom").await;
    until(now() + 3).await;
    for answer in
        [whoami(rig.gateway.proxy, &bearer(&tom)).await, revoke(&rig, &tom.session, Some(&bearer(&tom))).await]
    {
        assert!(assert_refused(&answer, 401).contains("Access token has expired"), "{}", answer.text());
    }
}
