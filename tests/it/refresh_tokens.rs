//! Token endpoints behind the gate: what the upstream says of living tokens passes as it is; after a session's end no refresh
//! token of it passes again, in whatever disguise the upstream would have known it.

use std::net::SocketAddr;

use serde_json::json;

use crate::rig::front::{Front, is_dead, telling};
use crate::rig::http::ask;
use crate::rig::keys::b64;
use crate::rig::raw::{exchange, statuses};
use crate::rig::token_service::{Issued, Make, Manner, Rotation, Stage, login, oauth2, refresh, refresh_json};

/// Where replies of services say what their tokens do not.
const LEARN: &str = "learn = { user = 'reply:/user' }";

#[tokio::test]
async fn answers_pass_byte_for_byte_and_requests_too() {
    let front = Front::start(Manner::default(), "").await;
    let (rig, service) = (&front.rig, &front.service);
    let first = rig.send(login("/token", "alice", "web")).await.json()["refresh_token"].as_str().unwrap().to_owned();
    let second = rig.send(refresh("/token", &first, "web")).await;
    let third = rig.send(refresh_json("/json/token", service.issued()[1].refresh.as_str())).await;
    for (answer, issued) in [&second, &third].into_iter().zip(&service.issued()[1..]) {
        assert_eq!(answer.text(), format!("{:#}\n\n", oauth2(issued)));
        assert_eq!((answer.header("cache-control"), answer.header("x-token-service")), ("no-store", "yes"));
        assert_eq!(answer.header("content-type"), "application/json;charset=UTF-8");
        assert!(front.opens(&issued.access).await);
    }
    let seen = service.seen();
    assert_eq!((seen[1].method.as_str(), seen[1].target.as_str()), ("POST", "/token"));
    assert_eq!(seen[1].body, format!("grant_type=refresh_token&refresh_token={first}&client_id=web"));
    assert_eq!(seen[2].headers["content-type"], "application/json");
    let unusable = rig.send(refresh("/token", &first, "web")).await;
    assert_eq!((unusable.status, unusable.json()["error"].as_str()), (400, Some("invalid_grant")));
    assert_eq!(unusable.header("x-token-service"), "yes", "what the upstream refuses is refused in its own words");
}

/// How a session comes to its end.
#[derive(Clone, Copy, Debug)]
enum Way {
    Revocation,
    Session,
    User,
    ItsUser,
}

impl Way {
    const ALL: [Self; 4] = [Self::Revocation, Self::Session, Self::User, Self::ItsUser];

    async fn end(self, front: &Front, id: &str, of: &Issued) {
        let admin = &front.rig.admin;
        let answer = match self {
            Self::Revocation => {
                let selector = json!({ "selector": {"issuer": "main", "session": id} });
                admin.call("POST", "/v1/revocations", Some(&selector)).await
            }
            Self::Session => admin.call("DELETE", &format!("/v1/sessions/{id}"), None).await,
            Self::User => admin.call("DELETE", &format!("/v1/users/{}/sessions", of.user), None).await,
            Self::ItsUser => admin.by(&of.access).call("DELETE", &format!("/v1/me/sessions/{id}"), None).await,
        };
        assert_eq!(answer.status, 201, "{self:?}: {}", answer.text());
    }

    const fn spares_other_sessions(self) -> bool {
        !matches!(self, Self::User)
    }
}

