//! Answers of token endpoints: what each kind of server teaches.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::gateway::token_endpoint::head::MediaType;
use crate::gateway::token_endpoint::{Preset, request};

fn endpoint(preset: Preset) -> TokenEndpoint {
    preset.endpoint("https://i".into(), "main".into(), "/token".parse().unwrap())
}

fn jwt(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(&json!({ "alg": "HS256" })), part(claims))
}

fn said(preset: Preset, form: &str) -> TokenRequest {
    let endpoint = TokenEndpoint { refresh_token: vec!["form:refresh_token".parse().unwrap()], ..endpoint(preset) };
    request::read(&endpoint, MediaType::Form, form.as_bytes()).unwrap()
}

fn taught(preset: Preset, form: &str, reply: &Value) -> Result<Option<Taught>, ReplyFault> {
    learn(&endpoint(preset), &said(preset, form), reply.to_string().as_bytes())
}

fn lesson(preset: Preset, form: &str, reply: &Value) -> Taught {
    taught(preset, form, reply).unwrap().unwrap()
}

fn token(text: Option<&BearerToken>) -> Option<&str> {
    text.map(BearerToken::expose)
}

#[test]
fn an_openid_provider_tells_in_its_tokens() {
    let access = jwt(&json!({ "sub": "u1", "sid": "s1", "azp": "app", "preferred_username": "alice" }));
    let reply =
        json!({ "access_token": access, "refresh_token": "opaque", "expires_in": 300, "refresh_expires_in": "1800" });
    let taught = lesson(Preset::OAuth2, "grant_type=authorization_code&code=x", &reply);
    assert_eq!(token(taught.access_token.as_ref()), Some(access.as_str()));
    assert_eq!(token(taught.refresh_token.as_ref()), Some("opaque"));
    assert_eq!((taught.session.as_deref(), taught.user.as_deref()), (Some("s1"), Some("u1")));
    assert_eq!((taught.username.as_deref(), taught.client.as_deref()), (Some("alice"), Some("app")));
    assert_eq!((taught.expires_in_secs, taught.refresh_expires_in_secs), (Some(300), Some(1800)));
    let from_id = json!({ "access_token": "a", "id_token": jwt(&json!({ "sub": "u2", "sid": "s2" })) });
    let taught = lesson(Preset::OAuth2, "", &from_id);
    assert_eq!((taught.session.as_deref(), taught.user.as_deref()), (Some("s2"), Some("u2")));
    let told = lesson(Preset::OAuth2, "", &json!({ "access_token": "a", "session_state": "s3" }));
    assert_eq!(told.session.as_deref(), Some("s3"));
}

#[test]
fn bluesky_tells_the_session_in_the_refresh_token_and_the_name_in_the_access_token() {
    let access = jwt(&json!({ "sub": "abc", "ids": [{ "id": "bob", "idp": "toy" }], "type": "access" }));
    let refresh = jwt(&json!({ "sid": "def", "type": "refresh" }));
    let reply = json!({
        "access_token": access, "refresh_token": refresh, "expires_in": 900.0, "refresh_token_expires_in": 604_800.9,
    });
    let taught = lesson(Preset::Bluesky, "username=bob&password=x", &reply);
    assert_eq!((taught.session.as_deref(), taught.user.as_deref()), (Some("def"), Some("abc")));
    assert_eq!((taught.username.as_deref(), taught.domain.as_deref()), (Some("bob"), Some("toy")));
    assert_eq!((taught.expires_in_secs, taught.refresh_expires_in_secs), (Some(900), Some(604_800)));
}

#[test]
fn elasticsearch_tells_of_the_user_beside_the_tokens_or_not_at_all() {
    let access = STANDARD.encode([7; 28]);
    let authentication = json!({ "username": "kim", "authentication_realm": { "name": "native1", "type": "native" } });
    let reply = json!({ "access_token": access, "expires_in": 1200, "authentication": authentication });
    let taught = lesson(Preset::Elasticsearch, "grant_type=_kerberos", &reply);
    assert_eq!((taught.username.as_deref(), taught.domain.as_deref()), (Some("kim"), Some("native1")));
    let bare = json!({ "access_token": access, "refresh_token": STANDARD.encode([8; 28]) });
    let taught = lesson(Preset::Elasticsearch, "grant_type=password&username=lee", &bare);
    assert_eq!((taught.user.as_deref(), taught.session), (Some("lee"), None));
}

#[test]
fn privx_pads_its_tokens() {
    let claims = json!({ "sessionid": "s", "userid": "u", "domain": "privx-ui" }).to_string();
    let access = format!("{}.{}.{}", URL_SAFE.encode("{}x"), URL_SAFE.encode(claims), URL_SAFE.encode("sign"));
    let reply = json!({ "access_token": access, "refresh_token": "ABCDEF", "expires_in": 300 });
    let taught = lesson(Preset::PrivX, "grant_type=password&username=api", &reply);
    assert_eq!((taught.session.as_deref(), taught.user.as_deref()), (Some("s"), Some("u")));
    assert_eq!((taught.username.as_deref(), taught.domain.as_deref()), (Some("api"), Some("privx-ui")));
}

