//! The body of a request to a token endpoint: the refresh token it shows, and the little else that matters.
//!
//! Pure functions of the bytes. A body that the upstream might read in another way is refused: a refresh token that was not
//! seen would pass unchecked.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};

use crate::domain::{BearerToken, TokenDigest, TokenForm};
use crate::gateway::token_endpoint::document::Document;
use crate::gateway::token_endpoint::head::MediaType;
use crate::gateway::token_endpoint::name::is_like;
use crate::gateway::token_endpoint::{FieldPlace, Learn, RequestField, Source, TokenEndpoint};

/// The largest body read, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// Fields that carry a token to be exchanged (RFC 8693 §2.1) or asserted (RFC 7521 §4.1).
const EXCHANGED: [&str; 3] = ["subject_token", "actor_token", "assertion"];
/// Fields that a query must not have, whatever the configuration reads.
const STANDARD: [&str; 2] = ["refresh_token", "grant_type"];

const SIGNS: RequestFault = RequestFault::Malformed("the body has a byte order mark or NUL");
const TWO_TOKENS: RequestFault = RequestFault::Malformed("the body has more than one refresh token");
const NO_TOKEN: RequestFault = RequestFault::Malformed("the refresh token is missing");
const GRANT_TYPE: RequestFault = RequestFault::Malformed("grant_type is no string");

/// What a request to a token endpoint says, as far as anybody needs to know.
#[derive(Clone, Eq, PartialEq)]
pub struct TokenRequest {
    /// The refresh token it shows.
    pub refresh_token: Option<BearerToken>,
    /// Other tokens it wants to turn into new ones (RFC 8693 §2.1, RFC 7521 §4.1).
    pub exchanged: Vec<BearerToken>,
    /// `grant_type` (RFC 6749 §4).
    pub grant_type: Option<Box<str>>,
    /// The digest of `client_id` and `client_secret`, where the body has any of them.
    pub credentials: Option<TokenDigest>,
    fields: Vec<(RequestField, Box<str>)>,
}

impl TokenRequest {
    /// A field that some source of the endpoint names.
    #[must_use]
    pub fn field(&self, field: &RequestField) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == field).map(|(_, value)| &**value)
    }

    /// Whether somebody logs in with name and password, so that a 200 vouches for the name. Servers ignore such fields in
    /// any other grant, and whoever sends them writes there what they like.
    #[must_use]
    pub fn is_password_login(&self) -> bool {
        let grant = self.grant_type.as_deref().is_none_or(|grant| grant == "password");
        grant && self.refresh_token.is_none() && self.exchanged.is_empty()
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRequest").field("refresh_token", &self.refresh_token).finish_non_exhaustive()
    }
}

/// Why a request is not forwarded.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum RequestFault {
    /// It has no one meaning; the text says where. Answered `invalid_request`.
    #[error("{0}")]
    Malformed(&'static str),
    /// Its refresh token is none that anybody handed out. Answered `invalid_grant`, as a dead one is.
    #[error("the refresh token is malformed")]
    Token,
    /// Its body is too large to be read. Answered 413.
    #[error("the request is too large")]
    TooLarge,
    /// Its method is not one of a token endpoint. Answered 405.
    #[error("a token endpoint takes POST only")]
    Method,
}

/// Reads a whole body.
///
/// # Errors
///
/// What forbids to forward it.
pub fn read(endpoint: &TokenEndpoint, media: MediaType, body: &[u8]) -> Result<TokenRequest, RequestFault> {
    if body.len() > MAX_BODY_BYTES {
        return Err(RequestFault::TooLarge);
    }
    if body.starts_with(b"\xef\xbb\xbf") || body.contains(&0) {
        return Err(SIGNS);
    }
    let document = Document::read(media, body)?;
    let refresh_token = refresh_token(endpoint, &document)?;
    let grant_type = grant_type(&document)?;
    if refresh_token.is_none() && grant_type.is_some_and(|grant| is_like(grant, "refresh_token")) {
        return Err(NO_TOKEN);
    }
    let named = |field: &RequestField| Some((field.clone(), document.field(field)?.into()));
    Ok(TokenRequest {
        refresh_token,
        exchanged: exchanged(&document)?,
        grant_type: grant_type.map(Into::into),
        credentials: credentials(&document),
        fields: endpoint.learn.request_fields().filter_map(named).collect(),
    })
}

fn refresh_token(endpoint: &TokenEndpoint, document: &Document) -> Result<Option<BearerToken>, RequestFault> {
    let mut found = None;
    for place in &endpoint.refresh_token {
        let Some(text) = document.token(place)? else { continue };
        let token = BearerToken::parse(text).filter(|_| endpoint.token_form.admits(text)).ok_or(RequestFault::Token)?;
        if found.replace(token).is_some() {
            return Err(TWO_TOKENS);
        }
    }
    Ok(found)
}

fn grant_type(document: &Document) -> Result<Option<&str>, RequestFault> {
    let field = RequestField::named("grant_type");
    if document.is_mistyped(&field) { Err(GRANT_TYPE) } else { Ok(document.field(&field)) }
}

fn exchanged(document: &Document) -> Result<Vec<BearerToken>, RequestFault> {
    let mut tokens = Vec::new();
    for name in EXCHANGED {
        for place in [FieldPlace::Form(name.into()), FieldPlace::Json(RequestField::named(name).pointer().clone())] {
            let Some(text) = document.token(&place)? else { continue };
            let token = BearerToken::parse(text).filter(|_| TokenForm::Any.admits(text));
            tokens.push(token.ok_or(RequestFault::Token)?);
        }
    }
    Ok(tokens)
}

/// Each text with its length, so that no two pairs have one digest.
fn credentials(document: &Document) -> Option<TokenDigest> {
    let texts = ["client_id", "client_secret"].map(|name| document.field(&RequestField::named(name)));
    if texts.iter().all(Option::is_none) {
        return None;
    }
    let mut context = Context::new(&SHA256);
    for text in texts.map(Option::unwrap_or_default) {
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(text.as_bytes());
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    Some(TokenDigest::new(bytes))
}

impl TokenEndpoint {
    /// The names of all fields that are read from a body.
    pub(super) fn reads(&self) -> impl Iterator<Item = String> {
        let places = self.refresh_token.iter().map(FieldPlace::name);
        let fields = self.learn.request_fields().filter_map(RequestField::name).map(str::to_owned);
        STANDARD.into_iter().chain(EXCHANGED).map(str::to_owned).chain(places).chain(fields)
    }
}

impl Learn {
    /// The fields of requests that some source names.
    fn request_fields(&self) -> impl Iterator<Item = &RequestField> {
        self.all().into_iter().flatten().filter_map(|source| match source {
            Source::Request(field) => Some(field),
            Source::Reply(_) | Source::Claim(..) => None,
        })
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod request_tests;
