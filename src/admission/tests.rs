//! Where tokens are found, where they are not, and what is decided about them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, SEC_WEBSOCKET_PROTOCOL};
use proptest::prelude::*;

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::domain::{
    BearerToken, Change, Cutoff, Memo, Name, Position, Reach, Revocation, RevocationId, Selector, TokenDigest,
    TokenKind,
};
use crate::index::Progress;
use crate::net::client::{Answer, CallError};
use crate::telemetry::Metrics;
use crate::verify::{self, Fetch, IssuerSettings, Verification};

fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name, value.parse().unwrap());
    }
    headers
}

fn policy(auth: Auth, places: &[&str]) -> Policy {
    Policy { auth, places: places.iter().map(|place| place.parse().unwrap()).collect(), ..Policy::default() }
}

fn extract(places: &[&str], fields: &[(HeaderName, &str)]) -> Result<Option<String>, Stop> {
    let found = credential::extract(&headers(fields), None, &policy(Auth::Optional, places));
    found.map(|shown| shown.map(text_of))
}

/// A token's text, or username and password with a colon between.
fn text_of(shown: Credential) -> String {
    match shown {
        Credential::Token { token, .. } => token.expose().to_owned(),
        Credential::Password(UserPassword { username, password }) => format!("{username}:{}", password.expose()),
    }
}

fn found(token: &str) -> Result<Option<String>, Stop> {
    Ok(Some(token.to_owned()))
}

fn is_ambiguous(result: &Result<Option<String>, Stop>) -> bool {
    matches!(result, Err(Stop::Ambiguous(_)))
}

const MALFORMED: Stop = Stop::Denied(Denial::Malformed);

#[test]
fn bearer_is_read_in_any_case_and_with_any_number_of_spaces() {
    for field in ["Bearer a.b.c", "bearer a.b.c", "BEARER a.b.c", "Bearer   a.b.c"] {
        assert_eq!(extract(&["bearer"], &[(AUTHORIZATION, field)]), found("a.b.c"), "{field}");
    }
}

#[test]
fn another_scheme_is_no_token() {
    for field in ["Basic YTpi", "Bearers x", "Negotiate", "Digest realm=\"a\", nonce=\"b\"", "", "B"] {
        assert_eq!(extract(&["bearer"], &[(AUTHORIZATION, field)]), Ok(None), "{field}");
    }
}

#[test]
fn a_malformed_credential_is_a_bad_one_and_not_none() {
    for field in ["Bearer", "Bearer ", "Bearer\ta", "Bearer \ta", "Bearer=a", "Bearer a b", "Bearer:a", "bearer\"a\""] {
        assert_eq!(extract(&["bearer"], &[(AUTHORIZATION, field)]), Err(MALFORMED), "{field:?}");
    }
    let long = format!("Bearer {}", "a".repeat(BearerToken::MAX_BYTES + 1));
    assert_eq!(extract(&["bearer"], &[(AUTHORIZATION, &long)]), Err(MALFORMED));
    let latin =
        HeaderMap::from_iter([(AUTHORIZATION, hyper::header::HeaderValue::from_bytes(b"Bearer \xe4").unwrap())]);
    assert!(credential::extract(&latin, None, &policy(Auth::Optional, &["bearer"])).is_err());
}

#[test]
fn an_api_key_is_a_kind_of_its_own_and_one_credential_among_others() {
    let keys = ["scheme:ApiKey", "header:x-api-key", "cookie:key"];
    let api_keys = keys.iter().map(|place| place.parse().unwrap()).collect();
    let policy = Policy { api_keys, ..policy(Auth::Optional, &["bearer"]) };
    let kind = |fields: &[(HeaderName, &str)]| {
        let kind = |shown| match shown {
            Credential::Token { kind, .. } => kind,
            Credential::Password(_) => panic!("nobody asked for passwords"),
        };
        credential::extract(&headers(fields), None, &policy).map(|shown| shown.map(kind))
    };
    let header = HeaderName::from_static("x-api-key");
    assert_eq!(kind(&[(AUTHORIZATION, "apikey 0a1b")]), Ok(Some(TokenKind::ApiKey)));
    assert_eq!(kind(&[(header.clone(), "0a1b")]), Ok(Some(TokenKind::ApiKey)));
    assert_eq!(kind(&[(COOKIE, "key=0a1b")]), Ok(Some(TokenKind::ApiKey)));
    assert_eq!(kind(&[(AUTHORIZATION, "Bearer 0a1b")]), Ok(Some(TokenKind::Access)));
    for two in [
        [(AUTHORIZATION, "Bearer a"), (header.clone(), "a")],
        [(AUTHORIZATION, "ApiKey a"), (COOKIE, "key=a")],
        [(COOKIE, "key=a"), (header, "b")],
    ] {
        assert!(matches!(kind(&two), Err(Stop::Ambiguous(_))), "{two:?}");
    }
}

