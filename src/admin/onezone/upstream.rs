//! Onezone itself, told and asked in the name of a caller: with the caller's own token, or an administrator's for callers
//! who have none. It numbers the generations of the temporary tokens it hands out, so that what is revoked here must be
//! revoked there as well, else no new one would ever pass.
//!
//! A "no" of Onezone's is handed on; everything else that is no answer is silence, of which nothing can be concluded.

use std::path::PathBuf;

use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, Uri};
use serde_json::Value;

use crate::domain::wording::Wording;
use crate::domain::wording::onezone::ANY_ORIGIN;
use crate::domain::{BearerToken, Timestamp, json};
use crate::net::client::{self, Client};

/// The longest answer read, in bytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024;
const X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// Where it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UpstreamSettings {
    /// Its address, without `/api/v3`.
    pub url: Uri,
    /// Trusted beside the system's certificates: a PEM file.
    pub ca: Option<PathBuf>,
    /// An administrator's token, by which it is told what callers ask for who are no users of it.
    pub token: Option<BearerToken>,
}

/// Onezone, ready to be asked.
pub(super) struct Upstream {
    /// Without it, no call can be made; that was logged.
    client: Option<Client>,
    base: String,
    administrator: Option<BearerToken>,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// It says no, and this is how.
    Refused(Box<Wording>),
    /// It says nothing that could be understood: it may have done what it was told, or not.
    Silent,
}

impl Upstream {
    /// Nobody is called yet.
    pub(super) fn new(settings: &UpstreamSettings) -> Self {
        let client = Client::new(&client::Settings { ca: settings.ca.clone(), ..client::Settings::default() });
        let client = client.inspect_err(|error| {
            tracing::error!(error = error as &dyn std::error::Error, "Onezone cannot be called");
        });
        let base = format!("{}api/v3/onezone", with_slash(&settings.url));
        Self { client: client.ok(), base, administrator: settings.token.clone() }
    }

    /// By which token Onezone is told what this caller asks for: the caller's, or the administrator's.
    pub(super) fn speaking_for<'t>(&'t self, own: Option<&'t BearerToken>) -> Option<&'t BearerToken> {
        own.or(self.administrator.as_ref())
    }

    /// Whose token it is; `None` when it is nobody's.
    pub(super) async fn user(&self, token: &BearerToken) -> Result<Option<String>, Trouble> {
        match self.document(token, "/user").await {
            Ok(user) => match user.get("userId").and_then(Value::as_str) {
                Some(id) => Ok(Some(id.to_owned())),
                None => Err(Trouble::Silent),
            },
            Err(Trouble::Refused(_)) => Ok(None),
            Err(Trouble::Silent) => Err(Trouble::Silent),
        }
    }

    /// What the administrators of Onezone let the token's user do.
    pub(super) async fn privileges(&self, token: &BearerToken) -> Result<Vec<String>, Trouble> {
        let document = self.document(token, "/user/effective_privileges").await?;
        let listed = document.get("privileges").and_then(Value::as_array).ok_or(Trouble::Silent)?;
        Ok(listed.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// The generation of the temporary tokens it hands out to a user now.
    pub(super) async fn generation(&self, token: &BearerToken, user: &str) -> Result<u64, Trouble> {
        let document = self.document(token, &temporary(user)).await?;
        let generation = document.get("generation").and_then(Value::as_u64).ok_or(Trouble::Silent)?;
        if (1..Timestamp::MAX.as_secs()).contains(&generation) { Ok(generation) } else { Err(Trouble::Silent) }
    }

    /// Has it revoke the temporary tokens of a user. Says which generation is the first that passes there since: never a
    /// later one, so that what it hands out from now on passes here too. What was known of that before it fell silent comes
    /// with the silence.
    pub(super) async fn move_on(&self, token: &BearerToken, user: &str) -> Result<u64, (Trouble, Option<u64>)> {
        let before = self.generation(token, user).await.map_err(|trouble| (trouble, None))?;
        let next = before + 1;
        let told = self.call(Method::DELETE, token, &temporary(user), None).await;
        told.map_err(|trouble| (trouble, Some(next)))?;
        // The caller's own token may have died of it. Somebody else may have moved it on as well.
        let witness = self.administrator.as_ref().unwrap_or(token);
        Ok(self.generation(witness, user).await.map_or(next, |after| after.max(next)))
    }

    /// Has it change or delete a named token.
    pub(super) async fn named(
        &self,
        method: Method,
        token: &BearerToken,
        id: &str,
        body: Option<Bytes>,
    ) -> Result<(), Trouble> {
        self.call(method, token, &format!("/tokens/named/{}", segment(id)), body).await.map(|_| ())
    }

    async fn document(&self, token: &BearerToken, path: &str) -> Result<json::Object, Trouble> {
        let body = self.call(Method::GET, token, path, None).await?;
        json::object(&body).ok_or(Trouble::Silent)
    }

    async fn call(
        &self,
        method: Method,
        token: &BearerToken,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Bytes, Trouble> {
        let client = self.client.as_ref().ok_or(Trouble::Silent)?;
        let url: Uri = format!("{}{path}", self.base).parse().map_err(|_| Trouble::Silent)?;
        let mut headers = HeaderMap::new();
        headers.insert(X_AUTH_TOKEN, secret(token)?);
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let answer = client.call(method, &url, headers, body.unwrap_or_default(), MAX_ANSWER_BYTES).await;
        let answer = answer.map_err(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "Onezone could not be asked");
            Trouble::Silent
        })?;
        match answer.status {
            200..=299 => Ok(answer.body),
            408 | 429 => Err(Trouble::Silent),
            400..=499 => Err(refused(answer.status, &answer.body)),
            status => {
                tracing::warn!(status, "Onezone did not answer as it should");
                Err(Trouble::Silent)
            }
        }
    }
}

/// Its own words for its no, where it has any.
fn refused(status: u16, body: &[u8]) -> Trouble {
    let document = json::object(body).filter(|document| document.contains_key("error"));
    document.map_or(Trouble::Silent, |document| {
        Trouble::Refused(Box::new(Wording::new(status, Value::Object(document)).with(ANY_ORIGIN.0, ANY_ORIGIN.1)))
    })
}

fn temporary(user: &str) -> String {
    format!("/users/{}/tokens/temporary", segment(user))
}

fn secret(token: &BearerToken) -> Result<HeaderValue, Trouble> {
    let mut value = HeaderValue::from_str(token.expose()).map_err(|_| Trouble::Silent)?;
    value.set_sensitive(true);
    Ok(value)
}

fn with_slash(url: &Uri) -> String {
    let text = url.to_string();
    if text.ends_with('/') { text } else { format!("{text}/") }
}

/// An id as one segment of a path (RFC 3986 §3.3), whatever it holds.
fn segment(id: &str) -> String {
    let mut text = String::with_capacity(id.len());
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => text.push(char::from(byte)),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_segment_and_nothing_else() {
        assert_eq!(segment("c26bab-1_~"), "c26bab-1_~");
        assert_eq!((segment("../x?y"), segment("é")), ("%2E%2E%2Fx%3Fy".to_owned(), "%C3%A9".to_owned()));
    }

    #[test]
    fn only_a_no_in_its_own_words_is_a_no() {
        let Trouble::Refused(wording) = refused(403, br#"{"error":{"id":"forbidden"}}"#) else { panic!() };
        assert_eq!((wording.status, &wording.body["error"]["id"]), (403, &Value::from("forbidden")));
        for body in ["", "<html>", "{}", "[]"] {
            assert!(matches!(refused(404, body.as_bytes()), Trouble::Silent), "{body}: some proxy said that");
        }
    }
}
