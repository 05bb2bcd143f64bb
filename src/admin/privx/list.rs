//! Lists of living sessions: of a user, of a source, of whoever asks, and by a search.
//!
//! `count` is how many match before paging. What the inventory takes for living and the index knows to be dead is left out,
//! and not counted where the page would have shown it.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::header::CONTENT_TYPE;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::admin::extract::{media_type, whole};
use crate::admin::privx::paging::{Paging, PagingParameters};
use crate::admin::privx::words::{Document, Named, Refused};
use crate::admin::privx::{Storage, not_current};
use crate::admin::{Fault, Identity};
use crate::control::{SessionPage, SessionQuery};
use crate::domain::{Session, SessionKey, SessionState, SessionType, Timestamp, json};

/// A time that nobody knows: an unset one, as the language PrivX is written in spells it. It sorts before all others, as
/// what is not known does in every list here.
const UNKNOWN: &str = "0001-01-01T00:00:00Z";
/// The most keywords of one search.
const MAX_KEYWORDS: usize = 16;

/// A page of sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionList {
    /// How many match, whatever the page shows.
    count: u64,
    /// In the order that was asked for; never null.
    items: Vec<Item>,
}

/// One login.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub(super) struct Item {
    /// The session's id.
    id: String,
    /// The user's id; empty when nobody knows, as every text here.
    user_id: String,
    /// The configured name of the issuer it is a session of.
    source_id: String,
    /// The session it was opened from.
    parent_session_id: String,
    /// The part of the source it belongs to.
    domain: String,
    /// The name people know the user by.
    username: String,
    /// The address it was used from last.
    remote_addr: String,
    /// The `User-Agent` it was used with last.
    user_agent: String,
    /// `login`, or `sso` for one that was opened from another.
    #[serde(rename = "type")]
    kind: &'static str,
    /// When it was first seen.
    #[schema(example = "2022-01-01T09:17:16Z")]
    created: String,
    /// When it was last seen.
    updated: String,
    /// When the last of its tokens expires; in the year 1 when nobody knows.
    expires: String,
    /// When the last of its access tokens expires; in the year 1 when nobody knows.
    token_expires: String,
    /// Always false: what was terminated is in no list.
    logged_out: bool,
    /// Whether the caller's own token belongs to it.
    current: bool,
}

impl Item {
    fn of(session: Session, source: &str, current: bool) -> Self {
        let text = |value: Option<Box<str>>| value.map(String::from).unwrap_or_default();
        Self {
            id: session.key.id.into(),
            user_id: text(session.user),
            source_id: source.to_owned(),
            parent_session_id: text(session.parent),
            domain: text(session.domain),
            username: text(session.username),
            remote_addr: text(session.address),
            user_agent: text(session.user_agent),
            kind: session.kind.name(),
            created: rfc3339(Some(session.created_at)),
            updated: rfc3339(Some(session.updated_at)),
            expires: rfc3339(session.expires_at),
            token_expires: rfc3339(session.token_expires_at),
            logged_out: false,
            current,
        }
    }
}

fn rfc3339(moment: Option<Timestamp>) -> String {
    let written = |moment: Timestamp| UNIX_EPOCH.checked_add(Duration::from_secs(moment.as_secs()));
    let written = moment.and_then(written).map(|time| humantime::format_rfc3339_seconds(time).to_string());
    written.unwrap_or_else(|| UNKNOWN.to_owned())
}

impl Storage {
    /// A page as it is shown; `is_current` tells the caller's own session.
    fn page(&self, page: SessionPage, paging: Paging, is_current: impl Fn(&SessionKey) -> bool) -> Json<SessionList> {
        let now = self.admin.clock.now();
        let found = page.items.len();
        let alive: Vec<_> = page.items.into_iter().filter(|of| of.state(now) == SessionState::Active).collect();
        let dead = (found - alive.len()) as u64;
        let item = |session: Session| {
            let (source, current) = (self.source_of(&session.key.issuer), is_current(&session.key));
            Item::of(session, &source, current)
        };
        let items = alive.into_iter().take(paging.limit()).map(item).collect();
        Json(SessionList { count: page.total.saturating_sub(dead), items })
    }

