//! What the answer of a token endpoint teaches.
//!
//! A pure function of the answer and of what the request said. An answer that cannot be understood is not handed out: a
//! token that nobody learned of could not be taken back. Claims of tokens are read as the upstream wrote them; it made
//! them, and nobody else could put anything there.

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::domain::BearerToken;
use crate::domain::json;
use crate::gateway::token_endpoint::request::TokenRequest;
use crate::gateway::token_endpoint::{Handed, Source, TokenEndpoint};

/// The longest name, in bytes; what a selector can name.
const MAX_NAME_BYTES: usize = 1024;

/// What an answer teaches.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Taught {
    /// The access token handed out.
    pub access_token: Option<BearerToken>,
    /// The refresh token handed out.
    pub refresh_token: Option<BearerToken>,
    /// The session.
    pub session: Option<Box<str>>,
    /// The session it was opened from.
    pub parent: Option<Box<str>>,
    /// The user.
    pub user: Option<Box<str>>,
    /// The name people know the user by.
    pub username: Option<Box<str>>,
    /// The client.
    pub client: Option<Box<str>>,
    /// The part of the issuer.
    pub domain: Option<Box<str>>,
    /// How long the access token lives.
    pub expires_in_secs: Option<u64>,
    /// How long the refresh token lives.
    pub refresh_expires_in_secs: Option<u64>,
    /// How long the session lives.
    pub session_expires_in_secs: Option<u64>,
}

/// Why an answer is not handed out: what cannot be learned could not be taken back.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum ReplyFault {
    /// It is no JSON object, or one that can be read in two ways.
    #[error("the answer is no JSON object")]
    Json,
    /// A token in it is none, or would be refused when it comes back.
    #[error("a token of the answer is malformed")]
    Token,
    /// A name in it cannot be kept.
    #[error("a name in the answer is too long, or holds NUL")]
    Name,
}

/// What the body of a 200 teaches; `None` when it hands out no token.
///
/// # Errors
///
/// What forbids to hand it out.
pub fn learn(endpoint: &TokenEndpoint, request: &TokenRequest, body: &[u8]) -> Result<Option<Taught>, ReplyFault> {
    let lesson = Lesson::read(endpoint, request, body)?;
    let (access_token, refresh_token) = (lesson.token(Handed::Access)?, lesson.token(Handed::Refresh)?);
    if refresh_token.as_ref().is_some_and(|token| !endpoint.token_form.admits(token.expose())) {
        return Err(ReplyFault::Token);
    }
    if access_token.is_none() && refresh_token.is_none() {
        return Ok(None);
    }
    let learn = &endpoint.learn;
    let vouched = request.is_password_login();
    Ok(Some(Taught {
        access_token,
        refresh_token,
        session: lesson.name(&learn.session, vouched)?,
        parent: lesson.name(&learn.parent, vouched)?,
        user: lesson.name(&learn.user, vouched)?,
        username: lesson.name(&learn.username, vouched)?,
        // The upstream compares it with the grant's, whatever the grant.
        client: lesson.name(&learn.client, true)?,
        domain: lesson.name(&learn.domain, vouched)?,
        expires_in_secs: lesson.secs(&learn.expires_in),
        refresh_expires_in_secs: lesson.secs(&learn.refresh_expires_in),
        session_expires_in_secs: lesson.secs(&learn.session_expires_in),
    }))
}

/// An answer, taken apart.
struct Lesson<'a> {
    endpoint: &'a TokenEndpoint,
    request: &'a TokenRequest,
    document: Value,
    claims: Vec<(Handed, Value)>,
}

impl<'a> Lesson<'a> {
    fn read(endpoint: &'a TokenEndpoint, request: &'a TokenRequest, body: &[u8]) -> Result<Self, ReplyFault> {
        let document = Value::Object(json::object(body).ok_or(ReplyFault::Json)?);
        let mut lesson = Self { endpoint, request, document, claims: Vec::new() };
        for handed in [Handed::Access, Handed::Refresh, Handed::Id] {
            let claims = lesson.text(handed).ok().flatten().and_then(claims);
            lesson.claims.extend(claims.map(|claims| (handed, claims)));
        }
        Ok(lesson)
    }

    /// The text of a token. One that is there, but no text, is a fault: nobody knows what the client makes of it.
    fn text(&self, handed: Handed) -> Result<Option<&str>, ReplyFault> {
        let learn = &self.endpoint.learn;
        let sources = match handed {
            Handed::Access => &learn.access_token,
            Handed::Refresh => &learn.refresh_token,
            Handed::Id => &learn.id_token,
        };
        for source in sources {
            match self.value(source) {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) if text.is_empty() => {}
                Some(Value::String(text)) => return Ok(Some(text)),
                Some(_) => return Err(ReplyFault::Token),
            }
        }
        Ok(None)
    }

    fn token(&self, handed: Handed) -> Result<Option<BearerToken>, ReplyFault> {
        self.text(handed)?.map(|text| BearerToken::parse(text).ok_or(ReplyFault::Token)).transpose()
    }

    /// The first name that a source says; those of the request only where it is `vouched` for.
    fn name(&self, sources: &[Source], vouched: bool) -> Result<Option<Box<str>>, ReplyFault> {
        let said = sources.iter().find_map(|source| match source {
            Source::Request(field) => self.request.field(field).filter(|_| vouched).map(str::to_owned),
            source => self.value(source).and_then(plain),
        });
        match said {
            Some(name) if name.len() > MAX_NAME_BYTES || name.contains('\0') => Err(ReplyFault::Name),
            said => Ok(said.map(Into::into)),
        }
    }

    fn secs(&self, sources: &[Source]) -> Option<u64> {
        sources.iter().find_map(|source| match source {
            Source::Request(field) => digits(self.request.field(field)?),
            source => self.value(source).and_then(secs),
        })
    }

    /// What stands at a place of the answer, or of a token in it.
    fn value(&self, source: &Source) -> Option<&Value> {
        match source {
            Source::Reply(pointer) => pointer.find(&self.document),
            Source::Claim(handed, pointer) => {
                let (_, claims) = self.claims.iter().find(|(known, _)| known == handed)?;
                pointer.find(claims)
            }
            Source::Request(_) => None,
        }
    }
}

/// The claims of a JWT, padded or not; `None` for any other token.
fn claims(text: &str) -> Option<Value> {
    let (signed, _) = text.rsplit_once('.')?;
    let (_, payload) = signed.split_once('.')?;
    let engine = if payload.ends_with('=') { &URL_SAFE } else { &URL_SAFE_NO_PAD };
    let bytes = engine.decode(payload).ok()?;
    json::object(&bytes).map(Value::Object)
}

/// A name as text; whole numbers in decimal. Anything else says nothing.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}

/// Seconds: a number, floored, or its decimal text. What lies beyond a century and more is nothing to reckon with.
fn secs(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => {
            number.as_u64().or_else(|| number.as_f64().and_then(floor)).filter(|secs| is_sane(*secs))
        }
        Value::String(text) => digits(text),
        _ => None,
    }
}

fn digits(text: &str) -> Option<u64> {
    let all = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten().filter(|secs| is_sane(*secs))
}

fn is_sane(secs: u64) -> bool {
    secs <= u64::from(u32::MAX)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "floored, and checked to be in range")]
fn floor(secs: f64) -> Option<u64> {
    let floored = secs.floor();
    (0.0..=f64::from(u32::MAX)).contains(&floored).then_some(floored as u64)
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod reply_tests;
