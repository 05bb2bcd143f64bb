//! Who calls, as the upstream is told: set last, after everything a client could have said was dropped.
//!
//! Only claims that somebody vouches for are told. A value goes out as visible ASCII with everything else, and `%` itself,
//! percent-encoded as UTF-8: two users never look alike, and no claim can end a line.

use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::admission::Admitted;
use crate::domain::{Claims, Told};
use crate::gateway::path;
use crate::gateway::settings::IdentityHeaders;

/// Tells the upstream who was admitted.
pub(super) fn tell(headers: &mut HeaderMap, names: Option<&IdentityHeaders>, admitted: &Admitted) {
    let (Some(names), Some(claims)) = (names, admitted.identity()) else { return };
    let names = [&names.user, &names.username, &names.session, &names.issuer, &names.client, &names.scopes];
    for (name, value) in names.into_iter().zip(claims.memo.told(|| told(claims))) {
        if let Some(value) = value {
            set(headers, name, value.clone());
        }
    }
}

/// All in one piece of memory, as most requests need all of it.
fn told(claims: &Claims) -> Told {
    let scopes: Vec<String> = claims.scopes.iter().map(|scope| encoded(scope)).collect();
    let values = [
        claims.user.as_deref().map(encoded),
        claims.username.as_deref().map(encoded),
        claims.session.as_deref().map(encoded),
        Some(encoded(&claims.issuer)),
        claims.client.as_deref().map(encoded),
        (!scopes.is_empty()).then(|| scopes.join(" ")),
    ];
    let mut rest = Bytes::from(values.iter().flatten().map(String::as_str).collect::<String>());
    values.map(|value| value.map(|value| rest.split_to(value.len())))
}

fn set(headers: &mut HeaderMap, name: &HeaderName, value: Bytes) {
    if let Ok(value) = HeaderValue::from_maybe_shared(value) {
        headers.insert(name, value);
    }
}

fn encoded(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            path::push_escaped(&mut encoded, byte);
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Claims, Memo, TokenDigest, TokenKind};

    fn claims(user: &str) -> Claims {
        Claims {
            issuer: "https://id.example/".into(),
            kind: TokenKind::Access,
            digest: TokenDigest::new([0; 32]),
            token_id: None,
            session: Some("s1".into()),
            user: Some(user.into()),
            username: None,
            client: None,
            key_id: None,
            issued_at: None,
            expires_at: None,
            scopes: ["read".into(), "write it".into()].into(),
            other: Box::default(),
            family: None,
            twins: Box::default(),
            generation: None,
            memo: Memo::default(),
        }
    }

    fn told(claims: Option<Claims>, identified: bool, names: Option<&IdentityHeaders>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        tell(&mut headers, names, &Admitted::for_test(claims, identified));
        headers
    }

    #[test]
    fn the_upstream_learns_who_calls() {
        let headers = told(Some(claims("alice")), true, Some(&IdentityHeaders::default()));
        assert_eq!(headers["x-auth-user"], "alice");
        assert_eq!(headers["x-auth-session"], "s1");
        assert_eq!(headers["x-auth-issuer"], "https://id.example/");
        assert_eq!(headers["x-auth-scopes"], "read write%20it");
        assert!(!headers.contains_key("x-auth-username"));
    }

    #[test]
    fn nothing_is_told_of_claims_nobody_vouches_for_or_where_it_is_not_wanted() {
        let names = IdentityHeaders::default();
        assert!(told(Some(claims("alice")), false, Some(&names)).is_empty());
        assert!(told(Some(claims("alice")), true, None).is_empty());
        assert!(told(None, true, Some(&names)).is_empty());
    }

    proptest! {
        #[test]
        fn two_users_never_look_alike(one in "\\PC{1,8}", other in "[%0-9A-F a\\n]{1,8}") {
            prop_assert_eq!(encoded(&one) == encoded(&other), one == other);
            prop_assert!(encoded(&other).bytes().all(|b| b.is_ascii_graphic()));
            prop_assert_eq!(&told(Some(claims(&one)), true, Some(&IdentityHeaders::default()))["x-auth-user"], &encoded(&one));
        }
    }
}