    /// The configured name of an issuer; its `iss` when it is not configured any more.
    fn source_of(&self, issuer: &Arc<str>) -> Arc<str> {
        let mount = &self.settings.mount;
        if *issuer == mount.issuer {
            return mount.issuer_name.clone();
        }
        self.admin.verifier.load().issuer(issuer).map_or_else(|| issuer.clone(), |facts| facts.name)
    }

    /// What of all sessions of the source this query finds.
    async fn find(
        &self,
        identity: &Identity,
        paging: Paging,
        query: SessionQuery,
    ) -> Result<Json<SessionList>, Refused> {
        let query = SessionQuery { issuer: Some(self.source().to_owned()), ..query };
        let page = self.admin.control.sessions(&identity.caller, query).await?;
        let claims = identity.claims();
        Ok(self.page(page, paging, |key| {
            claims.is_some_and(|claims| claims.issuer == key.issuer && claims.session.as_ref() == Some(&key.id))
        }))
    }
}

/// The living sessions of a user
#[utoipa::path(get, path = super::USER_SESSIONS, tag = "sessionstorage",
    params(("user_id" = String, Path, description = "The user's id"), PagingParameters),
    responses((status = 200, description = "A page", body = SessionList),
        (status = "4XX", description = "Not done", body = Document),
        (status = 503, description = "Not possible just now", body = Document)))]
pub(super) async fn of_user(
    State(storage): State<Storage>,
    identity: Identity,
    Named(user): Named,
    paging: Paging,
) -> Result<Json<SessionList>, Refused> {
    not_current(&user)?;
    let query = SessionQuery { user: Some(user), ..paging.query(storage.admin.clock.now()) };
    storage.find(&identity, paging, query).await
}

/// The living sessions of whoever asks
#[utoipa::path(get, path = super::OWN_SESSIONS, tag = "sessionstorage", params(PagingParameters),
    responses((status = 200, description = "A page", body = SessionList),
        (status = "4XX", description = "Not done", body = Document),
        (status = 503, description = "Not possible just now", body = Document)))]
pub(super) async fn own(
    State(storage): State<Storage>,
    identity: Identity,
    paging: Paging,
) -> Result<Json<SessionList>, Refused> {
    let claims = identity.claims().ok_or(Fault::Ownerless)?;
    let own = storage.admin.control.own_sessions(claims, paging.query(storage.admin.clock.now())).await?;
    Ok(storage.page(own.page, paging, |key| own.current.contains(&key.id)))
}

/// The living sessions of a source
#[utoipa::path(get, path = super::SOURCE_SESSIONS, tag = "sessionstorage",
    params(("source_id" = String, Path, description = "The configured name of the issuer, or its `iss`"), PagingParameters),
    responses((status = 200, description = "A page; empty for another source", body = SessionList),
        (status = "4XX", description = "Not done", body = Document),
        (status = 503, description = "Not possible just now", body = Document)))]
pub(super) async fn of_source(
    State(storage): State<Storage>,
    identity: Identity,
    Named(source): Named,
    paging: Paging,
) -> Result<Json<SessionList>, Refused> {
    if source != storage.source() && *source != *storage.settings.mount.issuer {
        return Ok(Json(SessionList { count: 0, items: Vec::new() }));
    }
    storage.find(&identity, paging, paging.query(storage.admin.clock.now())).await
}

/// Search among the living sessions of the source
#[utoipa::path(post, path = super::SEARCH, tag = "sessionstorage", params(PagingParameters),
    request_body(content = SearchBody, description = "What they must have; without a body, all"),
    responses((status = 200, description = "A page", body = SessionList),
        (status = "4XX", description = "Not done", body = Document),
        (status = 503, description = "Not possible just now", body = Document)))]
pub(super) async fn search(
    State(storage): State<Storage>,
    identity: Identity,
    paging: Paging,
    wanted: SearchBody,
) -> Result<Json<SessionList>, Refused> {
    let query = SessionQuery {
        user: wanted.user_id,
        kind: wanted.kind,
        keywords: wanted.keywords,
        ..paging.query(storage.admin.clock.now())
    };
    storage.find(&identity, paging, query).await
}

