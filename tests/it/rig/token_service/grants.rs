//! What the token service has issued, and which of it is still good.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use crate::rig::Signer;
use crate::rig::keys::b64;

/// How a token is made.
#[derive(Clone, Debug)]
pub(crate) enum Make {
    /// A text without meaning and without dots.
    Opaque,
    /// A JWT of the usual issuer with these claims laid over the usual ones; `null` leaves one out.
    Jwt(Value),
}

/// What becomes of a refresh token that was used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rotation {
    /// It stays, and the answer names it again.
    Kept,
    /// It stays, and the answer does not name it (RFC 6749 §6).
    Unnamed,
    /// It stays good beside the new one.
    Added,
    /// It is used up; using it again takes the whole family along (RFC 9700 §4.14).
    Strict,
    /// It is used up; using it again answers the same successor.
    Forgiving,
}

/// How a token service works.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    pub(crate) access: Make,
    pub(crate) refresh: Make,
    pub(crate) rotation: Rotation,
    /// The reply's shape.
    pub(crate) reply: fn(&Issued) -> Value,
}

/// One answer's tokens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Issued {
    pub(crate) access: String,
    pub(crate) refresh: String,
    /// Whether the reply leaves the refresh token out.
    pub(crate) unnamed: bool,
    pub(crate) user: String,
    pub(crate) session: String,
    pub(crate) client: String,
    /// The refresh token it was redeemed for; none at a login.
    pub(crate) from: Option<String>,
}

impl Default for Manner {
    /// JWTs for access, opaque and rotating refresh tokens, replies as RFC 6749 §5.1 has them.
    fn default() -> Self {
        Self { access: Make::Jwt(json!({})), refresh: Make::Opaque, rotation: Rotation::Strict, reply: oauth2 }
    }
}

/// A reply after RFC 6749 §5.1.
pub(crate) fn oauth2(issued: &Issued) -> Value {
    let mut reply = json!({"token_type": "Bearer", "access_token": issued.access, "expires_in": 600, "scope": "read"});
    if !issued.unnamed {
        reply["refresh_token"] = json!(issued.refresh);
    }
    reply
}

/// The books of one service.
pub(super) struct Grants {
    manner: Manner,
    signer: Signer,
    issued: Vec<Issued>,
    used_up: HashSet<String>,
    dead_sessions: HashSet<String>,
    presented: HashMap<String, usize>,
}

impl Grants {
    pub(super) fn new(manner: Manner, signer: Signer) -> Self {
        Self {
            manner,
            signer,
            issued: Vec::new(),
            used_up: HashSet::new(),
            dead_sessions: HashSet::new(),
            presented: HashMap::new(),
        }
    }

    pub(super) fn reply(&self, issued: &Issued) -> Value {
        (self.manner.reply)(issued)
    }

    pub(super) fn issued(&self) -> &[Issued] {
        &self.issued
    }

    /// How often this refresh token was presented.
    pub(super) fn presented(&self, refresh: &str) -> usize {
        self.presented.get(identity(refresh)).copied().unwrap_or(0)
    }

    /// Ends a session as the service's own operator would.
    pub(super) fn end(&mut self, session: &str) {
        self.dead_sessions.insert(session.to_owned());
    }

    /// A new session of a user.
    pub(super) fn login(&mut self, user: &str, client: &str) -> Issued {
        let session = format!("session-{}", opaque());
        let (access, refresh) = (self.access(user, &session, client), self.refresh(user, &session, client));
        let (user, client) = (user.to_owned(), client.to_owned());
        self.note(Issued { access, refresh, unnamed: false, user, session, client, from: None })
    }

    /// What a refresh token is good for; `None` when it is not.
    pub(super) fn redeem(&mut self, refresh: &str) -> Option<Issued> {
        let refresh = identity(refresh).to_owned();
        *self.presented.entry(refresh.clone()).or_default() += 1;
        let of = self.issued.iter().find(|issued| identity(&issued.refresh) == refresh)?.clone();
        if self.dead_sessions.contains(&of.session) {
            return None;
        }
        if self.used_up.contains(&refresh) {
            return self.used_again(&of);
        }
        Some(self.renew(of, &refresh))
    }

    /// A used token comes back.
    fn used_again(&mut self, of: &Issued) -> Option<Issued> {
        if self.manner.rotation == Rotation::Forgiving {
            return self.issued.iter().find(|issued| issued.from.as_ref() == Some(&of.refresh)).cloned();
        }
        self.dead_sessions.insert(of.session.clone());
        None
    }

    fn renew(&mut self, of: Issued, identity: &str) -> Issued {
        let access = self.access(&of.user, &of.session, &of.client);
        let rotation = self.manner.rotation;
        let kept = matches!(rotation, Rotation::Kept | Rotation::Unnamed);
        let refresh = if kept { of.refresh.clone() } else { self.refresh(&of.user, &of.session, &of.client) };
        if matches!(rotation, Rotation::Strict | Rotation::Forgiving) {
            self.used_up.insert(identity.to_owned());
        }
        let unnamed = rotation == Rotation::Unnamed;
        self.note(Issued { access, from: Some(of.refresh), refresh, unnamed, ..of })
    }

    fn note(&mut self, issued: Issued) -> Issued {
        self.issued.push(issued.clone());
        issued
    }

    fn access(&self, user: &str, session: &str, client: &str) -> String {
        self.make(&self.manner.access, "at+jwt", claims(user, session, client))
    }

    fn refresh(&self, user: &str, session: &str, client: &str) -> String {
        let mut claims = claims(user, session, client);
        claims["typ"] = json!("Refresh");
        self.make(&self.manner.refresh, "JWT", claims)
    }

    fn make(&self, make: &Make, media_type: &str, mut claims: Value) -> String {
        let Make::Jwt(own) = make else { return opaque() };
        for (name, value) in own.as_object().unwrap() {
            claims[name] = value.clone();
        }
        self.signer.token_with(json!({ "typ": media_type }), claims).text
    }
}

fn claims(user: &str, session: &str, client: &str) -> Value {
    json!({"sub": user, "sid": session, "azp": client, "preferred_username": format!("{user}@example.com")})
}

/// What a lenient server knows a token by: of a JWT not the signature, which can be spelled in many ways.
fn identity(token: &str) -> &str {
    let token = token.trim();
    token.rmatch_indices('.').next().filter(|_| token.matches('.').count() == 2).map_or(token, |(at, _)| &token[..at])
}

/// A text nobody has seen before.
fn opaque() -> String {
    let mut bytes = [0; 24];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    b64(bytes)
}
