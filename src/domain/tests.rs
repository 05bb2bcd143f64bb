//! The rules, by example.

use std::collections::BTreeMap;

use super::*;

fn selector(json: &str) -> Result<Selector, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

fn revocation(id: u128, cutoff: Cutoff, expires_at: Option<u64>) -> Revocation {
    Revocation {
        id: RevocationId::from_random(id),
        selector: selector(r#"{"issuer":"i","user":"u"}"#).unwrap(),
        reach: Reach::LOGIN,
        cutoff,
        created_at: Timestamp::from_secs(100),
        expires_at: expires_at.map(Timestamp::from_secs),
        actor: "ops".into(),
        reason: None,
        named_for: None,
    }
}

fn until(secs: u64) -> Cutoff {
    Cutoff::Until(Timestamp::from_secs(secs))
}

#[test]
fn a_token_of_the_very_second_of_the_cutoff_dies_and_the_next_second_passes() {
    let cutoff = until(100);
    assert!(cutoff.includes(Some(Timestamp::from_secs(100))));
    assert!(!cutoff.includes(Some(Timestamp::from_secs(101))));
    assert_eq!(cutoff.readmits_from(), Some(Timestamp::from_secs(101)));
}

#[test]
fn a_token_that_does_not_say_when_counts_as_older() {
    assert!(until(100).includes(None));
}

#[test]
fn the_greater_cutoff_covers_what_the_lesser_does() {
    assert!(Cutoff::Absolute > until(u64::MAX) && until(2) > until(1));
}

#[test]
fn revoking_again_what_is_dead_already_is_no_news() {
    let held = revocation(1, until(100), Some(500));
    assert_eq!(merge(std::slice::from_ref(&held), &revocation(2, until(90), Some(400))), Merge::Already(held.id));
}

#[test]
fn revoking_again_never_shortens_but_may_extend() {
    let held = revocation(1, Cutoff::Absolute, Some(500));
    let longer = Merge::Extend(held.id, Some(Timestamp::from_secs(600)));
    assert_eq!(merge(std::slice::from_ref(&held), &revocation(2, until(90), Some(600))), longer);
    assert_eq!(
        merge(std::slice::from_ref(&held), &revocation(2, Cutoff::Absolute, None)),
        Merge::Extend(held.id, None)
    );
}

#[test]
fn a_later_cutoff_replaces_an_earlier_one_unless_it_is_forgotten_sooner() {
    let held = revocation(1, until(100), Some(500));
    let later = revocation(2, until(200), Some(600));
    assert_eq!(merge(std::slice::from_ref(&held), &later), Merge::Replace(vec![held.id]));
    assert_eq!(merge(&[held], &revocation(3, until(200), Some(400))), Merge::Replace(Vec::new()));
}

#[test]
fn api_keys_are_beyond_the_reach_of_a_login() {
    assert!(!Reach::LOGIN.contains(TokenKind::ApiKey) && Reach::ALL.covers(Reach::LOGIN));
    assert!(!Reach::LOGIN.covers(Reach::ALL));
}

#[test]
fn one_meaning_has_one_text() {
    let one = selector(r#"{"user":"u","issuer":"i"}"#).unwrap();
    let other = selector(r#"{"issuer":"i","\u0075ser":"u"}"#).unwrap();
    assert_eq!(one.canonical(), other.canonical());
    assert_eq!(selector(&one.canonical()).unwrap(), one);
}

#[test]
fn a_selector_that_means_nothing_is_told_why() {
    let told = |json| selector(json).unwrap_err();
    assert!(told("{}").contains("at least one"));
    assert!(told(r#"{"user":"u"}"#).contains("issuer"));
    assert!(told(r#"{"issuer":"i","colour":"red"}"#).contains("colour"));
    assert!(told(r#"{"issuer":""}"#).contains("1 to"));
    assert!(told(r#"{"issuer":"i","session":"a\u0000b"}"#).contains("NUL"));
    assert!(told(r#"{"token_sha256":"ABC"}"#).contains("64"));
    assert!(told(r#"{"claim:":"x"}"#).contains("claim:"));
    assert!(told(r#"{"claim:iss":"x"}"#).contains("match nothing"));
}

#[test]
fn one_token_one_session_and_a_sweep_are_told_apart() {
    let is = |json: &str, judge: fn(&Selector) -> bool| judge(&selector(json).unwrap());
    assert!(is(r#"{"issuer":"i","token_id":"t"}"#, Selector::is_token));
    assert!(is(r#"{"issuer":"i","session":"s"}"#, Selector::is_absolute));
    assert!(!is(r#"{"issuer":"i","user":"u"}"#, Selector::is_absolute));
    assert!(is(r#"{"issuer":"i"}"#, Selector::is_sweeping));
    assert!(is(r#"{"key_id":"k"}"#, Selector::is_sweeping));
    assert!(!is(r#"{"issuer":"i","client":"c"}"#, Selector::is_sweeping));
}

#[test]
fn a_token_cannot_be_printed() {
    let token = BearerToken::parse("s3cr3t-s3cr3t").unwrap();
    assert_eq!(format!("{token:?}"), "BearerToken(13 bytes)");
    assert!(BearerToken::parse("two words").is_none() && BearerToken::parse("").is_none());
    assert!(BearerToken::parse(&"a".repeat(BearerToken::MAX_BYTES + 1)).is_none());
}

#[test]
fn an_id_is_read_as_it_is_written_and_in_no_other_way() {
    let id = RevocationId::from_random(0xAB);
    assert_eq!(id.to_string().parse(), Ok(id));
    assert!(id.to_string().to_uppercase().parse::<RevocationId>().is_err());
    assert!("+".repeat(32).parse::<RevocationId>().is_err());
}

#[test]
fn admin_holds_every_right_and_no_other_does() {
    let admin: Rights = [Right::Admin].into_iter().collect();
    let reader: Rights = [Right::SessionsRead].into_iter().collect();
    assert!(admin.allow(Right::AuditRead) && admin.allow(Right::SessionsRevoke));
    assert!(reader.allow(Right::SessionsRead) && !reader.allow(Right::Admin) && !reader.allow(Right::SessionsRevoke));
}

#[test]
fn a_digest_reads_the_same_with_and_without_allocation() {
    let digest = TokenDigest::new(std::array::from_fn(|n| u8::try_from(n * 8).unwrap()));
    assert_eq!(digest.hex(&mut [0; 64]), digest.to_string());
    assert_eq!(digest.prefix(), "000810182028");
}

#[test]
fn names_of_selectors_survive_the_way_to_text_and_back() {
    let names = ["issuer", "token_id", "session", "user", "username", "client", "key_id", "claim:device_id"];
    let parts: BTreeMap<String, String> = names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
    let back: BTreeMap<String, String> = Selector::try_from(parts.clone()).unwrap().into();
    assert_eq!(back, parts);
}