/// What is searched for.
#[derive(Debug, Default, Eq, PartialEq, ToSchema)]
#[schema(as = Search)]
pub(super) struct SearchBody {
    /// Words, separated by commas: sessions with any of them in username, address, user agent, domain or id, in whatever
    /// case.
    #[schema(value_type = Option<String>, nullable = false)]
    keywords: Vec<String>,
    /// Only of this user.
    #[schema(nullable = false)]
    user_id: Option<String>,
    /// Only of this type: `login` or `sso`.
    #[schema(rename = "type", value_type = Option<String>, nullable = false)]
    kind: Option<SessionType>,
}

impl SearchBody {
    /// Reads a document. A member that nobody knows is an error: passed over, it would find what was not asked for.
    fn read(bytes: &[u8]) -> Result<Self, Refused> {
        let mut wanted = Self::default();
        if bytes.is_empty() {
            return Ok(wanted);
        }
        let members = json::object(bytes).ok_or_else(|| Refused::from(Fault::Invalid(NO_OBJECT.to_owned())))?;
        for (name, value) in &members {
            match (name.as_str(), value) {
                ("keywords" | "user_id" | "type", Value::Null) => {}
                ("keywords", Value::String(text)) => wanted.keywords = keywords(text)?,
                ("keywords", _) => return Err(Refused::wrong("keywords", "one text, its words separated by commas")),
                // An empty text asks for nothing, as if it were not there.
                ("user_id", Value::String(text)) => wanted.user_id = Some(text.clone()).filter(|text| !text.is_empty()),
                ("user_id", _) => return Err(Refused::wrong("user_id", "a text")),
                ("type", Value::String(text)) if text.is_empty() => {}
                ("type", Value::String(text)) => {
                    wanted.kind = Some(text.parse().map_err(|_| Refused::wrong("type", "login or sso"))?);
                }
                ("type", _) => return Err(Refused::wrong("type", "login or sso")),
                _ => return Err(Fault::Invalid("known are keywords, user_id and type alone".to_owned()).into()),
            }
        }
        Ok(wanted)
    }
}

const NO_OBJECT: &str = "the body must be one JSON object, its members named once each";

fn keywords(text: &str) -> Result<Vec<String>, Refused> {
    let words: Vec<_> = text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    if words.len() <= MAX_KEYWORDS {
        return Ok(words);
    }
    Err(Refused::wrong("keywords", &format!("{MAX_KEYWORDS} words at most")))
}

impl<S: Sync> FromRequest<S> for SearchBody {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        if request.headers().contains_key(CONTENT_TYPE) {
            media_type(request.headers(), &["application/json"])?;
        }
        Self::read(&whole(request.into_body()).await?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_search_asks_for_words_a_user_and_a_type() {
        let read = |text: &str| SearchBody::read(text.as_bytes()).unwrap();
        let all = SearchBody::default();
        for text in
            ["", "{}", r#"{"keywords":""}"#, r#"{"user_id":"","type":"","keywords":" , ,"}"#, r#"{"type":null}"#]
        {
            assert_eq!(read(text), all, "{text}");
        }
        let wanted = read(r#"{"keywords":"a, b,,c d","user_id":"u","type":"sso"}"#);
        assert_eq!(
            (wanted.keywords, wanted.user_id.as_deref()),
            (vec!["a".into(), "b".into(), "c d".into()], Some("u"))
        );
        assert_eq!(wanted.kind, Some(SessionType::Sso));
    }

    #[test]
    fn what_cannot_be_understood_finds_nothing() {
        for text in [
            "[]",
            "null",
            "{",
            r#"{"type":"other"}"#,
            r#"{"type":1}"#,
            r#"{"keywords":["a"]}"#,
            r#"{"user_id":1}"#,
            r#"{"userid":"u"}"#,
            r#"{"user_id":"a","user_id":"b"}"#,
        ] {
            assert!(SearchBody::read(text.as_bytes()).is_err(), "{text}");
        }
        let many = format!(r#"{{"keywords":"{}"}}"#, "a,".repeat(MAX_KEYWORDS + 1));
        assert!(SearchBody::read(many.as_bytes()).is_err());
    }

    #[test]
    fn times_are_rfc_3339_and_an_unknown_one_sorts_first() {
        assert_eq!(rfc3339(Some(Timestamp::from_secs(1_641_028_636))), "2022-01-01T09:17:16Z");
        assert!(rfc3339(None) < rfc3339(Some(Timestamp::from_secs(0))));
    }

    proptest! {
        #[test]
        fn no_body_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = SearchBody::read(&bytes);
        }
    }
}