#[test]
fn a_name_in_the_request_counts_only_where_the_upstream_checked_it() {
    let reply = json!({ "access_token": "a", "refresh_token": "b" });
    let username = |form: &str| lesson(Preset::OAuth2, form, &reply).username;
    assert_eq!(username("grant_type=password&username=alice").as_deref(), Some("alice"));
    for form in [
        "grant_type=refresh_token&refresh_token=a&username=alice",
        "refresh_token=a&username=alice",
        "grant_type=client_credentials&username=alice",
        "grant_type=password&subject_token=a&username=alice",
    ] {
        assert_eq!(username(form), None, "{form}");
    }
    let client = lesson(Preset::OAuth2, "grant_type=authorization_code&client_id=app", &reply).client;
    assert_eq!(client.as_deref(), Some("app"));
}

#[test]
fn an_answer_without_tokens_teaches_nothing() {
    for reply in
        [json!({}), json!({ "access_token": null, "refresh_token": "" }), json!({ "ok": true, "id_token": "x" })]
    {
        assert_eq!(taught(Preset::OAuth2, "", &reply), Ok(None), "{reply}");
    }
}

#[test]
fn what_cannot_be_learned_is_not_handed_out() {
    let request = said(Preset::OAuth2, "");
    for body in ["", "access_token=a", "[]", "{\"access_token\":\"a\",\"access_token\":\"b\"}", "{} {}"] {
        assert_eq!(learn(&endpoint(Preset::OAuth2), &request, body.as_bytes()), Err(ReplyFault::Json), "{body}");
    }
    for reply in [
        json!({ "access_token": 1 }),
        json!({ "access_token": ["a"] }),
        json!({ "access_token": "a b" }),
        json!({ "refresh_token": "é" }),
        json!({ "refresh_token": "e30.e30.AB" }),
        json!({ "refresh_token": "x".repeat(16 * 1024 + 1) }),
    ] {
        assert_eq!(taught(Preset::OAuth2, "", &reply), Err(ReplyFault::Token), "{reply}");
    }
    for session in ["x".repeat(1025), "a\0".to_owned()] {
        let reply = json!({ "access_token": "a", "sid": session });
        assert_eq!(taught(Preset::OAuth2, "", &reply), Err(ReplyFault::Name));
    }
}

#[test]
fn names_are_kept_as_they_are() {
    let session = |sid: Value| lesson(Preset::OAuth2, "", &json!({ "access_token": "a", "sid": sid })).session;
    assert_eq!(session(json!(" S ")).as_deref(), Some(" S "));
    assert_eq!(session(json!(42)).as_deref(), Some("42"));
    for nothing in [json!(""), json!(null), json!(1.5), json!({}), json!(true)] {
        assert_eq!(session(nothing.clone()), None, "{nothing}");
    }
}

#[test]
fn a_lifetime_is_a_sane_number_of_seconds() {
    let secs =
        |value: Value| lesson(Preset::OAuth2, "", &json!({ "access_token": "a", "expires_in": value })).expires_in_secs;
    for (value, expected) in [(json!(0), 0), (json!(900.0), 900), (json!(899.99), 899), (json!("900"), 900)] {
        assert_eq!(secs(value.clone()), Some(expected), "{value}");
    }
    for value in
        [json!(-1), json!(-0.5), json!(1e300), json!("1e3"), json!(""), json!("-1"), json!(u64::MAX), json!([1])]
    {
        assert_eq!(secs(value.clone()), None, "{value}");
    }
}

#[test]
fn no_token_is_shown() {
    let shown =
        format!("{:?}", lesson(Preset::OAuth2, "", &json!({ "access_token": "tok3n", "refresh_token": "r3fresh" })));
    assert!(!shown.contains("tok3n") && !shown.contains("r3fresh"), "{shown}");
}

proptest! {
    #[test]
    fn any_bytes_teach_or_are_refused(body in prop::collection::vec(any::<u8>(), 0..256)) {
        for preset in Preset::ALL {
            let _ = learn(&endpoint(preset), &said(preset, "username=a"), &body);
        }
    }

    #[test]
    fn any_claims_teach_or_are_refused(payload in "\\PC{0,60}", sid in "\\PC{0,20}") {
        let text = format!("e30.{}.AA", URL_SAFE_NO_PAD.encode(&payload));
        let _ = taught(Preset::OAuth2, "", &json!({ "access_token": text }));
        let claims = jwt(&json!({ "sid": sid }));
        let session = lesson(Preset::OAuth2, "", &json!({ "access_token": claims })).session;
        prop_assert_eq!(session.as_deref().unwrap_or_default(), sid.as_str());
    }
}
