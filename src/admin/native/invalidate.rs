//! Tokens by their text, for callers who hold tokens and know nothing of claims: texts in, counts out. No answer repeats a
//! token; an error says which one it is about by its place in the request.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::door::Access;
use crate::admin::extract::{JsonBody, Parameters};
use crate::admin::fault::ItemError;
use crate::admin::native::Calls;
use crate::admin::native::spread::{Spread, Wait};
use crate::admin::native::wire::{outcome, token_of};
use crate::admin::{Admin, Fault, Identity};
use crate::control::{Receipt, Revoke, Target};
use crate::domain::{Position, Right};

pub(super) fn calls(calls: Calls) -> Calls {
    calls.add(__path_invalidate, Access::Needs(Right::SessionsRevoke), invalidate)
}

/// Tokens to invalidate: at least one, in any of the members.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"token": "eyJhbGciOi…"}))]
struct InvalidateBody {
    /// An access token.
    token: Option<String>,
    /// A refresh token.
    refresh_token: Option<String>,
    /// Tokens of any kind.
    #[serde(default)]
    tokens: Vec<String>,
    /// Why, for the audit trail.
    reason: Option<String>,
}

/// How many were invalidated.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Invalidated {
    /// Tokens that are dead from now on.
    invalidated: usize,
    /// Tokens that were dead before.
    previously_invalidated: usize,
    /// How many open exchanges of this replica were cut: streams, uploads, tunnels, requests under way.
    cut: usize,
    /// What could not be invalidated, and why.
    errors: Vec<ItemError>,
}

/// How many were invalidated, and how far that has come.
#[derive(Debug, Serialize, ToSchema)]
struct InvalidatedEverywhere {
    #[serde(flatten)]
    counts: Invalidated,
    #[serde(flatten)]
    spread: Spread,
}

/// How it is to be carried out.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct InvalidateParameters {
    /// Whose word the answer waits for: this replica's, or every live one's.
    #[serde(default)]
    #[param(inline)]
    wait: Wait,
    /// How long to wait for other replicas, as `500ms` or `2s`; at most `60s`. Default: `2s`.
    #[param(example = "2s")]
    timeout: Option<String>,
}

/// Invalidate tokens
///
/// 200 when any was; 400 when none could be, with the errors. When the store cannot keep one of them the answer is 503, and the
/// same call may be made again.
#[utoipa::path(post, path = "/v1/invalidate", tag = "revocations", params(InvalidateParameters),
    request_body = InvalidateBody,
    responses((status = 200, description = "How many were invalidated", body = InvalidatedEverywhere)))]
async fn invalidate(
    State(admin): State<Arc<Admin>>,
    identity: Identity,
    Parameters(parameters): Parameters<InvalidateParameters>,
    JsonBody(body): JsonBody<InvalidateBody>,
) -> Result<Json<InvalidatedEverywhere>, Fault> {
    let asked = parameters.wait.ask(parameters.timeout.as_deref(), &admin)?;
    let mut counts = Invalidated::default();
    let (places, commands) = body.into_commands(&mut counts.errors)?;
    let receipts = admin.control.revoke_all(&identity.caller, commands).await;
    let mut position = Position::START;
    for (at, receipt) in places.into_iter().zip(receipts) {
        position = position.max(receipt.as_ref().map_or(position, |receipt| receipt.position));
        counts.count(at, receipt.map_err(Fault::from))?;
    }
    if counts.invalidated + counts.previously_invalidated == 0 {
        return Err(Fault::AllInvalid(counts.errors));
    }
    let spread = Spread::of(&admin, &asked, position).await;
    Ok(Json(InvalidatedEverywhere { counts, spread }))
}

impl InvalidateBody {
    /// A command for each token that is one, with its place; the others become errors.
    fn into_commands(self, errors: &mut Vec<ItemError>) -> Result<(Vec<String>, Vec<Revoke>), Fault> {
        let (token, refresh_token) = (self.token.into_iter(), self.refresh_token.into_iter());
        let named = token.map(|text| ("token".to_owned(), text));
        let named = named.chain(refresh_token.map(|text| ("refresh_token".to_owned(), text)));
        let many = self.tokens.into_iter().enumerate().map(|(at, text)| (format!("tokens[{at}]"), text));
        let (mut places, mut commands) = (Vec::new(), Vec::new());
        for (at, text) in named.chain(many) {
            match token_of(&text) {
                Ok(token) => {
                    places.push(at);
                    let (target, reason) = (Target::Token(token), self.reason.clone());
                    commands.push(Revoke { target, reach: None, cutoff: None, block: false, reason, expires_at: None });
                }
                Err(fault) => errors.push(ItemError { at, error: fault.detail() }),
            }
        }
        if commands.is_empty() && errors.is_empty() {
            return Err(Fault::Invalid("expected token, refresh_token or tokens".to_owned()));
        }
        Ok((places, commands))
    }
}

impl Invalidated {
    fn count(&mut self, at: String, receipt: Result<Receipt, Fault>) -> Result<(), Fault> {
        match receipt {
            Ok(receipt) if outcome(&receipt).is_some_and(|(_, new)| new) => {
                self.invalidated += 1;
                self.cut += receipt.cut;
            }
            Ok(_) => self.previously_invalidated += 1,
            Err(fault @ Fault::Invalid(_)) => self.errors.push(ItemError { at, error: fault.detail() }),
            // Not about the token: the store, or the caller's rights. Success must not be half true.
            Err(fault) => return Err(fault),
        }
        Ok(())
    }
}
