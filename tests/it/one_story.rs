//! Four dialects and our own API about the very same login: whoever takes it back, all of them tell one story.
//!
//! One issuer serves all: its macaroons name a session whose id is a UUID, so that every dialect can name it in its own way.

use serde_json::{Value, json};

use crate::rig::onezone::{SECRET, mint};
use crate::rig::{AUDITOR, Answer, OPS, READER, REVOKER, Rig, get, now, within};

const ALL_FOUR: &str = "[[issuers]]\nname = 'zone'\nissuer = 'onezone.test'\npreset = 'onezone'\nsecret_file = '{secret}'\n\
    [dialects.elasticsearch]\nissuer = 'zone'\n[dialects.privx]\nissuer = 'zone'\n\
    [dialects.onezone]\nissuer = 'zone'\n[dialects.bluesky]\nissuer = 'zone'\n\
    [[routes]]\npath = '/zone'\nupstreams = ['{upstream}']\nissuers = ['zone']\n";

const STORAGE: &str = "/auth/api/v1/sessionstorage";

/// One user, logged in once.
struct Login {
    user: String,
    session: String,
    token: String,
}

struct Story(Rig);

impl Story {
    async fn start() -> Self {
        let builder = Rig::builder().await;
        let secret = builder.folder().write("secret", SECRET);
        Self(builder.word("secret", secret.display()).config(ALL_FOUR).start().await)
    }

    /// A login that has been used, and is known to the inventory.
    async fn login(&self, at: u8) -> Login {
        let (user, session) = (format!("user{at}"), format!("{at:032x}"));
        let identifier = format!("2/tmp-1/usr-{user}/act:{session}/token{at}");
        let token = mint(SECRET, &identifier, &[&format!("time < {}", now() + 600)]);
        let login = Login { user, session, token };
        assert!(self.passes(&login).await, "a live token");
        within("the login to be learned", async { while !self.is_listed(&login).await {} }).await;
        login
    }

    async fn passes(&self, login: &Login) -> bool {
        let answer = self.0.send(get("/zone", &login.token)).await;
        assert!(matches!(answer.status, 200 | 401), "{} {}", answer.status, answer.text());
        answer.status == 200
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.0.admin.by(REVOKER).call(method, path, body.as_ref()).await
    }

