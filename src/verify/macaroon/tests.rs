//! Against the contract's own vector, and against texts nobody thought of.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use super::*;
use crate::verify::settings::{ClientSecret, Verification};
use crate::verify::tests::{NOW, Rig, Site, bearer};
use crate::verify::{Verified, VerifyError};

const DOMAIN: &str = "onezone.example.org";
const SECRET: &str = "portcullis-test-secret";
const USER: &str = "c26bab23d12f7389c3c311caf9c15902";
const VECTOR: &str = concat!(
    "MDAyMWxvY2F00aW9uIG9uZXpvbmUuZXhhbXBsZS5vcmcKMDA2MWlkZW500aWZpZXIgMi900bXAtMy91c3ItYzI2YmFiMjNkMTJmNzM4OWMzYzMxMWNh",
    "ZjljMTU5MDIvYWN00LzBmMWUyZDNjNGI1YTY5Nzg4Nzk2YTViNGMzZDJlMWYwCjAwMWFjaWQgdGltZSA8IDQxMDI00NDQ4MDAKMDAyZnNpZ25hdHVy",
    "ZSB7VAz5VesJf5edVF6U5RjKEggA1bmpuGzXt02bT1BQ7Jwo",
);

/// A macaroon as Onezone writes one.
fn mint(secret: &str, identifier: &str, caveats: &[&str]) -> String {
    let mut signature = hmac(hmac(KEY_GENERATOR, secret.as_bytes()).as_ref(), identifier.as_bytes());
    let mut bytes = [packet("location", DOMAIN.as_bytes()), packet("identifier", identifier.as_bytes())].concat();
    for caveat in caveats {
        bytes.extend(packet("cid", caveat.as_bytes()));
        signature = hmac(signature.as_ref(), caveat.as_bytes());
    }
    bytes.extend(packet("signature", signature.as_ref()));
    escape(&URL_SAFE_NO_PAD.encode(bytes))
}

fn packet(name: &str, value: &[u8]) -> Vec<u8> {
    let head = format!("{:04x}{name} ", name.len() + value.len() + 6);
    [head.as_bytes(), value, b"\n"].concat()
}

fn escape(text: &str) -> String {
    text.replace('0', "00").replace('_', "01").replace('-', "02")
}

fn named(caveats: &[&str]) -> String {
    mint(SECRET, &format!("2/nmd/usr-{USER}/act/id1"), caveats)
}

fn settings(secret: Option<&str>) -> IssuerSettings {
    let macaroon = MacaroonSettings { secret: secret.map(ClientSecret::new), ..MacaroonSettings::default() };
    IssuerSettings::new("onezone", DOMAIN, Verification::Macaroon(macaroon))
}

fn rig(secret: Option<&str>) -> Rig {
    Rig::new(&Site::new(), vec![settings(secret)])
}

async fn denial(rig: &Rig, text: &str) -> Option<Denial> {
    match rig.verify(text).await {
        Ok(_) => None,
        Err(VerifyError::Denied(denial)) => Some(denial),
        Err(other) => panic!("{other:?}"),
    }
}

async fn assurance(rig: &Rig, text: &str) -> Assurance {
    rig.verify(text).await.as_ref().map(Verified::assurance).unwrap()
}

#[tokio::test]
async fn the_contracts_vector_is_read_and_verified() {
    let verified = rig(Some(SECRET)).verify(VECTOR).await.unwrap();
    let claims = verified.claims();
    assert_eq!((&*claims.issuer, claims.user.as_deref(), claims.generation), (DOMAIN, Some(USER), Some(3)));
    assert_eq!(claims.token_id.as_deref(), Some("0f1e2d3c4b5a69788796a5b4c3d2e1f0"));
    assert_eq!(claims.expires_at, Some(Timestamp::from_secs(4_102_444_800)));
    assert_eq!(verified.assurance(), Assurance::Vouched);
    let identifier = format!("2/tmp-3/usr-{USER}/act/0f1e2d3c4b5a69788796a5b4c3d2e1f0");
    assert_eq!(mint(SECRET, &identifier, &["time < 4102444800"]), VECTOR);
}