#[test]
fn a_session_password_is_read_from_basic_where_the_route_takes_it() {
    let places = ["bearer", "session-password", "cookie:sid"];
    for field in ["Basic YW5uOnM6Mw==", "bASIC   YW5uOnM6Mw=="] {
        assert_eq!(extract(&places, &[(AUTHORIZATION, field)]), found("ann:s:3"), "{field}");
    }
    assert_eq!(extract(&places, &[(AUTHORIZATION, "Bearer a.b.c")]), found("a.b.c"));
    assert_eq!(extract(&["bearer"], &[(AUTHORIZATION, "Basic YW5uOnM6Mw==")]), Ok(None), "nobody asked for it");
    for field in
        ["Basic", "Basic ", "Basic YW5u", "Basic YW5uOnM6Mw", "Basic YW5uOnM6Mw== ", "Basic\tYTpi", "Basic \u{f1}"]
    {
        assert_eq!(extract(&places, &[(AUTHORIZATION, field)]), Err(MALFORMED), "{field:?}");
    }
    for two in [
        vec![(AUTHORIZATION, "Basic YTpi"), (AUTHORIZATION, "Basic YTpi")],
        vec![(AUTHORIZATION, "Basic YTpi, Basic YTpi")],
        vec![(AUTHORIZATION, "Basic YTpi, Bearer a")],
        vec![(AUTHORIZATION, "Bearer a, Basic YTpi")],
        vec![(AUTHORIZATION, "Basic YTpi"), (COOKIE, "sid=a")],
    ] {
        assert!(is_ambiguous(&extract(&places, &two)), "{two:?}");
    }
}

#[test]
fn two_authorizations_are_ambiguous_whatever_they_are() {
    let two = [
        vec![(AUTHORIZATION, "Bearer a"), (AUTHORIZATION, "Bearer a")],
        vec![(AUTHORIZATION, "Basic a"), (AUTHORIZATION, "Bearer a")],
        vec![(AUTHORIZATION, "Basic a"), (AUTHORIZATION, "Basic b")],
        vec![(AUTHORIZATION, "Bearer a, Bearer b")],
        vec![(AUTHORIZATION, "Bearer a,b")],
        vec![(AUTHORIZATION, "Basic a, bearer b")],
        vec![(AUTHORIZATION, "Basic a,Bearer")],
    ];
    for fields in two {
        assert!(is_ambiguous(&extract(&["bearer"], &fields)), "{fields:?}");
        if fields.len() == 2 {
            assert!(is_ambiguous(&extract(&["cookie:sid"], &fields)), "{fields:?}");
        }
    }
}

#[test]
fn tokens_in_two_places_are_ambiguous_even_if_they_are_the_same() {
    let places = ["bearer", "cookie:sid", "header:x-token", "websocket-protocol"];
    let fields = [
        (AUTHORIZATION, "Bearer a"),
        (COOKIE, "sid=a"),
        (HeaderName::from_static("x-token"), "a"),
        (SEC_WEBSOCKET_PROTOCOL, "bearer, a"),
    ];
    for one in 0..fields.len() {
        assert_eq!(extract(&places, &fields[one..=one]), found("a"));
        for other in one + 1..fields.len() {
            let both = [fields[one].clone(), fields[other].clone()];
            assert!(is_ambiguous(&extract(&places, &both)), "{both:?}");
        }
    }
}

#[test]
fn what_stands_elsewhere_is_not_looked_at() {
    let fields = [(AUTHORIZATION, "Bearer a"), (COOKIE, "sid=b"), (HeaderName::from_static("x-token"), "c")];
    assert_eq!(extract(&["bearer"], &fields), found("a"));
    assert_eq!(extract(&["cookie:sid"], &fields), found("b"));
    assert_eq!(extract(&["header:x-token"], &fields), found("c"));
    assert_eq!(extract(&["websocket-protocol"], &fields), Ok(None));
}

