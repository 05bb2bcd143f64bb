//! All temporary tokens of a user at once, and which generation of them is the first that passes.
//!
//! Onezone is told before our own revocation is made, so that a "no" of its leaves nothing behind; but when it falls silent
//! what is known to be over is revoked here all the same, and the answer, 503, says how far that goes. Asking again does no
//! harm: nobody counts but Onezone, or we where there is none.
//!
//! Where we count, each call moves on by one at least, and beyond every generation that is known to be about: the caller's
//! own, those of tokens seen in the user's sessions, and those the secret vouched for since this replica started. Of a
//! generation that nobody showed here nothing is known: whoever hands out temporary tokens must read it here.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::json;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::admin::Fault;
use crate::admin::onezone::asker::{Asker, Asking};
use crate::admin::onezone::reply::{self, ErrorDocument, PathId, Refusal, identifier, refused, unavailable, worded};
use crate::admin::onezone::upstream::{Trouble, Upstream};
use crate::admin::onezone::{Onezone, State as Shared};
use crate::control::Caller;
use crate::domain::{Right, Timestamp};

/// How long a call waits for its turn to count.
const TURN: Duration = Duration::from_secs(10);

/// Which temporary tokens of a user pass.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(super) struct Generation {
    /// The generation of those that do; any before it do not.
    #[schema(example = 3)]
    generation: u64,
}

/// Which of the caller's own temporary tokens pass
#[utoipa::path(get, path = "/api/v3/onezone/user/tokens/temporary", tag = "onezone",
    responses((status = 200, description = "The generation that passes", body = Generation),
        (status = 401, description = "Nobody, or nobody we know", body = ErrorDocument),
        (status = 403, description = "The caller is no user", body = ErrorDocument)))]
pub(super) async fn show_own(State(onezone): State<Shared>, request: Request) -> Response {
    reply::shown(onezone.show(Asking::of(&request), None).await)
}

/// Which of a user's temporary tokens pass
#[utoipa::path(get, path = "/api/v3/onezone/users/{id}/tokens/temporary", tag = "onezone",
    params(("id" = String, Path, description = "The user's id")),
    responses((status = 200, description = "The generation that passes", body = Generation),
        (status = 401, description = "Nobody, or nobody we know", body = ErrorDocument),
        (status = 400, description = "That is no id", body = ErrorDocument),
        (status = 403, description = "Neither the user nor an administrator", body = ErrorDocument)))]
pub(super) async fn show(State(onezone): State<Shared>, id: PathId, request: Request) -> Response {
    reply::shown(onezone.show(Asking::of(&request), Some(id)).await)
}

/// Revoke the caller's own temporary tokens
#[utoipa::path(delete, path = "/api/v3/onezone/user/tokens/temporary", tag = "onezone",
    responses((status = 204, description = "They are revoked, the caller's own perhaps among them"),
        (status = 401, description = "Nobody, or nobody we know", body = ErrorDocument),
        (status = 403, description = "The caller is no user", body = ErrorDocument),
        (status = 503, description = "Not all of it could be done; ask again", body = ErrorDocument)))]
pub(super) async fn revoke_own(State(onezone): State<Shared>, request: Request) -> Response {
    reply::done(onezone.revoke(Asking::of(&request), None).await)
}

/// Revoke a user's temporary tokens
#[utoipa::path(delete, path = "/api/v3/onezone/users/{id}/tokens/temporary", tag = "onezone",
    params(("id" = String, Path, description = "The user's id")),
    responses((status = 204, description = "They are revoked; so they are when there were none"),
        (status = 401, description = "Nobody, or nobody we know", body = ErrorDocument),
        (status = 400, description = "That is no id", body = ErrorDocument),
        (status = 403, description = "Neither the user nor an administrator", body = ErrorDocument),
        (status = 503, description = "Not all of it could be done; ask again", body = ErrorDocument)))]
pub(super) async fn revoke(State(onezone): State<Shared>, id: PathId, request: Request) -> Response {
    reply::done(onezone.revoke(Asking::of(&request), Some(id)).await)
}

impl Onezone {
    async fn show(&self, asking: Asking, id: Option<PathId>) -> Result<Generation, Refusal> {
        let asker = self.asker(asking).await?;
        let shown = self.shown_to(&asker, id).await;
        self.noted(&asker, shown).await
    }

    async fn revoke(&self, asking: Asking, id: Option<PathId>) -> Result<(), Refusal> {
        let asker = self.asker(asking).await?;
        let revoked = self.revoked_by(&asker, id).await;
        self.noted(&asker, revoked).await
    }

