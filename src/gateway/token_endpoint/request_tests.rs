//! Bodies of token requests: what is read, and what no upstream may get to read.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::gateway::token_endpoint::Preset;

const JWT: &str = "eyJhbGciOiJub25lIn0.e30.AA";

fn endpoint(preset: Preset) -> TokenEndpoint {
    preset.endpoint("https://i".into(), "main".into(), "/token".parse().unwrap())
}

fn form(body: &str) -> Result<TokenRequest, RequestFault> {
    read(&endpoint(Preset::OAuth2), MediaType::Form, body.as_bytes())
}

fn document(body: impl AsRef<[u8]>) -> Result<TokenRequest, RequestFault> {
    read(&endpoint(Preset::Bluesky), MediaType::Json, body.as_ref())
}

fn shown(request: &Result<TokenRequest, RequestFault>) -> Option<&str> {
    request.as_ref().unwrap().refresh_token.as_ref().map(BearerToken::expose)
}

fn assert_malformed(request: &Result<TokenRequest, RequestFault>, body: &str) {
    assert!(matches!(request, Err(RequestFault::Malformed(_))), "{body}: {request:?}");
}

#[test]
fn the_refresh_token_is_found_however_it_is_escaped() {
    assert_eq!(shown(&form("grant_type=refresh_token&refresh_token=abc")), Some("abc"));
    assert_eq!(shown(&form("%72efresh%5Ftoken=a%62c")), Some("abc"));
    assert_eq!(shown(&form(&format!("refresh_token={JWT}"))), Some(JWT));
    assert_eq!(shown(&document(r#" { "refresh\u005ftoken" : "a\u0062c", "more": [1.5, null] } "#)), Some("abc"));
    assert_eq!(shown(&form("username=bob&password=x")), None);
    assert_eq!(shown(&form("refresh_token=")), None, "exactly empty is none");
    assert_eq!(shown(&document("{}")), None);
}

#[test]
fn a_form_with_two_meanings_is_refused() {
    for body in [
        "refresh_token=a&refresh_token=b",
        "refresh_token=a&%72efresh_token=b",
        "refresh_token=a&refresh.token=b",
        "Refresh_Token=a",
        "refresh_token=a&refresh_token[]=b",
        "refresh_token[x]=a",
        "refresh+token=a",
        "+refresh_token=a",
        "refresh_token%00=a",
        "refresh_token=a;b=1",
        "refresh_token=%61%",
        "refresh_token=a\r\n",
        "_charset_=utf-16&refresh_token=a",
        "grant_type=refresh_token",
        "grant_type=refresh_token&refresh_token=",
        "grant_type=Refresh-Token",
        "\u{feff}refresh_token=a",
        "subject_token=a&Subject-Token=b",
    ] {
        assert_malformed(&form(body), body);
    }
}

#[test]
fn a_document_with_two_meanings_is_refused() {
    for body in [
        r#"{"refresh_token":"a","refresh_token":"b"}"#,
        r#"{"refresh_token":"a","refresh\u005ftoken":"b"}"#,
        r#"{"refresh_token":"a","refreshToken":"b"}"#,
        r#"{"Refresh_Token":"a"}"#,
        "{\"refre\u{17f}h_token\":\"a\"}",
        r#"{"refresh_token":"a","x\u0000":1}"#,
        r#"{"refresh_token":["a"]}"#,
        r#"{"refresh_token":null}"#,
        r#"{"refresh_token":1}"#,
        r#"{"refresh_token":"a"} {}"#,
        r#"{"refresh_token":"a","n":NaN}"#,
        r#"[{"refresh_token":"a"}]"#,
        r#"{"grant_type":1}"#,
        r#"{"grant_type":"refresh_token"}"#,
        "{\"refresh_token\":\"a\",}",
        "/**/{\"refresh_token\":\"a\"}",
        "\u{feff}{\"refresh_token\":\"a\"}",
        "refresh_token=a",
        "",
    ] {
        assert_malformed(&document(body), body);
    }
    let wide: Vec<u8> = r#"{"refresh_token":"a"}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_malformed(&document(wide), "UTF-16");
    assert_malformed(&document(b"{\"refresh_token\":\"a\xff\"}"), "no UTF-8");
}

#[test]
fn a_nested_place_is_guarded_at_every_step() {
    let places = vec!["json:/auth/refresh_token".parse().unwrap()];
    let endpoint = TokenEndpoint { refresh_token: places, ..endpoint(Preset::Bluesky) };
    let read = |body: &str| read(&endpoint, MediaType::Json, body.as_bytes());
    assert_eq!(shown(&read(r#"{"auth":{"refresh_token":"a"}}"#)), Some("a"));
    for body in [
        r#"{"auth":{"refresh_token":"a"},"Auth":{"refresh_token":"b"}}"#,
        r#"{"auth":{"refresh_token":"a","refresh-token":"b"}}"#,
        r#"{"auth":{"refresh_token":"a"},"refreshToken":"b"}"#,
    ] {
        assert_malformed(&read(body), body);
    }
}

#[test]
fn a_text_that_nobody_hands_out_is_no_refresh_token() {
    for body in
        ["refresh_token=+", "refresh_token=a%0a", "refresh_token=%c3%a9", "refresh_token=e30.e30.AB", "assertion=a+b"]
    {
        assert_eq!(form(body), Err(RequestFault::Token), "{body}");
    }
    assert_eq!(form(&format!("refresh_token={}", "x".repeat(16 * 1024 + 1))), Err(RequestFault::Token));
    let strict = TokenEndpoint { token_form: TokenForm::Base64, ..endpoint(Preset::OAuth2) };
    assert_eq!(read(&strict, MediaType::Form, b"refresh_token=AAB"), Err(RequestFault::Token));
}

#[test]
fn two_refresh_tokens_are_one_too_many() {
    let places = vec!["form:refresh_token".parse().unwrap(), "form:token".parse().unwrap()];
    let endpoint = TokenEndpoint { refresh_token: places, ..endpoint(Preset::OAuth2) };
    let read = |body: &str| read(&endpoint, MediaType::Form, body.as_bytes());
    assert_eq!(shown(&read("token=a")), Some("a"));
    assert_malformed(&read("token=a&refresh_token=a"), "two");
}

#[test]
fn a_large_body_is_not_read() {
    assert_eq!(form(&format!("a={}", "x".repeat(MAX_BODY_BYTES))), Err(RequestFault::TooLarge));
    assert!(form(&format!("a={}", "x".repeat(MAX_BODY_BYTES - 2))).is_ok());
}

#[test]
fn tokens_to_be_exchanged_are_found() {
    let request = form("grant_type=x&subject_token=a&actor_token=b&assertion=c").unwrap();
    assert_eq!(request.exchanged.iter().map(BearerToken::expose).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(document(r#"{"subject_token":"a"}"#).unwrap().exchanged.len(), 1);
}

#[test]
fn only_fields_that_a_source_names_are_kept() {
    let request = form("username=bob&password=pass&client_id=c&client_secret=hush&x=y").unwrap();
    assert_eq!(request.field(&RequestField::named("username")), Some("bob"));
    assert_eq!(request.field(&RequestField::named("client_id")), Some("c"));
    assert_eq!(request.field(&RequestField::named("password")), None);
    let imitated = form("username=bob&UserName=eve").unwrap();
    assert_eq!(imitated.field(&RequestField::named("username")), None, "whose login it is cannot be told");
    assert_eq!(form("username=a&username=b"), Err(RequestFault::Malformed("the form has a field twice")));
}

#[test]
fn a_password_login_is_told_from_other_grants() {
    let is_login = |body: &str| form(body).unwrap().is_password_login();
    assert!(is_login("username=bob&password=x") && is_login("grant_type=password&username=bob"));
    for body in ["grant_type=refresh_token&refresh_token=a", "refresh_token=a", "grant_type=client_credentials"] {
        assert!(!is_login(body), "{body}");
    }
}

#[test]
fn the_same_credentials_have_the_same_digest() {
    let digest = |body: &str| form(body).unwrap().credentials;
    assert_eq!(digest("client_id=a&client_secret=b"), digest("client_secret=b&x=1&client_id=a"));
    assert_ne!(digest("client_id=a&client_secret=b"), digest("client_id=ab"));
    assert_ne!(digest("client_id=a"), digest("client_secret=a"));
    assert_eq!(digest("x=1"), None);
}

#[test]
fn no_value_is_shown() {
    let body = "refresh_token=tok3n&grant_type=gr4nt&client_id=cl13nt&client_secret=s3cret&username=n4me";
    let shown = format!("{:?}", form(body));
    for value in ["tok3n", "gr4nt", "cl13nt", "s3cret", "n4me"] {
        assert!(!shown.contains(value), "{shown}");
    }
}

/// What a server makes of a body that decodes as leniently as any.
fn leniently(body: &str) -> Vec<String> {
    let decode = |text: &str| {
        let mut out = Vec::new();
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            out.push(match byte {
                b'+' => b' ',
                b'%' => {
                    let digits: String = bytes.by_ref().take(2).map(char::from).collect();
                    u8::from_str_radix(&digits, 16).unwrap_or(b'%')
                }
                byte => byte,
            });
        }
        String::from_utf8_lossy(&out).to_lowercase().trim().replace(['.', ' ', '-', '['], "_").replace(']', "")
    };
    let pairs = body.split(['&', ';']).filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, _)| decode(name).trim_end_matches('_') == "refresh_token").map(|(_, v)| decode(v)).collect()
}

proptest! {
    #[test]
    fn no_form_shows_a_lenient_server_another_token(
        body in "((refresh|Refresh|%72efresh)([_. -]|%5f|%2e|\\[)token(\\[\\]|%00)?=[a-c%+]{0,3}[&;]){1,3}",
    ) {
        if let Ok(request) = form(&body) {
            let ours: Vec<String> = request.refresh_token.iter().map(|token| token.expose().to_owned()).collect();
            let mut theirs = leniently(&body);
            theirs.retain(|token| !token.is_empty());
            prop_assert_eq!(theirs, ours);
        }
    }

    #[test]
    fn no_document_shows_another_reader_another_token(
        members in prop::collection::vec(("(refresh_token|Refresh_token|refresh_tok\\\\u0065n|x)", "[ab]{0,2}"), 0..4),
    ) {
        let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":\"{value}\"")).collect();
        let body = format!("{{{}}}", members.join(","));
        if let Ok(request) = document(&body) {
            // The last member counts, as it does to most.
            let theirs: Value = serde_json::from_str(&body).unwrap();
            let said = theirs.get("refresh_token").and_then(Value::as_str).filter(|text| !text.is_empty());
            prop_assert_eq!(request.refresh_token.as_ref().map(BearerToken::expose), said);
            prop_assert!(theirs.get("Refresh_token").is_none());
        }
    }

    #[test]
    fn any_bytes_are_a_request_or_a_fault(body in prop::collection::vec(any::<u8>(), 0..256)) {
        for preset in Preset::ALL {
            for media in [MediaType::Form, MediaType::Json] {
                let _ = read(&endpoint(preset), media, &body);
            }
        }
    }

    #[test]
    fn what_was_written_is_read(token in "[!-~]{1,40}", other in "\\PC{0,20}") {
        prop_assume!(token.split('.').count() != 3);
        let body = json!({ "refresh_token": token, "other": other }).to_string();
        let request = document(body);
        prop_assert_eq!(shown(&request), Some(token.as_str()));
    }
}
