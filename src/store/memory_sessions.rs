//! The inventory of the in-memory store: each rule of the port at its plainest, by walking over everything.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use async_trait::async_trait;

use crate::domain::{Ending, Recorded, SeenToken, Session, SessionEnd, SessionKey, Timestamp, TokenDigest};
use crate::store::memory::{MemoryLog, Table};
use crate::store::memory_passwords::Kept;
use crate::store::redemption::{Effect, Redemption};
use crate::store::session_end::{Swept, end_by, naming, naming_session};
use crate::store::{
    Claim, Claimed, KnownToken, Learned, Lesson, Login, MAX_DESCENDANTS, Redeemed, SESSION_TOKENS, SessionPage,
    SessionQuery, SessionRecord, SessionTable, SessionToken, Sighting, StoreError, TOKEN_PAGE, UNSEEN_RETENTION,
};

/// Sessions, by the number in which they were first learned; their tokens; which refresh tokens were used.
#[derive(Default)]
pub(super) struct Inventory {
    numbers: HashMap<SessionKey, u64>,
    sessions: BTreeMap<u64, Session>,
    last: u64,
    /// A row a token and session, in the order in which they were learned.
    tokens: HashMap<TokenDigest, Vec<TokenRow>>,
    redemptions: HashMap<TokenDigest, Redemption>,
    pub(super) passwords: Kept,
}

struct TokenRow {
    session: SessionKey,
    family: Option<Box<str>>,
    token: SeenToken,
    seen_at: Timestamp,
}

impl TokenRow {
    /// Takes over what a later account of the same token in the same session tells.
    fn learn(&mut self, later: Self) {
        self.family = self.family.take().or(later.family);
        self.token.token_id = self.token.token_id.take().or(later.token.token_id);
        self.token.issued_at = self.token.issued_at.or(later.token.issued_at);
        self.token.expires_at = self.token.expires_at.max(later.token.expires_at);
        self.seen_at = self.seen_at.max(later.seen_at);
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.token.expires_at.unwrap_or_else(|| self.seen_at.after(UNSEEN_RETENTION)) <= now
    }
}

impl Inventory {
    fn session(&self, key: &SessionKey) -> Option<&Session> {
        self.sessions.get(self.numbers.get(key)?)
    }

    fn see(&mut self, row: TokenRow) {
        let rows = self.tokens.entry(row.token.digest).or_default();
        match rows.iter_mut().find(|held| held.session == row.session) {
            Some(held) => held.learn(row),
            None => rows.push(row),
        }
    }

    fn redeemed(&mut self, redeemed: Redeemed, now: Timestamp) {
        let rows = self.tokens.get(&redeemed.digest);
        let expires_at = rows.and_then(|rows| rows.iter().filter_map(|row| row.token.expires_at).max());
        let unclaimed = || Redemption::unclaimed(now, expires_at);
        let held = self.redemptions.entry(redeemed.digest).or_insert_with(unclaimed);
        held.answered = true;
        held.sealed = redeemed.sealed;
        held.grace_until = Some(redeemed.grace_until);
    }

    fn tokens_of<'a>(&'a self, key: &'a SessionKey) -> impl Iterator<Item = &'a TokenRow> {
        self.tokens.values().flatten().filter(move |row| row.session == *key)
    }

    fn record(&self, key: &SessionKey) -> Option<SessionRecord> {
        let session = self.session(key)?.clone();
        let mut tokens: Vec<SeenToken> = self.tokens_of(key).map(|row| row.token.clone()).collect();
        tokens.sort_by_key(|token| std::cmp::Reverse((token.issued_at, token.digest)));
        tokens.truncate(SESSION_TOKENS);
        Some(SessionRecord { session, tokens })
    }

    fn tokens(&self, key: &SessionKey, after: Option<&SeenToken>) -> Vec<SessionToken> {
        let place = |token: &SeenToken| (token.issued_at, token.digest);
        let beyond = |row: &&TokenRow| after.is_none_or(|after| place(&row.token) > place(after));
        let rows = self.tokens_of(key).filter(beyond);
        let mut tokens: Vec<SessionToken> =
            rows.map(|row| SessionToken { token: row.token.clone(), family: row.family.clone() }).collect();
        tokens.sort_by_key(|row| place(&row.token));
        tokens.truncate(TOKEN_PAGE);
        tokens
    }

    fn known(&self, digest: TokenDigest) -> Option<KnownToken> {
        let rows = self.tokens.get(&digest)?;
        let first = rows.first()?;
        Some(KnownToken {
            kind: first.token.kind,
            token_id: rows.iter().find_map(|row| row.token.token_id.clone()),
            issued_at: rows.iter().find_map(|row| row.token.issued_at),
            expires_at: rows.iter().filter_map(|row| row.token.expires_at).max(),
            logins: self.logins(rows),
        })
    }

