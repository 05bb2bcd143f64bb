//! Elasticsearch's invalidate token: what its clients send, and what they look for in an answer.
//!
//! | file | what |
//! |---|---|
//! | `request` | what is asked for, validated as the server does and in its order |
//! | `reply` | a document in the media type asked for, with the header its clients insist on |
//! | `openapi` | the calls, described |
//!
//! Who calls is known by a bearer credential, or by the name and secret of a configured credential, as HTTP Basic or as an
//! API key; `manage_token` is the right `sessions:revoke`, and is looked at before the request is. Counting is control's.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use axum::routing::{delete, get};
use serde_json::{Value, json};

use crate::admin::caller::{Accept, Shown};
use crate::admin::dialect::Call;
use crate::admin::door::{Access, call_name};
use crate::admin::elasticsearch::reply::Style;
use crate::admin::elasticsearch::request::{Asked, Parameters};
use crate::admin::extract::{media_type, whole};
use crate::admin::{Admin, Fault, Identity, Mount};
use crate::control::{Counts, Whose};
use crate::domain::wording::Wording;
use crate::domain::wording::elasticsearch::{INVALIDATE, MAIN, error, ok, unauthorized};
use crate::domain::{BearerToken, Right};
use crate::net::Peer;

mod openapi;
mod reply;
mod request;

pub(super) use openapi::openapi;

/// What the operator says of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Where it is served, and for whom.
    pub mount: Mount,
}

/// Where tokens are invalidated.
const TOKEN: &str = "/_security/oauth2/token";
/// The same for clients of major 6; deprecated since.
const LEGACY_TOKEN: &str = "/_xpack/security/oauth2/token";
/// Both as the server takes them too; a credential of ours must not go past us to the upstream.
const TOKEN_SLASH: &str = "/_security/oauth2/token/";
const LEGACY_TOKEN_SLASH: &str = "/_xpack/security/oauth2/token/";
/// What clients of major 7 ask before anything else.
const BANNER: &str = "/";
/// The media types of a body.
const JSON: &[&str] = &["application/json", "application/vnd.elasticsearch+json"];
/// Whom a client takes us for: recent enough that it looks for the product header, and no further.
const VERSION: &str = "8.19.0";

/// What its clients call.
pub(super) const CALLS: &[Call] = &[
    Call::own(Method::DELETE, TOKEN),
    Call::own(Method::DELETE, LEGACY_TOKEN),
    Call::own(Method::DELETE, TOKEN_SLASH),
    Call::own(Method::DELETE, LEGACY_TOKEN_SLASH),
    Call { method: Method::GET, path: BANNER, unless_routed: true },
    Call { method: Method::HEAD, path: BANNER, unless_routed: true },
];

/// Its calls.
pub(super) fn router(admin: &Arc<Admin>, settings: &Arc<Settings>) -> Router {
    Router::new()
        .route(TOKEN, delete(invalidate))
        .route(LEGACY_TOKEN, delete(invalidate))
        .route(TOKEN_SLASH, delete(invalidate))
        .route(LEGACY_TOKEN_SLASH, delete(invalidate))
        .route(BANNER, get(banner))
        .method_not_allowed_fallback(wrong_method)
        .with_state(Elasticsearch { admin: admin.clone(), settings: settings.clone() })
}

/// The dialect as it is mounted.
#[derive(Clone, Debug)]
struct Elasticsearch {
    admin: Arc<Admin>,
    settings: Arc<Settings>,
}

async fn invalidate(State(here): State<Elasticsearch>, request: Request) -> Response {
    let (head, body) = Head::of(request);
    let mut style = head.style();
    let said = here.invalidated(&head, body, &mut style).await;
    style.answer(said.unwrap_or_else(|refusal| refusal))
}

async fn banner(State(here): State<Elasticsearch>, request: Request) -> Response {
    let (head, _) = Head::of(request);
    let mut style = head.style();
    let said = here.introduced(&head, &mut style).await;
    style.answer(said.unwrap_or_else(|refusal| refusal))
}

/// Who is nobody does not learn that there is something.
async fn wrong_method(State(here): State<Elasticsearch>, request: Request) -> Response {
    let (head, _) = Head::of(request);
    let said = here.caller(&head).await.err().unwrap_or_else(|| reply::worded(&Fault::Method));
    head.style().answer(said)
}

/// A request without its body, and which call it is.
struct Head {
    parts: Parts,
    call: String,
}

impl Head {
    fn of(request: Request) -> (Self, Body) {
        let call = call_name(&request);
        let (parts, body) = request.into_parts();
        (Self { parts, call }, body)
    }

    fn style(&self) -> Style {
        Style::of(&self.parts)
    }
}