    async fn shown_to(&self, asker: &Asker, id: Option<PathId>) -> Result<Generation, Refusal> {
        let user = whose(asker, id)?;
        let caller = self.allowed(asker, Some(&user), Right::SessionsRead).await?;
        let ours = self.generation_here(&caller, &user).await?;
        let speaking =
            self.upstream.as_ref().and_then(|upstream| Some((upstream, upstream.speaking_for(asker.token.as_ref())?)));
        let theirs = match speaking {
            Some((upstream, token)) => upstream.generation(token, &user).await.map_err(told_no)?,
            None => ours,
        };
        Ok(Generation { generation: ours.max(theirs) })
    }

    async fn revoked_by(&self, asker: &Asker, id: Option<PathId>) -> Result<(), Refusal> {
        let user = whose(asker, id)?;
        let caller = self.allowed(asker, Some(&user), Right::SessionsRevoke).await?;
        let Some(upstream) = &self.upstream else { return self.count_on(&caller, asker, &user).await };
        let ours = self.generation_here(&caller, &user).await?;
        match moved_on(upstream, asker, &user).await? {
            Moved::To(first) => self.revoke_before(&caller, &user, first).await,
            Moved::Perhaps(least) => {
                let first = least.unwrap_or(ours).max(ours);
                if first > ours {
                    self.revoke_before(&caller, &user, first).await?;
                }
                Err(unavailable("Onezone could not be told; ask again.", Some(json!({ "refusedBelow": first }))))
            }
        }
    }

    /// Moves on the generation that is counted here, beyond what stands and whatever is known to be about.
    async fn count_on(&self, caller: &Caller, asker: &Asker, user: &str) -> Result<(), Refusal> {
        let Ok(Ok(_turn)) = timeout(TURN, self.counting.acquire()).await else {
            return Err(unavailable("Too many ask for this at once; ask again.", None));
        };
        let issuer = &self.settings.mount.issuer;
        let known = [
            Some(self.generation_here(caller, user).await?),
            self.admin.control.seen_generation(caller, issuer, user).await.map_err(refused)?,
            self.admin.verifier.load().highest_generation(issuer, user),
            own_generation(asker, user),
        ];
        let last = known.into_iter().flatten().max().unwrap_or_default();
        self.revoke_before(caller, user, last.saturating_add(1).min(Timestamp::MAX.as_secs())).await
    }

    async fn generation_here(&self, caller: &Caller, user: &str) -> Result<u64, Refusal> {
        let issuer = &self.settings.mount.issuer;
        self.admin.control.generation(caller, issuer, user).await.map_err(refused)
    }

    async fn revoke_before(&self, caller: &Caller, user: &str, first: u64) -> Result<(), Refusal> {
        let whose = (&*self.settings.mount.issuer, user);
        self.admin.control.revoke_temporary(caller, whose, first, None).await.map(|_| ()).map_err(refused)
    }
}

/// Where Onezone's generations are after it was told.
enum Moved {
    /// The first that passes.
    To(u64),
    /// Nobody knows; but those before this one, if any is known, are over or shall be.
    Perhaps(Option<u64>),
}

async fn moved_on(upstream: &Upstream, asker: &Asker, user: &str) -> Result<Moved, Refusal> {
    let Some(token) = upstream.speaking_for(asker.token.as_ref()) else {
        return Err(Box::new(reply::forbidden(Some("the gateway has no token of its own by which to tell Onezone"))));
    };
    match upstream.move_on(token, user).await {
        Ok(first) => Ok(Moved::To(first)),
        Err((Trouble::Refused(wording), _)) => Err(wording),
        Err((Trouble::Silent, known)) => {
            let own = own_generation(asker, user).map(|generation| generation + 1);
            Ok(Moved::Perhaps(known.max(own)))
        }
    }
}

/// Of which generation of the user's the token is that the caller shows.
fn own_generation(asker: &Asker, user: &str) -> Option<u64> {
    asker.generation().filter(|_| asker.user() == Some(user))
}

/// The user a call is about: the one named, or the caller.
fn whose(asker: &Asker, id: Option<PathId>) -> Result<String, Refusal> {
    match id {
        Some(id) => identifier(id),
        None => asker.user().map(str::to_owned).ok_or_else(|| worded(&Fault::Ownerless, None)),
    }
}

/// What is said when Onezone says no, or nothing.
pub(super) fn told_no(trouble: Trouble) -> Refusal {
    match trouble {
        Trouble::Refused(wording) => wording,
        Trouble::Silent => unavailable("Onezone cannot be asked just now.", None),
    }
}