    /// The logins of a token, the first learned first.
    fn logins(&self, rows: &[TokenRow]) -> Vec<Login> {
        let mut rows: Vec<&TokenRow> = rows.iter().collect();
        rows.sort_by_key(|row| self.numbers.get(&row.session));
        rows.into_iter().filter_map(|row| self.login(row)).collect()
    }

    fn login(&self, row: &TokenRow) -> Option<Login> {
        let session = self.session(&row.session)?;
        Some(Login {
            session: session.key.clone(),
            family: row.family.clone(),
            user: session.user.clone(),
            username: session.username.clone(),
            client: session.client.clone(),
        })
    }

    fn descendants(&self, key: &SessionKey) -> Vec<SessionKey> {
        let (mut found, mut seen) = (Vec::new(), HashSet::from([key.clone()]));
        let mut parents = VecDeque::from([key.clone()]);
        while let Some(parent) = parents.pop_front() {
            let of_it = |session: &&Session| {
                session.key.issuer == parent.issuer && session.parent.as_deref() == Some(&*parent.id)
            };
            for child in self.sessions.values().filter(of_it).map(|session| &session.key) {
                if found.len() < MAX_DESCENDANTS && seen.insert(child.clone()) {
                    found.push(child.clone());
                    parents.push_back(child.clone());
                }
            }
        }
        found
    }

    fn claim(&mut self, claim: &Claim) -> Claimed {
        let held = self.redemptions.get_mut(&claim.digest);
        let (claimed, effect) = Redemption::judge(held.as_deref(), claim);
        match (effect, held) {
            (Effect::Take, _) => drop(self.redemptions.insert(claim.digest, Redemption::claimed(claim))),
            (Effect::Count, Some(held)) => held.replays += 1,
            _ => {}
        }
        claimed
    }

    fn release(&mut self, digest: TokenDigest) {
        if let Slot::Occupied(held) = self.redemptions.entry(digest)
            && !held.get().answered
        {
            held.remove();
        }
    }

    fn prolong(&mut self, until: Timestamp) {
        let sealed = self.redemptions.values_mut().filter(|held| held.sealed.is_some());
        sealed.for_each(|held| held.grace_until = held.grace_until.max(Some(until)));
    }

    fn tidy(&mut self, now: Timestamp) -> u64 {
        let over = |held: &&mut Redemption| held.sealed.is_some() && held.grace_until.is_none_or(|until| until <= now);
        let mut gone = 0;
        self.redemptions.values_mut().filter(over).for_each(|held| {
            held.sealed = None;
            gone += 1;
        });
        let before = self.redemptions.len();
        self.redemptions.retain(|_, held| held.expires_at.is_none_or(|expires_at| expires_at > now));
        gone += (before - self.redemptions.len()) as u64;
        gone += self.passwords.forget(now);
        gone += self.forget_tokens(|row| row.is_over(now));
        gone + self.forget_sessions(now)
    }

    fn forget_tokens(&mut self, over: impl Fn(&TokenRow) -> bool) -> u64 {
        let count = |tokens: &HashMap<_, Vec<_>>| tokens.values().map(Vec::len).sum::<usize>() as u64;
        let before = count(&self.tokens);
        self.tokens.values_mut().for_each(|rows| rows.retain(|row| !over(row)));
        self.tokens.retain(|_, rows| !rows.is_empty());
        before - count(&self.tokens)
    }

    /// A session whose tokens are not all over stays, so that these are known for what they are.
    fn forget_sessions(&mut self, now: Timestamp) -> u64 {
        let over = |session: &Session| {
            session.expires_at.unwrap_or_else(|| session.updated_at.after(UNSEEN_RETENTION)) <= now
                && self.tokens_of(&session.key).next().is_none()
        };
        let numbered = self.sessions.iter().filter(|(_, session)| over(session));
        let gone: Vec<_> = numbered.map(|(number, session)| (*number, session.key.clone())).collect();
        for (number, key) in &gone {
            self.sessions.remove(number);
            self.numbers.remove(key);
        }
        gone.len() as u64
    }
}

impl Table {
    /// Carries what became of a revocation over to the sessions: ended by it, or no more.
    pub(super) fn sweep(&mut self, held: &Recorded, is_new: bool, now: Timestamp) {
        match &held.ending {
            None if is_new => self.end(held),
            None | Some(Ending::Superseded(_)) => {}
            Some(Ending::Lifted(_)) => self.lifted(held, now),
        }
    }

    fn end(&mut self, held: &Recorded) {
        let Some(swept) = Swept::of(&held.revocation) else { return };
        let sessions = self.inventory.sessions.values_mut();
        let going = sessions.filter(|session| session.ended.is_none() && swept.holds(session));
        going.for_each(|session| session.ended = Some(end_by(&held.revocation)));
    }

    fn lifted(&mut self, held: &Recorded, now: Timestamp) {
        let lifted = self.with_superseded(held.revocation.id);
        let by_it = |session: &&Session| session.ended.as_ref().is_some_and(|end| lifted.contains(&end.revocation));
        let freed: Vec<SessionKey> =
            self.inventory.sessions.values().filter(by_it).map(|session| session.key.clone()).collect();
        for key in freed {
            let ended =
                self.inventory.session(&key).and_then(|session| self.standing_end(session, naming(session), now));
            self.change(&key, |session| session.ended = ended);
        }
    }

