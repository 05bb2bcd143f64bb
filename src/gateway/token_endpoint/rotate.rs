//! A refresh token is good once (RFC 9700 §4.14). One that comes back ends its family, except within a grace, when it comes
//! from the same client: two tabs that refresh at once, a client whose answer was lost. They share one redemption and get
//! its very answer, so that no token ever has two successors.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use hyper::header::{AUTHORIZATION, HeaderMap, USER_AGENT};
use tokio::sync::watch;

use crate::admission::Stop;
use crate::domain::{Denial, TokenDigest};
use crate::gateway::Gateway;
use crate::gateway::refusal::{Refusal, UpstreamFault};
use crate::gateway::story::Story;
use crate::gateway::token_endpoint::flight::{Bearer, Boarding, outcome};
use crate::gateway::token_endpoint::flow::{Call, Redeeming, Visit, unwritten};
use crate::gateway::token_endpoint::kept::Kept;
use crate::gateway::token_endpoint::lesson::ended_by_reuse;
use crate::gateway::token_endpoint::request::TokenRequest;
use crate::gateway::token_endpoint::{ClientTrait, Rotation};
use crate::sessions::{Claim, End, Turn};

/// What came of a redemption, for all who wait for it.
pub(in crate::gateway) type Redeemed = Result<Kept, Refusal>;

impl Gateway {
    /// Redeems a refresh token, once, whoever else comes with it.
    pub(super) async fn rotate(
        self: &Arc<Self>,
        call: Call,
        redeeming: Redeeming,
        client: TokenDigest,
        story: &mut Story,
    ) -> Redeemed {
        let endpoint = &call.visit.endpoint;
        let claim = self.claim(&call.visit, &redeeming, client);
        if endpoint.rotation == Rotation::Observe {
            return self.observe(call, &redeeming, &claim, story).await;
        }
        let by = Bearer { client, text: claim.text };
        match self.flights.board(claim.digest, by, endpoint.grace_replays) {
            Boarding::Lead(tell) => {
                let told = tell.subscribe();
                let (gateway, mut story) = (self.clone(), story.clone());
                let redemption = async move { gateway.redeem(call, redeeming, claim, &mut story).await };
                self.flights.fly(claim.digest, tell, redemption);
                landed(told).await
            }
            Boarding::Join(told) => {
                self.metrics.token_endpoint(&endpoint.issuer_name, "joined");
                landed(told).await
            }
            Boarding::Contested => Err(self.reused(&call.visit, &redeeming).await),
            Boarding::Contended | Boarding::Crowded => Err(contended()),
        }
    }

    fn claim(&self, visit: &Visit, redeeming: &Redeeming, client: TokenDigest) -> Claim {
        let now = self.clock.now();
        let claims = redeeming.redeemable.claims();
        let facts = self.gate.issuer(&visit.endpoint.issuer);
        let lives = facts.as_ref().and_then(|facts| facts.max_refresh_token_lifetime);
        let leeway = facts.map(|facts| facts.leeway).unwrap_or_default();
        Claim {
            digest: claims.digest,
            text: digest([redeeming.token.expose().as_bytes()]),
            client,
            now,
            given_up_at: now.before(self.forwarding.timeouts.upstream),
            max_replays: visit.endpoint.grace_replays,
            expires_at: lives
                .map(|lives| now.after(lives).after(leeway))
                .max(claims.expires_at.map(|at| at.after(leeway))),
        }
    }

    /// Lets everything pass, and counts what would have been refused.
    async fn observe(
        self: &Arc<Self>,
        call: Call,
        redeeming: &Redeeming,
        claim: &Claim,
        story: &mut Story,
    ) -> Redeemed {
        match self.book.claim(&redeeming.token, *claim).await {
            Ok(Turn::Granted) => return self.exchange(call, Some(redeeming), Some(claim), story).await,
            Ok(Turn::Reused | Turn::Repeated(_)) => {
                self.metrics.token_endpoint(&call.visit.endpoint.issuer_name, "reused");
            }
            Ok(Turn::Forged | Turn::Contended) => {}
            Err(error) => tracing::warn!(%error, cause = error.source_text(), "a refresh token's use is not counted"),
        }
        self.exchange(call, Some(redeeming), None, story).await
    }

    async fn redeem(self: &Arc<Self>, call: Call, redeeming: Redeeming, claim: Claim, story: &mut Story) -> Redeemed {
        match self.book.claim(&redeeming.token, claim).await {
            Ok(Turn::Granted) => self.exchange(call, Some(&redeeming), Some(&claim), story).await,
            Ok(Turn::Repeated(answer)) => {
                self.metrics.token_endpoint(&call.visit.endpoint.issuer_name, "repeated");
                Kept::from_bytes(&answer).ok_or(Refusal::Upstream(UpstreamFault::Protocol))
            }
            Ok(Turn::Reused) => Err(self.reused(&call.visit, &redeeming).await),
            Ok(Turn::Contended) => Err(contended()),
            Ok(Turn::Forged) => Err(self.dead(&call.visit, Stop::Denied(Denial::Malformed))),
            Err(error) => {
                tracing::error!(%error, cause = error.source_text(), "a refresh token cannot be claimed");
                Err(unwritten())
            }
        }
    }

    /// Ends the family of a refresh token that came back. It is dead before its bearer hears of it.
    async fn reused(&self, visit: &Visit, redeeming: &Redeeming) -> Refusal {
        self.metrics.token_endpoint(&visit.endpoint.issuer_name, "reused");
        let claims = redeeming.redeemable.claims();
        let end = End {
            issuer: claims.issuer.clone(),
            what: ended_by_reuse(claims),
            reason: "a refresh token was used twice",
            address: visit.from.address,
        };
        match self.book.end_for(end).await {
            Ok(()) => self.dead(visit, Stop::Denied(Denial::Revoked)),
            Err(error) => {
                tracing::error!(%error, cause = error.source_text(), "a family whose token was used twice goes on");
                unwritten()
            }
        }
    }
}

/// Two texts say the same, and which of them the issuer signed is known when the first has its answer; or too many wait for
/// it. Whoever asks again in a moment is told.
const fn contended() -> Refusal {
    Refusal::Stopped { stop: Stop::Blind("the refresh token is being redeemed"), scope: None }
}

/// What came of the redemption that was waited for.
async fn landed(told: watch::Receiver<Option<Redeemed>>) -> Redeemed {
    outcome(told).await.unwrap_or(Err(Refusal::Upstream(UpstreamFault::Reset)))
}

/// What tells this client from others, digested: all that its endpoint asks for.
pub(super) fn client_of(visit: &Visit, headers: &HeaderMap, asked: &TokenRequest) -> TokenDigest {
    let header = |name| headers.get(name).map(|value: &hyper::header::HeaderValue| value.as_bytes().to_vec());
    let traits = visit.endpoint.same_client.iter().flat_map(|of| match of {
        ClientTrait::Address => vec![visit.from.address.map(|address| address.to_string().into_bytes())],
        ClientTrait::UserAgent => vec![header(USER_AGENT)],
        ClientTrait::Credentials => {
            vec![header(AUTHORIZATION), asked.credentials.map(|digest| digest.as_bytes().to_vec())]
        }
    });
    let parts: Vec<Vec<u8>> = traits.map(Option::unwrap_or_default).collect();
    digest(parts.iter().map(Vec::as_slice))
}

/// One digest of several parts, each with its length before it, so that none can run into the next.
fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> TokenDigest {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    TokenDigest::new(bytes)
}