#[tokio::test]
async fn without_the_secret_nobody_vouches_and_with_another_it_is_refused() {
    assert_eq!(assurance(&rig(None), VECTOR).await, Assurance::Unchecked);
    assert_eq!(denial(&rig(Some("another")), VECTOR).await, Some(Denial::Signature));
}

#[tokio::test]
async fn whatever_is_derived_from_a_token_is_that_token() {
    let rig = rig(Some(SECRET));
    let own = rig.claims(&named(&[])).await;
    let confined = rig.claims(&named(&["time < 4102444800", "data.readonly"])).await;
    assert_eq!((own.digest, &own.token_id), (confined.digest, &confined.token_id));
    for service in ["opw-", "opp-"] {
        assert_eq!(rig.claims(&format!("{service}{}", named(&[]))).await.digest, own.digest);
    }
}

#[tokio::test]
async fn a_caveat_is_satisfied_or_not_or_grants_nothing() {
    let rig = rig(Some(SECRET));
    for caveat in ["data.readonly", "data.path = L3g=", "service = ozw-onezone", "service = opw-x|ozw-onezone"] {
        assert_eq!(assurance(&rig, &named(&[caveat])).await, Assurance::Vouched, "{caveat}");
    }
    assert_eq!(assurance(&rig, &named(&["interface = rest"])).await, Assurance::Vouched);
    for caveat in ["ip = 10.0.0.0/8", "consumer = usr-x", "api = all", "asn = 3", "time < soon", "time < 007", "x"] {
        assert_eq!(assurance(&rig, &named(&["data.readonly", caveat])).await, Assurance::Unchecked, "{caveat}");
    }
    for caveat in ["service = opw-x", "interface = oneclient"] {
        assert_eq!(denial(&rig, &named(&["ip = 10.0.0.0/8", caveat])).await, Some(Denial::Audience), "{caveat}");
    }
}

#[tokio::test]
async fn the_earliest_end_counts() {
    let rig = rig(Some(SECRET));
    let until = |secs: u64| format!("time < {secs}");
    let both = named(&[&until(NOW + 60), &until(NOW + 30), &until(NOW + 90)]);
    assert_eq!(rig.claims(&both).await.expires_at, Some(Timestamp::from_secs(NOW + 30)));
    assert_eq!(denial(&rig, &named(&[&until(NOW - 60)])).await, Some(Denial::Expired));
}

#[tokio::test]
async fn a_token_that_would_outlive_its_revocation_is_refused() {
    let lifetime = Some(std::time::Duration::from_secs(3600));
    let rig = Rig::new(&Site::new(), vec![IssuerSettings { max_token_lifetime: lifetime, ..settings(Some(SECRET)) }]);
    assert_eq!(denial(&rig, &named(&[])).await, Some(Denial::Lifetime));
    assert_eq!(denial(&rig, &named(&[&format!("time < {}", NOW + 4000)])).await, Some(Denial::Lifetime));
    assert_eq!(denial(&rig, &named(&[&format!("time < {}", NOW + 3000)])).await, None);
}

#[tokio::test]
async fn only_access_tokens_open_doors() {
    let rig = rig(Some(SECRET));
    let of = |kind: &str| mint(SECRET, &format!("2/tmp-1/usr-u/{kind}/id"), &[]);
    assert_eq!(rig.claims(&of("act:s1")).await.session.as_deref(), Some("s1"));
    for kind in ["idn", "iug:g1:", "sjo:x:1:2"] {
        assert_eq!(denial(&rig, &of(kind)).await, Some(Denial::Type), "{kind}");
        assert_eq!(rig.verifier.read(&bearer(&of(kind))).await.unwrap().user.as_deref(), Some("u"));
    }
    let verified = rig.verify_as(&of("act"), TokenKind::ApiKey).await;
    assert!(matches!(verified, Err(VerifyError::Denied(Denial::Type))));
}

#[tokio::test]
async fn a_flaw_is_shown_to_whoever_looks_for_revocations_first() {
    let rig = rig(Some("another"));
    let examined = rig.verifier.examine(&bearer(VECTOR), TokenKind::Access, &None).await.unwrap();
    assert_eq!((examined.flaw(), examined.claims().user.as_deref()), (Some(Denial::Signature), Some(USER)));
}

