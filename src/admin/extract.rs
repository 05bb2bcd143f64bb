//! What a request says, read strictly: bodies of the right type and a bounded size, members and parameters that the call
//! knows, identifiers that are what they claim to be. What is wrong is named; the value that was sent is not repeated, for
//! it may be a token in the wrong place.

use std::str::FromStr;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::admin::Fault;

/// The longest JSON body, and the longest line of a stream of them, in bytes.
pub(super) const MAX_JSON_BYTES: usize = 64 * 1024;
/// How long a body may stand still, and a JSON body may take in all.
pub(super) const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// The longest word that an error repeats, in characters; our longest names are shorter.
const MAX_NAME_CHARS: usize = 32;

/// A JSON body, of a type that refuses unknown members.
#[derive(Debug)]
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, _: &S) -> Result<Self, Fault> {
        media_type(request.headers(), &["application/json"])?;
        let bytes = whole(request.into_body()).await?;
        json(&bytes).map(Self)
    }
}

/// Reads one JSON text.
pub(super) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    let value = Json::from_bytes(bytes).map_err(|rejection| Fault::Invalid(without_values(&rejection.body_text())))?;
    Ok(value.0)
}

/// Refuses a body that says it is of none of these types, or does not say, or is compressed.
pub(super) fn media_type(headers: &HeaderMap, accepted: &[&'static str]) -> Result<(), Fault> {
    let stated = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = stated.split(';').next().unwrap_or_default().trim();
    let coded = headers.contains_key(header::CONTENT_ENCODING);
    if coded || !accepted.iter().any(|accepted| accepted.eq_ignore_ascii_case(essence)) {
        return Err(Fault::MediaType(accepted.first().copied().unwrap_or_default()));
    }
    Ok(())
}

/// The whole of a body, within its bounds of size and time.
pub(super) async fn whole(body: Body) -> Result<Bytes, Fault> {
    let collected = tokio::time::timeout(BODY_PATIENCE, Limited::new(body, MAX_JSON_BYTES).collect()).await;
    match collected.map_err(|_| Fault::Timeout)? {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Fault::TooLarge(MAX_JSON_BYTES)),
        Err(_) => Err(Fault::Invalid("the body ended before its end".to_owned())),
    }
}

/// The parameters of the query, of a type that refuses unknown ones.
#[derive(Debug)]
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(rejection) => Err(Fault::Invalid(without_values(&rejection.body_text()))),
        }
    }
}

/// No parameters at all: naming one is an error, not a silence.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoParameters {}

/// An identifier in the path: opaque, so what is not one is simply not there.
#[derive(Debug)]
pub(super) struct Id<T>(pub(super) T);

impl<T: FromStr, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let text = Path::<String>::from_request_parts(parts, state).await.ok();
        let id = text.and_then(|Path(text)| text.parse().ok());
        id.map(Self).ok_or_else(|| Fault::NotFound("nothing has that id".to_owned()))
    }
}

/// What a deserialiser says is wrong, less what it says it was given.
fn without_values(text: &str) -> String {
    // "Failed to deserialize …: path: what is wrong"
    let text = text.split_once(": ").map_or(text, |(_, text)| text);
    let given = ["invalid type: ", "invalid value: ", "invalid length "].iter().find_map(|word| text.find(word));
    match given.map(|at| text.split_at(at)) {
        Some((path, rest)) => {
            let expected = rest.rfind(", expected ").and_then(|at| rest.get(at + 2..)).unwrap_or("invalid");
            shorten_names(&format!("{path}{expected}"))
        }
        None => shorten_names(text),
    }
}

/// Cuts every word that is longer than any of ours: a name nobody knows may be a token.
fn shorten_names(text: &str) -> String {
    let cut = |word: &str| match word.char_indices().nth(MAX_NAME_CHARS) {
        Some((at, _)) => format!("{}…", word.get(..at).unwrap_or_default()),
        None => word.to_owned(),
    };
    text.split(' ').map(cut).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::admin::native::RevokeBody;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its form matters")]
    struct Form {
        count: Option<u64>,
        block: Option<bool>,
    }

    fn complaint(text: &str) -> String {
        json::<Form>(text.as_bytes()).unwrap_err().detail()
    }

    #[test]
    fn an_unknown_member_is_named() {
        assert!(complaint(r#"{"cuont":1}"#).contains("unknown field `cuont`"), "{}", complaint(r#"{"cuont":1}"#));
    }

    #[test]
    fn a_wrong_value_is_located_but_not_repeated() {
        let said = complaint(r#"{"count":"eyJhbGciOi"}"#);
        assert!(said.starts_with("count: expected u64"), "{said}");
        assert!(!said.contains("eyJ"), "{said}");
    }

    #[test]
    fn a_token_for_a_name_is_cut_short() {
        let said = complaint(&format!(r#"{{"{}":1}}"#, "x".repeat(500)));
        assert!(said.len() < 200, "{said}");
    }

    #[test]
    fn only_the_types_asked_for_pass() {
        let typed = |text: &'static str| [(header::CONTENT_TYPE, text.parse().unwrap())].into_iter().collect();
        let json = ["application/json"];
        assert!(media_type(&typed("application/json; charset=utf-8"), &json).is_ok());
        assert!(media_type(&typed("Application/JSON"), &json).is_ok());
        for other in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
            assert!(media_type(&typed(other), &json).is_err(), "{other}");
        }
        assert!(media_type(&HeaderMap::new(), &json).is_err());
        let mut coded: HeaderMap = typed("application/json");
        coded.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        assert!(media_type(&coded, &json).is_err());
    }

    proptest! {
        #[test]
        fn no_body_panics_and_no_value_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = json::<RevokeBody>(&bytes);
        }

        #[test]
        fn no_misplaced_value_comes_back(secret in "[a-zA-Z0-9_.-]{20,80}", member in "count|block") {
            let misplaced = complaint(&format!(r#"{{"{member}":"{secret}, expected it"}}"#));
            prop_assert!(!misplaced.contains(&secret));
            let alone = complaint(&format!(r#""{secret}""#));
            prop_assert!(!alone.contains(&secret));
        }
    }
}
