//! One named token: revoked and readmitted as often as its owner likes, or gone. Onezone, where there is one, says whose it
//! is and is told first; without it only who may revoke anything may revoke that, and everybody the very token in hand.
//!
//! What somebody else revoked is not the owner's to lift, whoever came first. What was deleted comes back by nobody's word
//! here.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request, State};
use axum::http::Method;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::admin::extract::JsonBody;
use crate::admin::onezone::asker::{Asker, Asking};
use crate::admin::onezone::reply::{
    self, ErrorDocument, PathId, Refusal, forbidden, identifier, not_found, refused, worded,
};
use crate::admin::onezone::temporary::told_no;
use crate::admin::onezone::upstream::{Trouble, Upstream};
use crate::admin::onezone::{Onezone, State as Shared};
use crate::control::Control;
use crate::domain::wording::onezone;
use crate::domain::{Recorded, Right};

/// What is to be different about a named token.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(super) struct Change {
    /// Whether it is revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<bool>,
    /// What else Onezone knows of it.
    #[serde(flatten)]
    #[schema(ignore)]
    other: Map<String, Value>,
}

/// Revoke or readmit a named token
#[utoipa::path(patch, path = "/api/v3/onezone/tokens/named/{id}", tag = "onezone", request_body = Change,
    params(("id" = String, Path, description = "The token's id")),
    responses((status = 204, description = "It is so"),
        (status = 400, description = "Something in the request is wrong", body = ErrorDocument),
        (status = 401, description = "Nobody, or nobody we know", body = ErrorDocument),
        (status = 403, description = "Neither the owner nor an administrator", body = ErrorDocument),
        (status = 404, description = "Nothing has that id", body = ErrorDocument),
        (status = 415, description = "The body must be JSON", body = ErrorDocument),
        (status = 503, description = "Not all of it could be done; ask again", body = ErrorDocument)))]
pub(super) async fn change(State(onezone): State<Shared>, id: PathId, request: Request) -> Response {
    reply::done(onezone.change(id, request).await)
}

/// Delete a named token
#[utoipa::path(delete, path = "/api/v3/onezone/tokens/named/{id}", tag = "onezone",
    params(("id" = String, Path, description = "The token's id")),
    responses((status = 204, description = "It is gone, and dead"),
        (status = 400, description = "That is no id", body = ErrorDocument),
        (status = 401, description = "Nobody, or nobody we know", body = ErrorDocument),
        (status = 403, description = "Neither the owner nor an administrator", body = ErrorDocument),
        (status = 404, description = "Nothing has that id", body = ErrorDocument),
        (status = 503, description = "Not all of it could be done; ask again", body = ErrorDocument)))]
pub(super) async fn remove(State(onezone): State<Shared>, id: PathId, request: Request) -> Response {
    reply::done(onezone.remove(id, Asking::of(&request)).await)
}

impl Onezone {
    async fn change(&self, id: PathId, request: Request) -> Result<(), Refusal> {
        let asker = self.asker(Asking::of(&request)).await?;
        let changed = self.changed_by(&asker, id, request).await;
        self.noted(&asker, changed).await
    }

    async fn remove(&self, id: PathId, asking: Asking) -> Result<(), Refusal> {
        let asker = self.asker(asking).await?;
        let removed = self.removed_by(&asker, id).await;
        self.noted(&asker, removed).await
    }

    async fn changed_by(&self, asker: &Asker, id: PathId, request: Request) -> Result<(), Refusal> {
        let id = identifier(id)?;
        let body = JsonBody::<Change>::from_request(request, &()).await;
        let JsonBody(change) = body.map_err(|fault| worded(&fault, None))?;
        let text = serde_json::to_vec(&change).map(Bytes::from).unwrap_or_default();
        match change.revoked {
            Some(true) => self.revoke_one(asker, &id, text).await,
            Some(false) => self.readmit(asker, &id, text).await,
            None => match &self.upstream {
                Some(upstream) => self.told(upstream, asker, &id, (Method::PATCH, Some(text))).await?.map_err(told_no),
                None => {
                    let details = serde_json::json!({ "key": "revoked" });
                    let text = "Missing required value: revoked.";
                    Err(Box::new(onezone::error(400, "missingRequiredValue", text, Some(details))))
                }
            },
        }
    }