#[tokio::test]
async fn providers_and_the_first_version_are_known_too() {
    let rig = rig(Some(SECRET));
    let provider = rig.claims(&mint(SECRET, "2/tmp-2/prv-p1/act/id", &[])).await;
    assert_eq!((provider.user.as_deref(), provider.generation), (None, Some(2)));
    assert!(provider.values(&crate::domain::Name::Claim("provider".into())).contains("p1"));
    let first = rig.claims(&mint(SECRET, "0f1e2d3c", &[])).await;
    assert_eq!((first.token_id.as_deref(), first.user, first.generation), (Some("0f1e2d3c"), None, None));
}

#[tokio::test]
async fn another_spelling_is_no_other_token() {
    let opaque = IssuerSettings {
        opaque_tokens: true,
        ..IssuerSettings::new("lenient", "https://lenient.example", Verification::None)
    };
    let rig = Rig::new(&Site::new(), vec![settings(None), opaque]);
    let decoded = URL_SAFE_NO_PAD.decode(VECTOR.replace("00", "0")).unwrap();
    let plain = URL_SAFE_NO_PAD.encode(&decoded);
    let mut upper = decoded.clone();
    upper[2..4].copy_from_slice(b"2F");
    let spellings = [
        plain.clone(),
        base64::engine::general_purpose::STANDARD.encode(&decoded),
        format!("{VECTOR}05"),
        format!("xyz-{VECTOR}"),
        format!("{VECTOR}A"),
        format!("opw-opw-{VECTOR}"),
        format!("{VECTOR}~"),
        escape(&URL_SAFE_NO_PAD.encode(upper)),
        escape(&URL_SAFE_NO_PAD.encode([&decoded[..], b"x"].concat())),
    ];
    for text in spellings {
        assert_eq!(denial(&rig, &text).await, Some(Denial::Malformed), "{text}");
    }
    assert_eq!(denial(&rig, "notatoken").await, None, "what nobody takes for a macaroon is anybody's");
}

#[tokio::test]
async fn a_macaroon_of_a_stranger_is_nobodys() {
    let stranger = IssuerSettings { issuer: "elsewhere.example".into(), ..settings(None) };
    let domains = MacaroonSettings { domains: vec![DOMAIN.into()], ..MacaroonSettings::default() };
    let renamed = IssuerSettings { verification: Verification::Macaroon(domains), ..stranger.clone() };
    assert_eq!(denial(&Rig::new(&Site::new(), vec![stranger]), VECTOR).await, Some(Denial::UnknownIssuer));
    assert_eq!(denial(&Rig::new(&Site::new(), vec![renamed]), VECTOR).await, None);
}

#[test]
fn only_onezones_own_identifiers_are_read() {
    for text in [
        "",
        "2",
        "2/nmd/usr-u/act",
        "2/nmd/usr-u/act/a/b",
        "1/nmd/usr-u/act/id",
        "3/nmd/usr-u/act/id",
        "2/tmp/usr-u/act/id",
        "2/tmp-/usr-u/act/id",
        "2/tmp-0/usr-u/act/id",
        "2/tmp-03/usr-u/act/id",
        "2/tmp-+3/usr-u/act/id",
        "2/tmp-99999999999999999999/usr-u/act/id",
        "2/tmp-4294967295/usr-u/act/id",
        "2/nmd/grp-u/act/id",
        "2/nmd/usr-/act/id",
        "2/nmd/usr-u/act:/id",
        "2/nmd/usr-u/idn:x/id",
        "2/nmd/usr-u//id",
        "2/nmd/usr-u/act/",
        "2/nmd/usr-u\n/act/id",
    ] {
        let read = Identity::parse(text);
        assert!(read.is_none() || text == "2", "{text:?}: {read:?}");
    }
}

fn any_caveats() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[ -~]{0,40}", 0..5)
}