#[test]
fn a_cookie_is_found_among_others_and_in_split_fields() {
    for fields in [
        vec![(COOKIE, "a=1; sid=t; b=2")],
        vec![(COOKIE, "a=1"), (COOKIE, "sid=t")],
        vec![(COOKIE, "sid=\"t\"")],
        vec![(COOKIE, "SID=x;sid = t")],
    ] {
        assert_eq!(extract(&["cookie:sid"], &fields), found("t"), "{fields:?}");
    }
    for fields in
        [vec![(COOKIE, "sid=t; sid=u")], vec![(COOKIE, "sid=t"), (COOKIE, "sid=t")], vec![(COOKIE, "sid=;sid=t")]]
    {
        assert!(is_ambiguous(&extract(&["cookie:sid"], &fields)), "{fields:?}");
    }
    for field in ["sid=", "sid", "sid=\"\"", "xsid=t", "a=sid=t"] {
        assert_eq!(extract(&["cookie:sid"], &[(COOKIE, field)]), Ok(None), "{field}");
    }
    assert_eq!(extract(&["cookie:sid"], &[(COOKIE, "sid=a b")]), Err(MALFORMED));
}

#[test]
fn a_header_may_say_bearer() {
    let name = HeaderName::from_static("x-token");
    for value in ["t", "Bearer t", "bearer  t"] {
        assert_eq!(extract(&["header:X-Token"], &[(name.clone(), value)]), found("t"), "{value}");
    }
    assert_eq!(extract(&["header:x-token"], &[(name.clone(), "")]), Ok(None));
    assert!(is_ambiguous(&extract(&["header:x-token"], &[(name.clone(), "t"), (name.clone(), "t")])));
    assert!(is_ambiguous(&extract(&["header:x-token"], &[(name, "t, u")])));
}

#[test]
fn a_websocket_handshake_carries_its_token_as_a_subprotocol() {
    for value in [
        "base64url.bearer.authorization.k8s.io.YS5iLmM, chat",
        "chat, base64url.bearer.authorization.YS5iLmM",
        "bearer, a.b.c",
        "chat,Bearer,a.b.c",
    ] {
        assert_eq!(extract(&["websocket-protocol"], &[(SEC_WEBSOCKET_PROTOCOL, value)]), found("a.b.c"), "{value}");
    }
    let split = [(SEC_WEBSOCKET_PROTOCOL, "bearer"), (SEC_WEBSOCKET_PROTOCOL, "a.b.c")];
    assert_eq!(extract(&["websocket-protocol"], &split), found("a.b.c"));
    assert_eq!(extract(&["websocket-protocol"], &[(SEC_WEBSOCKET_PROTOCOL, "chat")]), Ok(None));
    for value in ["bearer, a, bearer, b", "bearer, a, base64url.bearer.authorization.YQ"] {
        assert!(is_ambiguous(&extract(&["websocket-protocol"], &[(SEC_WEBSOCKET_PROTOCOL, value)])), "{value}");
    }
    for value in ["bearer", "bearer,", "base64url.bearer.authorization.YQ==", "base64url.bearer.authorization.k8s.io."]
    {
        assert_eq!(extract(&["websocket-protocol"], &[(SEC_WEBSOCKET_PROTOCOL, value)]), Err(MALFORMED), "{value}");
    }
}

fn from_query(query: &str, wanted: Option<&str>) -> Result<Option<String>, Stop> {
    let policy = Policy { query_token: wanted.map(Into::into), ..policy(Auth::Optional, &["bearer"]) };
    let found = credential::extract(&HeaderMap::new(), Some(query), &policy);
    found.map(|shown| shown.map(text_of))
}

#[test]
fn a_token_in_the_query_is_refused_unless_the_route_asks_for_it() {
    for query in [
        "access_token=t",
        "a=1&access_token=t",
        "access%5ftoken=t",
        "%61ccess_token=",
        "ACCESS_TOKEN=t",
        "a;access_token=t",
    ] {
        assert!(is_ambiguous(&from_query(query, None)), "{query}");
        assert!(is_ambiguous(&from_query(query, Some("token"))), "{query}");
    }
    for query in ["", "a=access_token", "xaccess_token=t", "access=t", "%zz=1&%", "&&="] {
        assert_eq!(from_query(query, None), Ok(None), "{query}");
    }
    assert_eq!(from_query("a=1&access_token=a%2Eb.c", Some("access_token")), found("a.b.c"));
    assert_eq!(from_query("token=t", Some("token")), found("t"));
    assert!(is_ambiguous(&from_query("token=t&token=t", Some("token"))));
    assert_eq!(from_query("token=", Some("token")), Err(MALFORMED));
}