async fn ends((access, refresh, rotation): (Make, Make, Rotation), keys: &str, ways: &[Way]) {
    let verified = matches!(access, Make::Jwt(_));
    let manner = Manner { access, refresh, rotation, reply: telling };
    let front = Front::start(manner, &format!("{LEARN}\n{keys}")).await;
    for (n, way) in ways.iter().enumerate() {
        let user = format!("user{n}");
        let first = front.login(&user).await;
        let second = front.renew(&first.refresh).await;
        let latest = front.renew(&second.refresh).await;
        let (elsewhere, other) = (front.login(&user).await, front.login("other").await);
        let username = if verified { format!("{user}@example.com") } else { user };
        let ids = front.sessions(&username).await;
        assert_eq!(ids.len(), 2, "{way:?}: {ids:?}");
        let id = ids.iter().find(|id| **id == first.session).unwrap_or(&ids[0]);
        way.end(&front, id, &first).await;
        let upstream = front.service.seen().len();
        for of in [&first, &second, &latest] {
            for path in ["/token", "/TOKEN/"] {
                let answer = ask(front.proxy(), crate::rig::token_service::refresh(path, &of.refresh, "web")).await;
                assert!(is_dead(&answer), "{way:?}: {}", answer.text());
            }
            assert!(is_dead(&ask(front.proxy(), refresh_json("/json/token", &of.refresh)).await), "{way:?}");
            assert!(!front.opens(&of.access).await, "{way:?}");
        }
        assert_eq!(front.service.seen().len(), upstream, "{way:?}: the upstream heard of it");
        assert!(front.renews(&other.refresh).await && front.opens(&other.access).await, "{way:?}");
        assert_eq!(front.renews(&elsewhere.refresh).await, way.spares_other_sessions(), "{way:?}");
        assert_eq!(front.opens(&elsewhere.access).await, way.spares_other_sessions(), "{way:?}");
    }
}

#[tokio::test]
async fn after_a_sessions_end_no_refresh_token_of_it_passes_when_access_tokens_are_jwts() {
    let jwt = || Make::Jwt(json!({}));
    ends((jwt(), Make::Opaque, Rotation::Added), "", &Way::ALL).await;
    ends((jwt(), jwt(), Rotation::Strict), "rotation = 'enforce'", &Way::ALL).await;
    // Nothing in the tokens names a session.
    let silent = || Make::Jwt(json!({ "sid": null }));
    ends((silent(), silent(), Rotation::Added), "", &Way::ALL[..3]).await;
}

#[tokio::test]
async fn after_a_sessions_end_no_refresh_token_of_it_passes_when_access_tokens_are_opaque() {
    let silent = Make::Jwt(json!({"sid": null, "iat": null}));
    ends((Make::Opaque, Make::Opaque, Rotation::Added), "", &Way::ALL[..3]).await;
    ends((Make::Opaque, silent, Rotation::Added), "rotation = 'off'", &Way::ALL[..3]).await;
    ends((Make::Opaque, Make::Opaque, Rotation::Unnamed), "rotation = 'off'", &Way::ALL[..3]).await;
    ends((Make::Opaque, Make::Opaque, Rotation::Kept), "", &Way::ALL[..3]).await;
}

/// A refresh that is under way when its session ends brings nobody anything.
#[tokio::test]
async fn a_refresh_under_way_at_its_sessions_end_is_dead() {
    for rotation in ["off", "observe", "enforce"] {
        let manner = Manner { access: Make::Opaque, refresh: Make::Opaque, rotation: Rotation::Added, reply: telling };
        let front = Front::start(manner, &format!("{LEARN}\nrotation = '{rotation}'")).await;
        for (stage, way) in
            [(Stage::Arrived, Way::Session), (Stage::Minted, Way::User), (Stage::Halfway, Way::Revocation)]
        {
            let user = format!("{stage:?}");
            let first = front.login(&user).await;
            let gate = front.service.hold(stage);
            let under_way = tokio::spawn(ask(front.proxy(), refresh("/token", &first.refresh, "web")));
            gate.reached().await;
            way.end(&front, &front.sessions(&user).await[0], &first).await;
            drop(gate);
            assert!(is_dead(&under_way.await.unwrap()), "{rotation} {stage:?}");
            let minted = front.service.minted_for(&first.refresh).pop().unwrap();
            for issued in [&first, &minted] {
                assert!(is_dead(&front.refresh(&issued.refresh).await), "{rotation} {stage:?}");
                assert!(!front.opens(&issued.access).await, "{rotation} {stage:?}");
            }
        }
    }
}