impl Elasticsearch {
    /// Privilege first, then the request.
    async fn invalidated(&self, head: &Head, body: Body, style: &mut Style) -> Result<Wording, Wording> {
        let identity = self.caller(head).await?;
        self.demand(&identity, head, Access::Needs(Right::SessionsRevoke), INVALIDATE).await?;
        style.pretty = Parameters::read(&head.parts.uri)?.pretty;
        let asked = asked(&head.parts.headers, body).await?;
        let counts = self.carried_out(&identity, &asked).await.map_err(|fault| reply::worded(&fault))?;
        // A user or a realm without tokens is no error; a token that nobody knows is one.
        let unknown = matches!(asked, Asked::Token { .. }) && counts.is_nothing();
        Ok(Wording { status: if unknown { 404 } else { 200 }, ..ok(tally(&counts)) })
    }

    async fn introduced(&self, head: &Head, style: &mut Style) -> Result<Wording, Wording> {
        let identity = self.caller(head).await?;
        self.demand(&identity, head, Access::Any, MAIN).await?;
        style.pretty = Parameters::read(&head.parts.uri)?.pretty;
        Ok(ok(introduction()))
    }

    async fn caller(&self, head: &Head) -> Result<Identity, Wording> {
        let peer = head.parts.extensions.get::<Arc<Peer>>();
        let recognised = self.admin.recognise(shown(&head.parts.headers), peer.map(|peer| &**peer), &Accept::Rules);
        match recognised.await {
            Ok(identity) => Ok(identity),
            Err(fault) => {
                let address = peer.map(|peer| peer.address.ip());
                self.admin.turn_away(&fault, address, head.call.clone()).await;
                Err(reply::worded(&fault))
            }
        }
    }

    async fn demand(&self, identity: &Identity, head: &Head, access: Access, action: &str) -> Result<(), Wording> {
        let demanded = self.admin.demand(identity, access, head.call.clone()).await;
        demanded.map_err(|_| unauthorized(action, &identity.caller.name))
    }

    async fn carried_out(&self, identity: &Identity, asked: &Asked) -> Result<Counts, Fault> {
        let (control, issuer) = (&self.admin.control, &*self.settings.mount.issuer);
        Ok(match asked {
            Asked::Token { text, kind } => match BearerToken::parse(text) {
                Some(token) => control.invalidate_token(&identity.caller, issuer, &token, *kind).await?,
                None => Counts::default(),
            },
            Asked::Pairs { username, realm } => {
                let whose = Whose { issuer, username: username.as_deref(), realm: realm.as_deref() };
                control.invalidate_pairs(&identity.caller, whose).await?
            }
        })
    }
}

/// What the body asks for. That it is missing is said before anything about its type.
async fn asked(headers: &HeaderMap, body: Body) -> Result<Asked, Wording> {
    let coded = media_type(headers, JSON);
    let bytes = whole(body).await.map_err(|fault| reply::worded(&fault))?;
    if bytes.is_empty() {
        return Err(error(400, "parse_exception", "request body is required"));
    }
    coded.map_err(|fault| reply::worded(&fault))?;
    request::read(&bytes)
}

/// The credential in `Authorization`: a token or a secret, or a name and its secret.
fn shown(headers: &HeaderMap) -> Shown {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let only = values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok());
    match only.and_then(|text| text.split_once(' ')) {
        Some((scheme, base64)) if ["basic", "apikey"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
            Shown::named(base64)
        }
        _ => Shown::bearer(headers),
    }
}

/// How many tokens; what failed only if something did.
fn tally(counts: &Counts) -> Value {
    let mut body = json!({
        "invalidated_tokens": counts.invalidated,
        "previously_invalidated_tokens": counts.previously,
        "error_count": counts.failed,
    });
    if let (1.., Some(members)) = (counts.failed, body.as_object_mut()) {
        let detail = |reason: &String| json!({ "type": "exception", "reason": reason });
        members.insert("error_details".to_owned(), counts.errors.iter().map(detail).collect());
    }
    body
}

fn introduction() -> Value {
    json!({
        "name": "portcullis",
        "cluster_name": "portcullis",
        "cluster_uuid": "_na_",
        "version": {
            "number": VERSION,
            "build_flavor": "default",
            "build_type": "unknown",
            "build_hash": "unknown",
            "build_date": "1970-01-01T00:00:00.000Z",
            "build_snapshot": false,
            "lucene_version": "9.12.0",
            "minimum_wire_compatibility_version": "7.17.0",
            "minimum_index_compatibility_version": "7.0.0",
        },
        "tagline": "You Know, for Search",
    })
}