    async fn revoke_one(&self, asker: &Asker, id: &str, text: Bytes) -> Result<(), Refusal> {
        let told = self.told_first(asker, id, (Method::PATCH, Some(text))).await?;
        let owner = (!asker.may_revoke()).then(|| asker.name());
        let revoked = self.admin.control.revoke_named(&asker.entitled(), self.whole(id), owner).await;
        revoked.map_err(refused)?;
        told.map_err(told_no)
    }

    async fn removed_by(&self, asker: &Asker, id: PathId) -> Result<(), Refusal> {
        let id = identifier(id)?;
        let told = self.told_first(asker, &id, (Method::DELETE, None)).await?;
        let deleted = self.admin.control.delete_named(&asker.entitled(), self.whole(&id)).await;
        deleted.map_err(refused)?;
        told.map_err(told_no)
    }

    /// Tells Onezone, where there is one, before something is taken back here; what is returned is for that to go on. When
    /// Onezone is silent, who may revoke without asking it goes on all the same.
    async fn told_first(
        &self,
        asker: &Asker,
        id: &str,
        call: (Method, Option<Bytes>),
    ) -> Result<Result<(), Trouble>, Refusal> {
        let alone = asker.may_revoke() || asker.holds(id);
        let Some(upstream) = &self.upstream else {
            if !alone {
                self.allowed(asker, None, Right::SessionsRevoke).await?;
            }
            return Ok(Ok(()));
        };
        match self.told(upstream, asker, id, call).await? {
            Err(trouble @ Trouble::Refused(_)) => Err(told_no(trouble)),
            Err(trouble @ Trouble::Silent) if !alone => Err(told_no(trouble)),
            told => Ok(told),
        }
    }

    /// Readmits it there and here: first it is seen whether the caller may, so that the two never disagree.
    async fn readmit(&self, asker: &Asker, id: &str, text: Bytes) -> Result<(), Refusal> {
        let (control, caller) = (&self.admin.control, asker.entitled());
        if control.is_deleted(&caller, self.whole(id)).await.map_err(refused)? {
            return Err(not_found());
        }
        let standing = control.standing_over(&caller, &self.settings.mount.issuer, id).await.map_err(refused)?;
        let own = Control::right_of(&self.settings.mount.issuer, id, asker.name()).ok();
        let is_own = |held: &Recorded| own.is_some() && held.revocation.named_for == own;
        if !standing.iter().all(|held| asker.may_revoke() || is_own(held)) {
            return Err(Box::new(forbidden(Some("somebody else revoked this token"))));
        }
        match &self.upstream {
            Some(upstream) => self.told(upstream, asker, id, (Method::PATCH, Some(text))).await?.map_err(told_no)?,
            // Whose it is, only what its owner did tells here.
            None if standing.is_empty() && !asker.holds(id) => {
                self.allowed(asker, None, Right::SessionsRevoke).await?;
            }
            None => {}
        }
        for held in standing {
            control.lift(&caller, held.revocation.id, None).await.map_err(refused)?;
        }
        Ok(())
    }

    fn whole<'a>(&'a self, id: &'a str) -> (&'a str, &'a str) {
        (&self.settings.mount.issuer, id)
    }

    /// Tells Onezone in the caller's name; for callers it does not know, only what they may do by our own configuration.
    async fn told(
        &self,
        upstream: &Upstream,
        asker: &Asker,
        id: &str,
        (method, body): (Method, Option<Bytes>),
    ) -> Result<Result<(), Trouble>, Refusal> {
        if asker.token.is_none() {
            self.allowed(asker, None, Right::SessionsRevoke).await?;
        }
        let Some(token) = upstream.speaking_for(asker.token.as_ref()) else {
            return Err(Box::new(forbidden(Some("the gateway has no token of its own by which to tell Onezone"))));
        };
        Ok(upstream.named(method, token, id, body).await)
    }
}