proptest! {
    #[test]
    fn what_is_minted_is_read_back(user in "[a-z0-9-]{1,40}", generation in prop::option::of(1_u64..1000), id in "[a-f0-9]{1,32}", caveats in any_caveats()) {
        let persistence = generation.map_or("nmd".to_owned(), |generation| format!("tmp-{generation}"));
        let caveats: Vec<&str> = caveats.iter().map(String::as_str).collect();
        let text = mint(SECRET, &format!("2/{persistence}/usr-{user}/act/{id}"), &caveats);
        let macaroon = Macaroon::parse(&text).unwrap();
        prop_assert!(macaroon.is_signed_with(SECRET.as_bytes()) && !macaroon.is_signed_with(b"other"));
        let claims = macaroon.claims(&settings(None));
        prop_assert_eq!(claims.generation, generation);
        prop_assert_eq!(claims.user.as_deref(), Some(user.as_str()));
        prop_assert!(Macaroon::is_like(&text));
    }

    #[test]
    fn no_text_has_a_second_spelling(at in 0_usize..400, with in prop::sample::select(vec!['0', '1', '5', 'A', 'z', '-', '_', '=', '.'])) {
        let mut text: Vec<char> = VECTOR.chars().collect();
        let at = at % text.len();
        text[at] = with;
        let text: String = text.into_iter().collect();
        if text != VECTOR && let Some(other) = Macaroon::parse(&text) {
            prop_assert_ne!(other, Macaroon::parse(VECTOR).unwrap());
        }
    }

    #[test]
    fn any_text_is_read_or_not(text in "\\PC{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = (Macaroon::parse(&text), Macaroon::is_like(&text));
        let encoded = escape(&URL_SAFE_NO_PAD.encode(&bytes));
        let _ = (Macaroon::parse(&encoded), Macaroon::is_like(&encoded));
    }

    #[test]
    fn any_packets_are_read_or_not(parts in prop::collection::vec(("(location|identifier|cid|vid|signature)", "[ -~]{0,40}"), 0..8)) {
        let bytes: Vec<u8> = parts.iter().flat_map(|(name, value)| packet(name, value.as_bytes())).collect();
        let text = escape(&URL_SAFE_NO_PAD.encode(bytes));
        if Macaroon::parse(&text).is_some() {
            let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
            let caveats = names.len() - 3;
            let form = [&["location", "identifier"][..], &vec!["cid"; caveats], &["signature"]].concat();
            prop_assert_eq!(&names, &form);
            prop_assert_eq!(parts.last().unwrap().1.len(), 32);
        }
    }
}

#[tokio::test]
async fn for_refusing_a_macaroon_may_be_any_issuers_wherever_it_says_it_is_from() {
    let other = IssuerSettings::new("other", "other.test", Verification::Macaroon(MacaroonSettings::default()));
    let rig = Rig::new(&Site::new(), vec![settings(Some(SECRET)), other]);
    let elsewhere = escape(
        &URL_SAFE_NO_PAD.encode(
            [
                packet("location", b"nowhere.test"),
                packet("identifier", b"2/nmd/usr-a/act/id1"),
                packet("signature", &[7; 32]),
            ]
            .concat(),
        ),
    );
    assert_eq!(rig.verifier.read(&bearer(&elsewhere)).await.unwrap_err(), Denial::UnknownIssuer);
    let readings = rig.verifier.readings(&bearer(&elsewhere)).await.unwrap();
    let named: Vec<_> = readings.iter().map(|claims| (&*claims.issuer, claims.token_id.as_deref())).collect();
    assert_eq!(named, [(DOMAIN, Some("id1")), ("other.test", Some("id1"))]);
    assert_eq!(rig.verifier.readings(&bearer(&format!("{elsewhere}05"))).await.unwrap_err(), Denial::Malformed);
}

#[tokio::test]
async fn the_highest_generation_is_that_of_a_token_that_was_vouched_for() {
    let rig = rig(Some(SECRET));
    let temporary = |secret: &str, generation: u64, caveat: &str| {
        mint(secret, &format!("2/tmp-{generation}/usr-{USER}/act/id1"), &[caveat])
    };
    let highest = || rig.verifier.highest_generation(DOMAIN, USER);
    let later = format!("time < {}", NOW + 60);
    assert_eq!(denial(&rig, &temporary("guessed", 40, &later)).await, Some(Denial::Signature));
    assert_eq!((highest(), denial(&rig, &temporary(SECRET, 9, &later)).await), (None, None));
    assert_eq!(denial(&rig, &temporary(SECRET, 3, &later)).await, None);
    assert_eq!(highest(), Some(9));
    assert_eq!(denial(&rig, &temporary(SECRET, 11, &format!("time < {}", NOW - 60))).await, Some(Denial::Expired));
    assert_eq!(highest(), Some(11), "it was handed out all the same");
}