    /// How `session` is ended by what stands for one of these selectors.
    fn standing_end(&self, session: &Session, selectors: Vec<String>, now: Timestamp) -> Option<SessionEnd> {
        let standing = selectors.iter().flat_map(|selector| self.unended(selector)).filter(|held| held.stands(now));
        let mut sweeping = standing.map(|held| held.revocation);
        sweeping.find(|held| Swept::of(held).is_some_and(|swept| swept.holds(session))).as_ref().map(end_by)
    }

    fn change(&mut self, key: &SessionKey, change: impl FnOnce(&mut Session)) {
        let number = self.inventory.numbers.get(key);
        if let Some(session) = number.and_then(|number| self.inventory.sessions.get_mut(number)) {
            change(session);
        }
    }

    /// Takes over what was told of a session; whether it was new.
    fn tell(&mut self, told: Session) -> bool {
        if self.inventory.numbers.contains_key(&told.key) {
            self.change(&told.key.clone(), |session| session.learn(told));
            return false;
        }
        let named = naming_session(&told.key.issuer, &told.key.id).into_iter().collect();
        let ended = self.standing_end(&told, named, told.updated_at);
        self.inventory.last += 1;
        self.inventory.numbers.insert(told.key.clone(), self.inventory.last);
        self.inventory.sessions.insert(self.inventory.last, Session { ended, ..told });
        true
    }

    fn learn(&mut self, lesson: Lesson) -> Learned {
        let (key, now) = (lesson.session.key.clone(), lesson.session.updated_at);
        let is_new = self.tell(lesson.session);
        for token in lesson.tokens {
            let row = TokenRow { session: key.clone(), family: Some(lesson.family.clone()), token, seen_at: now };
            self.inventory.see(row);
        }
        if let Some(redeemed) = lesson.redeemed {
            self.inventory.redeemed(redeemed, now);
        }
        Learned { is_new, parent_ended: self.parent_ended(&key, now) }
    }

    /// Whether the session it was opened from has been ended, known or not.
    fn parent_ended(&self, key: &SessionKey, now: Timestamp) -> bool {
        let parent = self.inventory.session(key).and_then(|session| session.parent.clone());
        let Some(id) = parent else { return false };
        let parent = SessionKey { issuer: key.issuer.clone(), id };
        let ended = self.inventory.session(&parent).is_some_and(|parent| parent.ended.is_some());
        let named = naming_session(&parent.issuer, &parent.id).into_iter().collect();
        ended || self.standing_end(&Session::new(parent, now), named, now).is_some()
    }

    fn touch(&mut self, sightings: Vec<Sighting>) -> Vec<SessionKey> {
        let mut new = Vec::new();
        for Sighting { session, token } in sightings {
            let (key, seen_at) = (session.key.clone(), session.updated_at);
            if self.tell(session) {
                new.push(key.clone());
            }
            if let Some(token) = token {
                self.inventory.see(TokenRow { session: key, family: None, token, seen_at });
            }
        }
        new
    }
}

#[async_trait]
impl SessionTable for MemoryLog {
    async fn learn(&self, lesson: Lesson) -> Result<Learned, StoreError> {
        self.with(|table| table.learn(lesson))
    }

    async fn known(&self, digest: TokenDigest) -> Result<Option<KnownToken>, StoreError> {
        self.with(|table| table.inventory.known(digest))
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.with(|table| table.inventory.claim(&claim))
    }

    async fn release(&self, digest: TokenDigest) -> Result<(), StoreError> {
        self.with(|table| table.inventory.release(digest))
    }

    async fn touch(&self, sightings: Vec<Sighting>) -> Result<Vec<SessionKey>, StoreError> {
        self.with(|table| table.touch(sightings))
    }

    async fn sessions(&self, query: &SessionQuery) -> Result<SessionPage, StoreError> {
        self.with(|table| query.page(table.inventory.sessions.iter().map(|(number, session)| (*number, session))))
    }

    async fn session(&self, key: &SessionKey) -> Result<Option<SessionRecord>, StoreError> {
        self.with(|table| table.inventory.record(key))
    }

    async fn tokens(&self, key: &SessionKey, after: Option<&SeenToken>) -> Result<Vec<SessionToken>, StoreError> {
        self.with(|table| table.inventory.tokens(key, after))
    }

    async fn descendants(&self, key: &SessionKey) -> Result<Vec<SessionKey>, StoreError> {
        self.with(|table| table.inventory.descendants(key))
    }

    async fn tidy(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.with(|table| table.inventory.tidy(now))
    }

    async fn prolong(&self, until: Timestamp) -> Result<(), StoreError> {
        self.with(|table| table.inventory.prolong(until))
    }
}