    /// What PrivX's list shows.
    async fn is_listed(&self, login: &Login) -> bool {
        let sought = json!({ "user_id": login.user });
        let answer = self.0.admin.by(READER).call("POST", &format!("{STORAGE}/sessions/search"), Some(&sought)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let found = answer.json();
        found["items"].as_array().unwrap().iter().any(|item| item["id"] == *login.session)
    }

    /// What our own API shows of the session, and of the token in it.
    async fn shown(&self, login: &Login) -> (Value, Value) {
        let shown = self.0.admin.by(READER).get(&format!("/v1/sessions/{}?issuer=zone", login.session)).await;
        (shown["state"].clone(), shown["tokens"][0]["state"].clone())
    }

    /// How Elasticsearch's dialect counts the token when it is to be invalidated.
    async fn counts(&self, login: &Login) -> (Value, Value) {
        let body = json!({ "token": login.token });
        let answer = self.ask("DELETE", "/_security/oauth2/token", Some(body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let counts = answer.json();
        (counts["invalidated_tokens"].clone(), counts["previously_invalidated_tokens"].clone())
    }

    /// Revokes the session as bluesky's client does.
    async fn revoke_as_bluesky(&self, login: &Login) {
        let dashed = format!("{}-{}-{}", &login.session[..8], &login.session[8..12], &login.session[12..]);
        let answer = self.ask("DELETE", &format!("/api/auth/session/revoke/{dashed}"), Some(json!({}))).await;
        assert_eq!((answer.status, answer.json()), (200, json!({"success": true, "msg": ""})));
    }

    /// What Onezone's dialect says the user's temporary tokens have come to.
    async fn generation(&self, login: &Login) -> Value {
        let path = format!("/api/v3/onezone/users/{}/tokens/temporary", login.user);
        let answer = self.0.admin.call("GET", &path, None).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["generation"].clone()
    }

    /// The login is over, whoever is asked.
    async fn is_over(&self, login: &Login, by: &str) {
        assert!(!self.passes(login).await, "{by}: the proxy");
        assert_eq!(self.shown(login).await, (json!("revoked"), json!("revoked")), "{by}: /v1");
        assert!(!self.is_listed(login).await, "{by}: PrivX's list");
        assert_eq!(self.0.admin.check(&login.token).await["reason"], "revoked", "{by}: /v1/check");
        assert_eq!(self.counts(login).await, (json!(0), json!(1)), "{by}: Elasticsearch's counts");
        self.revoke_as_bluesky(login).await;
    }
}

#[tokio::test]
async fn a_session_that_one_takes_back_is_over_for_all() {
    let story = Story::start().await;
    let terminate = |login: &Login| format!("{STORAGE}/sessions/{}/terminate", login.session);
    let terminate_all = |login: &Login| format!("{STORAGE}/users/{}/sessions/terminate", login.user);
    let own = |login: &Login| format!("/v1/sessions/{}?issuer=zone", login.session);
    let neighbour = story.login(9).await;

    let login = story.login(1).await;
    assert_eq!(story.ask("DELETE", &own(&login), None).await.status, 201);
    story.is_over(&login, "/v1").await;

    let login = story.login(2).await;
    let answer = story.ask("POST", &terminate(&login), None).await;
    assert_eq!((answer.status, answer.text().len()), (200, 0));
    story.is_over(&login, "PrivX").await;
    assert_eq!(story.ask("POST", &terminate(&login), None).await.status, 200, "again, and nothing more");

    let login = story.login(3).await;
    assert_eq!(story.ask("POST", &terminate_all(&login), None).await.status, 200);
    story.is_over(&login, "PrivX, all of a user").await;

    let login = story.login(4).await;
    story.revoke_as_bluesky(&login).await;
    story.is_over(&login, "Bluesky").await;

    assert!(story.passes(&neighbour).await && story.is_listed(&neighbour).await);
    let trail = story.0.admin.by(AUDITOR).get("/v1/audit?limit=100").await;
    let revoked = trail["items"].as_array().unwrap().iter().filter(|record| record["action"] == "revoke");
    assert!(revoked.clone().count() >= 4 && revoked.clone().all(|record| record["actor"] == "revoker"), "{trail}");
}

#[tokio::test]
async fn a_token_that_one_takes_back_is_dead_for_all_and_its_session_goes_on() {
    let story = Story::start().await;
    let login = story.login(1).await;
    assert_eq!(story.counts(&login).await, (json!(1), json!(0)), "by Elasticsearch's dialect");
    assert!(!story.passes(&login).await);
    assert_eq!(story.shown(&login).await, (json!("active"), json!("revoked")));
    assert!(story.is_listed(&login).await, "the session itself was not taken back");

    let login = story.login(2).await;
    assert_eq!(story.generation(&login).await, 1);
    let path = format!("/api/v3/onezone/users/{}/tokens/temporary", login.user);
    let by = story.0.admin.by(OPS);
    assert_eq!(by.call("DELETE", &path, None).await.status, 204, "by Onezone's dialect");
    assert_eq!(story.generation(&login).await, 2);
    assert!(!story.passes(&login).await);
    assert_eq!(story.shown(&login).await, (json!("active"), json!("revoked")));
    assert_eq!(story.counts(&login).await, (json!(0), json!(1)));
    let next = format!("2/tmp-2/usr-{}/act:{}/next", login.user, login.session);
    let next = Login { token: mint(SECRET, &next, &[&format!("time < {}", now() + 600)]), ..login };
    assert!(story.passes(&next).await, "a token of the next generation, in the same session");
}