#[test]
fn a_token_in_the_query_and_one_in_a_header_are_ambiguous() {
    let policy = Policy { query_token: Some("access_token".into()), ..Policy::default() };
    let both = credential::extract(&headers(&[(AUTHORIZATION, "Bearer a")]), Some("access_token=a"), &policy);
    assert!(matches!(both, Err(Stop::Ambiguous(_))));
}

/// What a route finds that takes API keys as bluesky-httpserver does.
fn key_of(query: &str, fields: &[(HeaderName, &str)]) -> Result<Option<(String, TokenKind)>, Stop> {
    let api_keys = ["query:api_key", "scheme:ApiKey", "cookie:key"].map(|place| place.parse().unwrap()).to_vec();
    let policy = Policy { api_keys, ..policy(Auth::Optional, &["bearer"]) };
    let shown = credential::extract(&headers(fields), Some(query), &policy)?;
    Ok(shown.map(|shown| match shown {
        Credential::Token { kind, .. } => (text_of(shown), kind),
        Credential::Password(_) => panic!("no password"),
    }))
}

#[test]
fn an_api_key_may_stand_in_the_query_where_the_route_says_so() {
    let key = |text: &str| Ok(Some((text.to_owned(), TokenKind::ApiKey)));
    for query in ["api_key=00ff", "a=1&api%5fkey=00%66f", "a;api_key=00ff"] {
        assert_eq!(key_of(query, &[]), key("00ff"), "{query}");
    }
    for query in ["", "api_key=", "API_KEY=00ff", "xapi_key=00ff", "a=api_key"] {
        assert_eq!(key_of(query, &[]), Ok(None), "{query}");
    }
    assert_eq!(key_of("api_key=00+ff", &[]), Err(MALFORMED));
    assert_eq!(key_of("", &[(AUTHORIZATION, "ApiKey 00ff")]), key("00ff"));
    for query in ["api_key=00ff&api_key=00ff", "api_key=00ff&api_key=", "access_token=t"] {
        assert!(matches!(key_of(query, &[]), Err(Stop::Ambiguous(_))), "{query}");
    }
    for field in
        [(AUTHORIZATION, "ApiKey 00ff"), (AUTHORIZATION, "Bearer t"), (COOKIE, "key=00fe"), (COOKIE, "key=00FF")]
    {
        assert!(matches!(key_of("api_key=00ff", std::slice::from_ref(&field)), Err(Stop::Ambiguous(_))), "{field:?}");
    }
    assert_eq!(key_of("api_key=00ff", &[(COOKIE, "key=00ff")]), key("00ff"), "where the server itself puts it");
}

#[test]
fn a_route_says_whether_a_token_is_needed() {
    let none = HeaderMap::new();
    let extract = |auth| credential::extract(&none, None, &policy(auth, &["bearer"])).map(|token| token.is_some());
    assert_eq!(extract(Auth::Required), Err(Stop::Denied(Denial::Missing)));
    assert_eq!((extract(Auth::Optional), extract(Auth::None)), (Ok(false), Ok(false)));
    let two = headers(&[(AUTHORIZATION, "Bearer a"), (AUTHORIZATION, "Bearer b")]);
    let open = credential::extract(&two, Some("access_token=t"), &policy(Auth::None, &["bearer"]));
    assert!(matches!(open, Ok(None)), "an open route does not look");
}