/// A refresh token dies by its own text too, and with every other spelling of its signature.
#[tokio::test]
async fn a_refresh_token_is_revoked_by_itself() {
    for make in [Make::Opaque, Make::Jwt(json!({}))] {
        let front = Front::start(Manner { refresh: make, rotation: Rotation::Added, ..Manner::default() }, "").await;
        let first = front.login("alice").await;
        let second = front.renew(&first.refresh).await;
        front.rig.admin.revoke(json!({ "token": first.refresh })).await;
        assert!(!front.renews(&first.refresh).await && front.renews(&second.refresh).await);
    }
}

/// A request to a token endpoint, to the byte.
struct Disguise {
    name: &'static str,
    bytes: Vec<u8>,
}

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
const JSON: &str = "Content-Type: application/json";

fn disguise(name: &'static str, line: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Disguise {
    let body = body.as_ref();
    let mut head = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    if !headers.iter().any(|header| header.starts_with("Transfer-Encoding")) {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    headers.iter().for_each(|header| head += &format!("{header}\r\n"));
    Disguise { name, bytes: [head.as_bytes(), b"\r\n", body].concat() }
}

/// The path in every spelling that some server takes for the token endpoint.
fn spelled_paths(token: &str) -> Vec<Disguise> {
    let paths = [
        "/token",
        "/TOKEN",
        "/Token",
        "/token/",
        "/token//",
        "//token",
        "/./token",
        "/token/.",
        "/x/../token",
        "/x/%2e%2e/token",
        "/x/..%2ftoken",
        "/%74oken",
        "/%74%6f%6B%65%6e",
        "/%2574oken",
        "/%252574oken",
        "/token;v=1",
        "/;v=1/token",
        "/token%20",
        "/%20token",
        "/token%2f",
        "/%2ftoken",
        "/token?x=1",
        "/token?",
        "/token/%2e",
        "/x/..;/token",
        "/x%5c..%5ctoken",
        "/%5ctoken",
        "/token%3bv=1",
        "http://localhost/token",
        "http://localhost//token",
        "/json/../token",
        "/json/%2e%2e/TOKEN",
        "/token/x/..",
    ];
    let body = format!("grant_type=refresh_token&refresh_token={token}&client_id=web");
    paths.map(|path| disguise("a path", &format!("POST {path}"), &[FORM], &body)).into()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Forms in every dress.
fn dressed_forms(token: &str, living: &str) -> Vec<Disguise> {
    let plain = format!("grant_type=refresh_token&refresh_token={token}");
    let spelled: String = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let form = |name, body: String| disguise(name, "POST /token", &[FORM], body);
    let typed = |name, media: &str| disguise(name, "POST /token", &[&*format!("Content-Type: {media}")], &plain);
    let chunk = format!("{:x};a=b\r\n{plain}\r\n0\r\n\r\n", plain.len());
    let halves = plain.split_at(plain.len() / 2);
    let chunks =
        format!("{:x}\r\n{}\r\n{:X}\r\n{}\r\n0\r\nX-T: 1\r\n\r\n", halves.0.len(), halves.0, halves.1.len(), halves.1);
    vec![
        form("every byte escaped", format!("grant_type=refresh_token&refresh_token={spelled}")),
        form("an escaped name", format!("grant_type=refresh_token&%72efresh%5ftoken={token}")),
        form("another case", format!("grant_type=refresh_token&Refresh_Token={token}")),
        form("an array", format!("grant_type=refresh_token&refresh_token[]={token}")),
        form("an escaped array", format!("grant_type=refresh_token&refresh_token%5B%5D={token}")),
        form("a blank before the name", format!("grant_type=refresh_token&+refresh_token={token}")),
        form("blanks around the value", format!("grant_type=refresh_token&refresh_token=+{token}%20")),
        form("a line feed behind the value", format!("grant_type=refresh_token&refresh_token={token}%0a")),
        form("after a living one", format!("refresh_token={living}&refresh_token={token}")),
        form("before a living one", format!("refresh_token={token}&refresh_token={living}")),
        form("after a semicolon", format!("a=b;refresh_token={token}")),
        form("after a living one and a semicolon", format!("refresh_token={living};refresh_token={token}")),
        form("another grant", format!("grant_type=password&refresh_token={token}")),
        form("no grant", format!("refresh_token={token}")),
        form("JSON all the same", json!({ "refresh_token": token }).to_string()),
        form("a byte-order mark", format!("\u{feff}refresh_token={token}&refresh_token={token}")),
        disguise("UTF-16", "POST /token", &[FORM], utf16(&plain)),
        typed("a charset", "application/x-www-form-urlencoded; charset=utf-8"),
        typed("another case of the type", "APPLICATION/X-WWW-FORM-URLENCODED"),
        typed("another charset", "application/x-www-form-urlencoded; charset=utf-16"),
        typed("two types in one", "application/x-www-form-urlencoded, application/json"),
        typed("plain text", "text/plain"),
        typed("JSON by its type", "application/json"),
        typed("an empty type", ""),
        disguise("no type", "POST /token", &[], &plain),
        disguise("two types", "POST /token", &[FORM, JSON], &plain),
        disguise("no coding", "POST /token", &[FORM, "Content-Encoding: identity"], &plain),
        disguise("one chunk", "POST /token", &[FORM, "Transfer-Encoding: chunked"], chunk),
        disguise("chunks and a trailer", "POST /token", &[FORM, "Transfer-Encoding: chunked"], chunks),
        disguise("waiting for leave", "POST /token", &[FORM, "Expect: 100-continue"], &plain),
        disguise("another method by header", "POST /token", &[FORM, "X-HTTP-Method-Override: GET"], &plain),
        disguise("PUT", "PUT /token", &[FORM], &plain),
        disguise("GET", &format!("GET /token?{plain}"), &[], ""),
        disguise("in the query", &format!("POST /token?refresh_token={token}"), &[FORM], ""),
        disguise(
            "in the query, beside a living one",
            &format!("POST /token?refresh_token={token}"),
            &[FORM],
            format!("refresh_token={living}"),
        ),
        disguise("in the query, escaped", &format!("POST /token?Refresh%5Ftoken={token}"), &[FORM], "a=b"),
    ]
}

/// JSON and multipart in every dress.
fn dressed_documents(token: &str, living: &str) -> Vec<Disguise> {
    let plain = json!({ "refresh_token": token }).to_string();
    let json = |name, body: String| disguise(name, "POST /json/token", &[JSON], body);
    let typed = |name, media: &str| disguise(name, "POST /json/token", &[&*format!("Content-Type: {media}")], &plain);
    let parts = format!("--b\r\nContent-Disposition: form-data; name=\"refresh_token\"\r\n\r\n{token}\r\n--b--\r\n");
    let spelled: String = token.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    vec![
        json("plain", plain.clone()),
        json("escaped", format!("{{\"refresh_token\":\"{spelled}\"}}")),
        json("an escaped name", format!("{{\"\\u0072efresh\\u005Ftoken\":\"{token}\"}}")),
        json("another case", json!({ "Refresh_Token": token }).to_string()),
        json("blanks", format!(" \r\n\t{{ \"refresh_token\" : \" {token} \" }} \n")),
        json("after a living one", format!("{{\"refresh_token\":\"{living}\",\"refresh_token\":\"{token}\"}}")),
        json("before a living one", format!("{{\"refresh_token\":\"{token}\",\"refresh_token\":\"{living}\"}}")),
        json("in an array", json!({ "refresh_token": [token] }).to_string()),
        json("a byte-order mark", format!("\u{feff}{plain}")),
        json("a form all the same", format!("refresh_token={token}")),
        disguise("UTF-16", "POST /json/token", &[JSON], utf16(&plain)),
        disguise("UTF-16 with its mark", "POST /json/token", &[JSON], [b"\xff\xfe".to_vec(), utf16(&plain)].concat()),
        typed("a charset", "application/json; charset=utf-8"),
        typed("another charset", "application/json; charset=utf-16"),
        typed("another type", "application/scim+json"),
        typed("a form by its type", "application/x-www-form-urlencoded"),
        disguise("no type", "POST /json/token", &[], &plain),
        disguise("parts", "POST /token", &["Content-Type: multipart/form-data; boundary=b"], &parts),
        disguise("parts for JSON", "POST /json/token", &["Content-Type: multipart/form-data; boundary=b"], &parts),
        disguise("JSON to the form's endpoint", "POST /token", &[JSON], &plain),
        disguise("a form to the JSON endpoint", "POST /json/token", &[FORM], format!("refresh_token={token}")),
    ]
}

fn disguises(token: &str, living: &str) -> Vec<Disguise> {
    [spelled_paths(token), dressed_forms(token, living), dressed_documents(token, living)]
        .into_iter()
        .flatten()
        .collect()
}

/// The first status of the answer; 0 when there was none.
async fn status(at: SocketAddr, disguise: &Disguise) -> u16 {
    statuses(&exchange(at, &disguise.bytes).await).into_iter().find(|status| *status >= 200).unwrap_or(0)
}

/// Every disguise works at the service itself with a living token, so that each is worth a try; none works at the gateway
/// with a dead one.
#[tokio::test]
async fn no_disguise_brings_a_dead_refresh_token_past_the_gate() {
    for make in [Make::Opaque, Make::Jwt(json!({}))] {
        let front = Front::start(Manner { refresh: make, rotation: Rotation::Kept, ..Manner::default() }, "").await;
        let (dead, living) = (front.login("alice").await, front.login("bob").await);
        for disguise in disguises(&living.refresh, &living.refresh) {
            assert_eq!(status(front.service.address(), &disguise).await, 200, "{}", shown(&disguise));
        }
        front
            .rig
            .admin
            .revoke(json!({"issuer": "main", "session": front.sessions("alice@example.com").await[0]}))
            .await;
        let before = front.service.presented(&dead.refresh);
        for disguise in disguises(&dead.refresh, &living.refresh) {
            let status = status(front.proxy(), &disguise).await;
            assert!((400..500).contains(&status), "{status} {}", shown(&disguise));
            assert_eq!(front.service.presented(&dead.refresh), before, "{}", shown(&disguise));
        }
        assert!(front.renews(&living.refresh).await);
    }
}

fn shown(disguise: &Disguise) -> String {
    format!("{}:\n{}", disguise.name, String::from_utf8_lossy(&disguise.bytes))
}

/// A JWT has one meaning and many spellings, since servers read signatures leniently.
#[tokio::test]
async fn no_spelling_of_a_dead_jwt_passes() {
    let manner = Manner { refresh: Make::Jwt(json!({})), rotation: Rotation::Kept, ..Manner::default() };
    let front = Front::start(manner, "").await;
    let alice = front.login("alice").await;
    let (signed, signature) = alice.refresh.rsplit_once('.').unwrap();
    let spellings = [
        format!("{signed}.{signature}="),
        format!("{signed}.{signature}=="),
        format!("{signed}.{}", b64([7; 64])),
        format!("{signed}.{}!!!!", &signature[..40]),
        format!("{signed}.{}", signature.replace(['-', '_'], "+")),
        format!("{signed}."),
        format!("{signed}.{signature}A"),
        format!("{signed}.{}", &signature[..signature.len() - 1]),
    ];
    for spelling in &spellings {
        let answer = ask(front.service.address(), refresh("/token", spelling, "web")).await;
        assert_eq!(answer.status, 200, "the service reads it: {spelling}");
    }
    front.rig.admin.call("DELETE", &format!("/v1/sessions/{}", alice.session), None).await;
    let before = front.service.presented(&alice.refresh);
    for spelling in spellings.iter().chain([&alice.refresh]) {
        assert!(is_dead(&front.refresh(spelling).await), "{spelling}");
    }
    assert_eq!(front.service.presented(&alice.refresh), before);
}
