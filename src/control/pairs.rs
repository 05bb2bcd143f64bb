//! All tokens of a user or of a realm taken back and counted in pairs: what one answer of a token endpoint handed out, an
//! access token and the refresh token beside it.
//!
//! A pair counts while one of its halves is active, and then both halves count: a dead one as dead before, any other as
//! taken back now, an access token that has expired meanwhile too. Only what the inventory knows can be counted; each
//! session found is ended by name. With a username alone, its cut-off takes what nobody knows as well.

use std::time::Duration;

use crate::control::end::about;
use crate::control::invalidate::Counts;
use crate::control::order::require;
use crate::control::sessions::token_claims;
use crate::control::{Caller, Control, ControlError};
use crate::domain::{Claims, InvalidSelector, Right, SeenToken, Session, SessionState, Timestamp, TokenKind};
use crate::store::{SessionQuery, SessionToken, SortKey, SoughtDomain};
use crate::verify::IssuerFacts;

/// How many sessions are read, and ended, at once.
const PAGE: u32 = 1_000;
/// How long a refresh token is active that nobody says more of.
const REFRESH_LIFE: Duration = Duration::from_secs(24 * 3_600);
/// How many failures are told one by one.
const MAX_ERRORS: usize = 100;
/// The longest name of a user or a realm, in bytes.
const MAX_NAME_BYTES: usize = 1_024;

/// Whose tokens. All that is said must be so.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    /// The issuer, by its configured name or its `iss`.
    pub issuer: &'a str,
    /// The name people know the user by.
    pub username: Option<&'a str>,
    /// The part of the issuer: where a login did not tell, the issuer's configured name.
    pub realm: Option<&'a str>,
}

impl Control {
    /// Takes back every pair of a user, of a realm, or of a user in a realm. What fails for some is counted.
    ///
    /// # Errors
    ///
    /// As [`Self::revoke`]; [`ControlError::Store`] when nothing could be taken back, or not the user's unknown tokens.
    pub async fn invalidate_pairs(&self, caller: &Caller, whose: Whose<'_>) -> Result<Counts, ControlError> {
        if let Err(refusal) = require(caller, Right::SessionsRevoke) {
            return Err(self.refused(caller, "revoke", "sessions", refusal).await);
        }
        let facts = self.tokens.issuer(whose.issuer).ok_or_else(|| self.unknown(whose.issuer))?;
        self.announce_pairs(caller, &facts, whose).await?;
        let mut sweep = Sweep { control: self, caller, counts: Counts::default(), failure: None };
        for query in whose.queries(&facts, self.clock.now()) {
            sweep.walk(query).await?;
        }
        if let (Some(username), None) = (whose.username, whose.realm) {
            self.revoke(caller, about(&[("issuer", &facts.issuer), ("username", username)], None)).await?;
        }
        sweep.finish()
    }

    /// Writes down what was asked for before anything is done: it may name nobody, or very many.
    async fn announce_pairs(&self, caller: &Caller, facts: &IssuerFacts, whose: Whose<'_>) -> Result<(), ControlError> {
        let mut subject = serde_json::Map::from_iter([("issuer".to_owned(), facts.issuer.to_string().into())]);
        for (name, value) in [("username", whose.username), ("domain", whose.realm)] {
            let Some(value) = value else { continue };
            if value.len() > MAX_NAME_BYTES {
                return Err(InvalidSelector::Value(name.to_owned()).into());
            }
            subject.insert(name.to_owned(), value.into());
        }
        let subject = serde_json::Value::from(subject).to_string();
        let mut record = self.record(caller, self.clock.now(), "revoke", subject, None);
        record.result = "attempted".to_owned();
        Ok(self.audit.record(vec![record]).await?)
    }
}

impl Whose<'_> {
    /// What finds their sessions.
    fn queries(&self, facts: &IssuerFacts, now: Timestamp) -> Vec<SessionQuery> {
        let domains = match self.realm {
            None => vec![None],
            Some(realm) => {
                let unknown = (*realm == *facts.name).then_some(Some(SoughtDomain::Unknown));
                [Some(SoughtDomain::Named(realm.to_owned()))].into_iter().chain(unknown).collect()
            }
        };
        let query = |domain| SessionQuery {
            issuer: Some(facts.issuer.to_string()),
            username: self.username.map(str::to_owned),
            domain,
            state: Some(SessionState::Active),
            // No session moves in the order of ids while page after page is read.
            sort: SortKey::Id,
            now,
            limit: PAGE,
            ..SessionQuery::default()
        };
        domains.into_iter().map(query).collect()
    }
}

/// Sessions being ended, a page after the other.
struct Sweep<'a> {
    control: &'a Control,
    caller: &'a Caller,
    counts: Counts,
    /// The first failure of the store; nothing is tried after it.
    failure: Option<ControlError>,
}