#[test]
fn places_have_names() {
    for text in ["bearer", "cookie:sid", "header:x-token", "websocket-protocol", "session-password", "query:api_key"] {
        assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
    }
    for text in
        ["", "Bearer", "cookie", "cookie:", "cookie:a b", "header:", "header:authorization", "header:Cookie", "query:"]
    {
        assert!(text.parse::<Place>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn any_request_is_read_or_refused(fields in prop::collection::vec("[ -~\t]{0,40}", 0..4), query in "\\PC{0,60}") {
        let names = [AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL, HeaderName::from_static("x-token")];
        let mut headers = HeaderMap::new();
        for (name, value) in names.iter().cycle().zip(&fields) {
            headers.append(name, value.parse().unwrap());
        }
        let places = ["bearer", "cookie:sid", "header:x-token", "websocket-protocol", "session-password"];
        let _ = credential::extract(&headers, Some(&query), &policy(Auth::Required, &places));
        let api_keys = vec![Place::Query("a".into())];
        let _ = credential::extract(&headers, Some(&query), &Policy { api_keys, ..Policy::default() });
    }
}

fn verified(assurance: Assurance, scopes: &[&str]) -> Verified {
    let claims = Claims {
        issuer: "https://id.example.com/".into(),
        kind: TokenKind::Access,
        digest: TokenDigest::new([0; 32]),
        token_id: None,
        session: None,
        user: Some("alice".into()),
        username: None,
        client: None,
        key_id: None,
        issued_at: None,
        expires_at: Some(Timestamp::from_secs(100)),
        scopes: scopes.iter().map(|scope| (*scope).into()).collect(),
        other: Box::default(),
        family: None,
        twins: Box::default(),
        generation: None,
        memo: Memo::default(),
    };
    Verified::of(claims, assurance)
}

const BLIND: Stop = Stop::Blind("revocations are out of step");

fn decided(
    verified: Verified,
    revoked: bool,
    sight: Result<(), Stop>,
    scopes: &[&str],
    now: u64,
) -> Result<bool, Stop> {
    let scopes = scopes.iter().map(|scope| (*scope).into()).collect();
    let policy = Policy { scopes, ..Policy::default() };
    let admitted = decide(verified, revoked, sight, &policy, Timestamp::from_secs(now))?;
    assert!(admitted.claims().is_some());
    Ok(admitted.identity().is_some())
}

#[test]
fn a_revoked_token_is_denied_also_by_who_is_blind() {
    let token = || verified(Assurance::Vouched, &[]);
    assert_eq!(decided(token(), true, Ok(()), &[], 0), Err(Stop::Denied(Denial::Revoked)));
    assert_eq!(decided(token(), true, Err(BLIND), &[], 0), Err(Stop::Denied(Denial::Revoked)));
    assert_eq!(decided(token(), false, Err(BLIND), &[], 0), Err(BLIND));
    assert_eq!(decided(token(), false, Ok(()), &[], 0), Ok(true));
}

#[test]
fn a_token_that_expired_since_it_was_verified_is_denied() {
    let at = |now| decided(verified(Assurance::Vouched, &[]), false, Ok(()), &[], now);
    assert_eq!((at(99), at(100)), (Ok(true), Err(Stop::Denied(Denial::Expired))));
}

#[test]
fn every_scope_is_demanded_and_only_believed_ones_count() {
    let with = |assurance, scopes: &[&str]| decided(verified(assurance, scopes), false, Ok(()), &["read", "write"], 0);
    assert_eq!(with(Assurance::Vouched, &["write", "other", "read"]), Ok(true));
    for scopes in [&["read"][..], &[], &["READ", "write"], &["read write"]] {
        assert_eq!(with(Assurance::Vouched, scopes), Err(Stop::Denied(Denial::Scope)), "{scopes:?}");
    }
    assert_eq!(with(Assurance::Unchecked, &["read", "write"]), Err(Stop::Denied(Denial::Scope)));
}

#[test]
fn unchecked_claims_identify_nobody() {
    assert_eq!(decided(verified(Assurance::Unchecked, &[]), false, Ok(()), &[], 0), Ok(false));
}

#[test]
fn nobody_passes_where_no_token_is_needed() {
    let admit = |auth| admit_nobody(&policy(auth, &["bearer"])).map(|admitted| admitted.identity().is_some());
    assert_eq!(admit(Auth::Required), Err(Stop::Denied(Denial::Missing)));
    assert_eq!((admit(Auth::Optional), admit(Auth::None)), (Ok(false), Ok(false)));
}

#[test]
fn what_a_stale_index_means_is_configured_and_what_an_empty_one_means_is_not() {
    let sight = |standing, when_stale| sight(standing, when_stale).is_ok();
    for when_stale in [WhenStale::Reject, WhenStale::Allow] {
        assert!(sight(Standing::InStep, when_stale) && !sight(Standing::Loading, when_stale));
    }
    assert!(sight(Standing::Stale, WhenStale::Allow) && !sight(Standing::Stale, WhenStale::Reject));
}

const ISSUER: &str = "https://id.example.com/";

/// A gate before an issuer whose tokens nobody checks, an index, and their clock.
fn gate(when_stale: WhenStale) -> (Gate, Arc<Index>, Arc<ManualClock>) {
    let clock = ManualClock::at(Timestamp::from_secs(50));
    let index = Index::new(clock.clone(), std::time::Duration::from_secs(10), [7; 16]);
    let issuers = vec![IssuerSettings::new("main", ISSUER, Verification::None)];
    let settings = verify::Settings { issuers, ..verify::Settings::default() };
    let client = |_: &IssuerSettings| Ok(Arc::new(Nowhere) as Arc<dyn Fetch>);
    let verifier = Verifier::new(settings, &client, clock.clone(), Metrics::new()).unwrap();
    (Gate::new(Settings { when_stale }, index.clone(), Arc::new(verifier)), index, clock)
}

/// Calls that nobody makes.
#[derive(Debug)]
struct Nowhere;

#[async_trait::async_trait]
impl Fetch for Nowhere {
    async fn get(&self, _: &hyper::Uri, _: usize) -> Result<Answer, CallError> {
        Err(CallError::TimedOut)
    }

    async fn post_form(
        &self,
        _: &hyper::Uri,
        _: (&str, &str),
        _: &[(&str, &str)],
        _: usize,
    ) -> Result<Answer, CallError> {
        Err(CallError::TimedOut)
    }
}

/// A token of `user` that nobody signed.
fn shown(user: &str) -> Credential {
    Credential::Token { token: token_of(user), kind: TokenKind::Access }
}

fn token_of(user: &str) -> BearerToken {
    let part = |text: String| URL_SAFE_NO_PAD.encode(text);
    let (header, payload) =
        (r#"{"alg":"ES256"}"#.to_owned(), format!(r#"{{"iss":"{ISSUER}","sub":"{user}","exp":100}}"#));
    BearerToken::parse(&format!("{}.{}.AA", part(header), part(payload))).unwrap()
}

fn revoke(index: &Index, user: &str, position: u64) {
    let selector = Selector::new([(Name::Issuer, ISSUER.to_owned()), (Name::User, user.to_owned())]).unwrap();
    let revocation = Revocation {
        id: RevocationId::from_random(u128::from(position)),
        selector: selector.clone(),
        reach: Reach::ALL,
        cutoff: Cutoff::Absolute,
        created_at: Timestamp::from_secs(50),
        expires_at: None,
        actor: "ops".into(),
        reason: None,
        named_for: None,
    };
    index.apply(&Change { position: Position::new(position), selector, standing: vec![revocation], cause: None });
    index.advance(Position::new(position));
}

async fn pass(gate: &Gate, user: &str) -> Result<(), Stop> {
    let policy = Policy::default();
    let verified = gate.verify(Some(shown(user)), &policy).await?;
    gate.admit(verified, &policy, Timestamp::from_secs(50)).map(|_| ())
}

#[tokio::test]
async fn a_revocation_between_verification_and_decision_is_seen() {
    let (gate, index, clock) = gate(WhenStale::Reject);
    index.note(Progress::CaughtUp { as_of: clock.elapsed() });
    let policy = Policy::default();
    let verified = gate.verify(Some(shown("alice")), &policy).await.unwrap();
    revoke(&index, "alice", 1);
    let admitted = gate.admit(verified, &policy, Timestamp::from_secs(50));
    assert_eq!(admitted.map(|_| ()), Err(Stop::Denied(Denial::Revoked)));
    assert_eq!((pass(&gate, "alice").await, pass(&gate, "bob").await), (Err(Stop::Denied(Denial::Revoked)), Ok(())));
}

#[tokio::test]
async fn nobody_with_a_token_passes_before_the_first_load() {
    for when_stale in [WhenStale::Reject, WhenStale::Allow] {
        let (gate, index, _) = gate(when_stale);
        revoke(&index, "alice", 1);
        assert_eq!(pass(&gate, "alice").await, Err(Stop::Denied(Denial::Revoked)));
        assert!(matches!(pass(&gate, "bob").await, Err(Stop::Blind(_))));
        let optional = policy(Auth::Optional, &["bearer"]);
        assert!(gate.admit(None, &optional, Timestamp::from_secs(50)).is_ok());
    }
}

#[tokio::test]
async fn a_stale_index_still_refuses_what_it_knows() {
    for when_stale in [WhenStale::Reject, WhenStale::Allow] {
        let (gate, index, clock) = gate(when_stale);
        revoke(&index, "alice", 1);
        index.note(Progress::CaughtUp { as_of: clock.elapsed() });
        clock.advance(std::time::Duration::from_secs(11));
        assert_eq!(pass(&gate, "alice").await, Err(Stop::Denied(Denial::Revoked)));
        assert_eq!(pass(&gate, "bob").await.is_ok(), when_stale == WhenStale::Allow);
    }
}

#[tokio::test]
async fn a_route_may_say_otherwise_what_a_stale_index_means() {
    for (everywhere, here) in [(WhenStale::Reject, WhenStale::Allow), (WhenStale::Allow, WhenStale::Reject)] {
        let (gate, index, clock) = gate(everywhere);
        revoke(&index, "alice", 1);
        index.note(Progress::CaughtUp { as_of: clock.elapsed() });
        clock.advance(std::time::Duration::from_secs(11));
        let route = Policy { when_stale: Some(here), ..policy(Auth::Required, &["bearer"]) };
        let asked = async |user| {
            let verified = gate.verify(Some(shown(user)), &route).await?;
            gate.admit(verified, &route, Timestamp::from_secs(61)).map(|_| ())
        };
        assert_eq!(asked("alice").await, Err(Stop::Denied(Denial::Revoked)));
        assert_eq!(asked("bob").await.is_ok(), here == WhenStale::Allow);
    }
}

#[tokio::test]
async fn a_route_without_auth_asks_nobody() {
    let (gate, _, _) = gate(WhenStale::Reject);
    let open = policy(Auth::None, &[]);
    let verified = gate.verify(Some(shown("alice")), &open).await.unwrap();
    assert!(gate.admit(verified, &open, Timestamp::from_secs(50)).unwrap().claims().is_none());
}

#[test]
fn where_places_have_an_order_the_first_token_counts_and_the_others_go_nowhere() {
    let places = ["header:x-auth-token", "bearer", "header:macaroon"];
    let policy = Policy { first_only: true, ..policy(Auth::Optional, &places) };
    let (own, macaroon) = (HeaderName::from_static("x-auth-token"), HeaderName::from_static("macaroon"));
    let first = |fields: &[(HeaderName, &str)]| {
        let mut headers = headers(fields);
        let found = credential::extract(&headers, None, &policy).map(|shown| match shown.unwrap() {
            Credential::Token { token, .. } => token.expose().to_owned(),
            Credential::Password(_) => unreachable!("no place takes one"),
        });
        credential::drop_ignored(&mut headers, &policy);
        let mut left: Vec<String> = headers.keys().map(ToString::to_string).collect();
        left.sort_unstable();
        (found, left.join(" "))
    };
    let all = [(own.clone(), "a"), (AUTHORIZATION, "Bearer b"), (macaroon.clone(), "c")];
    assert_eq!(first(&all), (Ok("a".to_owned()), "x-auth-token".to_owned()));
    assert_eq!(first(&all[1..]), (Ok("b".to_owned()), "authorization".to_owned()));
    assert_eq!(first(&all[2..]), (Ok("c".to_owned()), "macaroon".to_owned()));
    let basic = [(AUTHORIZATION, "Basic YTpi"), (macaroon.clone(), "c")];
    assert_eq!(first(&basic), (Ok("c".to_owned()), "macaroon".to_owned()));
    let empty = [(own.clone(), ""), (AUTHORIZATION, "Bearer b")];
    assert_eq!(first(&empty), (Ok("b".to_owned()), "authorization".to_owned()));
    let bad = [(own, "a b"), (AUTHORIZATION, "Bearer b")];
    assert_eq!(first(&bad), (Err(MALFORMED), "x-auth-token".to_owned()), "the others are not tried");
    let two = [(macaroon.clone(), "a"), (macaroon, "b")];
    assert!(matches!(first(&two).0, Err(Stop::Ambiguous(_))));
}