impl Sweep<'_> {
    async fn walk(&mut self, mut query: SessionQuery) -> Result<(), ControlError> {
        while self.failure.is_none() {
            let page = self.control.read(self.control.sessions.sessions(&query)).await?;
            self.end(&page.items).await?;
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Ends those sessions of a page in which a pair is active.
    async fn end(&mut self, page: &[Session]) -> Result<(), ControlError> {
        let (mut orders, mut found) = (Vec::new(), Vec::new());
        for session in page {
            let pairs = self.control.active_pairs(session).await?;
            if pairs.is_nothing() {
                continue;
            }
            let command = about(&[("issuer", &session.key.issuer), ("session", &session.key.id)], None);
            match self.control.ordered(self.caller, command).await {
                Ok(order) => {
                    orders.push(order);
                    found.push(pairs);
                }
                Err(error) => self.failed(&pairs, error),
            }
        }
        if orders.is_empty() {
            return Ok(());
        }
        match self.control.carry_out(self.caller, orders).await {
            Ok(receipts) => receipts.zip(found).for_each(|(receipt, pairs)| match receipt {
                Ok(_) => self.done(&pairs),
                Err(error) => self.failed(&pairs, error),
            }),
            Err(error) => {
                found.iter().for_each(|pairs| self.failed(pairs, error.once_more()));
                self.failure.get_or_insert(error);
            }
        }
        Ok(())
    }

    const fn done(&mut self, pairs: &Counts) {
        self.counts.invalidated += pairs.invalidated;
        self.counts.previously += pairs.previously;
    }

    fn failed(&mut self, pairs: &Counts, error: ControlError) {
        self.counts.failed += pairs.invalidated;
        self.counts.previously += pairs.previously;
        if self.counts.errors.len() < MAX_ERRORS {
            self.counts.errors.push(error.to_string());
        }
    }

    /// What came of it; an error when nothing did, so that it is asked for again.
    fn finish(self) -> Result<Counts, ControlError> {
        match self.failure {
            Some(error) if self.counts.invalidated == 0 => Err(error),
            _ => Ok(self.counts),
        }
    }
}

/// One token of a pair.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Half {
    is_live: bool,
    is_active: bool,
}

/// The tokens of one session that were issued in one second.
#[derive(Debug, Default)]
struct Second {
    issued_at: Option<Timestamp>,
    access: Vec<Half>,
    refresh: Vec<Half>,
}

impl Control {
    /// The halves of a session's active pairs, by whether they are dead.
    async fn active_pairs(&self, session: &Session) -> Result<Counts, ControlError> {
        let now = self.clock.now();
        let (mut counts, mut second) = (Counts::default(), Second::default());
        let mut after: Option<SeenToken> = None;
        loop {
            let page = self.read(self.sessions.tokens(&session.key, after.as_ref())).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.token.clone());
            for seen in &page {
                if seen.token.issued_at != second.issued_at {
                    std::mem::take(&mut second).count(&mut counts);
                    second.issued_at = seen.token.issued_at;
                }
                second.add(seen.token.kind, self.half(session, seen, now));
            }
        }
        second.count(&mut counts);
        Ok(counts)
    }

    fn half(&self, session: &Session, seen: &SessionToken, now: Timestamp) -> Half {
        let token = &seen.token;
        let claims = Claims { family: seen.family.clone(), ..token_claims(session, token) };
        let is_live = !self.index.covers(&claims, now);
        let assumed = || token.issued_at.filter(|_| token.kind == TokenKind::Refresh).map(|at| at.after(REFRESH_LIFE));
        let is_over = token.expires_at.or_else(assumed).is_some_and(|ends| ends <= now);
        Half { is_live, is_active: is_live && !is_over }
    }
}

impl Second {
    fn add(&mut self, kind: TokenKind, half: Half) {
        match kind {
            TokenKind::Access => self.access.push(half),
            TokenKind::Refresh => self.refresh.push(half),
            // Belongs to no login.
            TokenKind::ApiKey => {}
        }
    }

    /// Counts the pairs. Of several in one second nobody knows which belong together: the dead with the dead is most
    /// likely, for what was taken back one by one was taken back whole.
    fn count(mut self, counts: &mut Counts) {
        self.access.sort_unstable();
        self.refresh.sort_unstable();
        let pairs = self.access.len().max(self.refresh.len());
        for at in 0..pairs {
            let halves = [self.access.get(at), self.refresh.get(at)].into_iter().flatten();
            if halves.clone().any(|half| half.is_active) {
                halves.for_each(|half| counts.count(!half.is_live));
            }
        }
    }
}
