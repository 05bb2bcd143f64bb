//! A revocation that ends sessions also names each known one of them: a session that is named is dead however far its
//! issuer's clock runs ahead, and what was opened from it dies with it.
//!
//! The sessions are read after the revocation stands here, so that none slips through between. What is named is lifted with
//! the revocation that it was named for, unless somebody asked for it by itself. Naming again what is named changes nothing.

use std::collections::HashSet;

use crate::control::order::{Order, new_id};
use crate::control::revoke::TOGETHER;
use crate::control::{Caller, Control, ControlError};
use crate::domain::{
    Cutoff, Disposition, Name, Position, Reach, Revocation, Selector, Session, SessionKey, SessionState, Timestamp,
};
use crate::store::{SessionQuery, SortKey, Span};

/// How many sessions are read at once.
const PAGE: u32 = 1_000;

/// How many sessions each order ended, and where the log stood then.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) ended: Vec<usize>,
    /// How many open exchanges each cut by what it named.
    pub(super) cut: Vec<usize>,
    pub(super) position: Position,
}

/// Which known sessions a revocation ends.
pub(super) enum Ends {
    /// None that could be told from the others.
    Nothing,
    /// This one, and what was opened from it.
    Session(SessionKey),
    /// A user's, as many as the query finds.
    User(Box<SessionQuery>),
}

impl Ends {
    pub(super) fn of(revocation: &Revocation, now: Timestamp) -> Self {
        let selector = &revocation.selector;
        if !revocation.reach.covers(Reach::LOGIN) {
            return Self::Nothing;
        }
        if let Some(key) = selector.session() {
            return Self::Session(key);
        }
        let value = |name: &Name| selector.value(name).map(str::to_owned);
        let (user, username) = (value(&Name::User), value(&Name::Username));
        let told = |name: &Name| matches!(name, Name::Issuer | Name::User | Name::Username | Name::Client);
        if user.or(username).is_none() || !selector.parts().all(|(name, _)| told(name)) {
            return Self::Nothing;
        }
        Self::User(Box::new(SessionQuery {
            issuer: value(&Name::Issuer),
            user: value(&Name::User),
            username: value(&Name::Username),
            client: value(&Name::Client),
            created: Span { since: None, until: revocation.cutoff.readmits_from() },
            // No session moves in the order of ids while page after page is read.
            sort: SortKey::Id,
            now,
            limit: PAGE,
            ..SessionQuery::default()
        }))
    }
}

impl Control {
    /// Names the sessions that these orders end. They must stand already, and our own index must show them.
    pub(super) async fn name_sessions(&self, caller: &Caller, orders: &[Order]) -> Result<Named, ControlError> {
        let mut naming = Naming::new(self, caller, orders.len());
        for (at, order) in orders.iter().enumerate() {
            match Ends::of(&order.revocation, self.clock.now()) {
                Ends::Nothing => {}
                Ends::Session(key) => naming.opened_from(at, order, &key).await?,
                Ends::User(query) => naming.found(at, order, *query).await?,
            }
        }
        naming.finish().await
    }

    /// Names what the order would end but for the sessions in `kept`; the order itself is not carried out.
    pub(super) async fn name_all_but(
        &self,
        caller: &Caller,
        order: &Order,
        kept: HashSet<SessionKey>,
    ) -> Result<Named, ControlError> {
        let mut naming = Naming { kept, ..Naming::new(self, caller, 1) };
        if let Ends::User(query) = Ends::of(&order.revocation, self.clock.now()) {
            naming.found(0, order, *query).await?;
        }
        naming.finish().await
    }

    /// How many active sessions a revocation would end.
    pub(super) async fn would_end(&self, revocation: &Revocation) -> Result<usize, ControlError> {
        let now = self.clock.now();
        match Ends::of(revocation, now) {
            Ends::Nothing => Ok(0),
            Ends::User(query) => {
                let query = SessionQuery { state: Some(SessionState::Active), limit: 1, ..*query };
                let found = self.read(self.sessions.sessions(&query)).await?;
                Ok(usize::try_from(found.total).unwrap_or(usize::MAX))
            }
            Ends::Session(key) => {
                let below = self.read(self.sessions.descendants(&key)).await?;
                let mut active = 0;
                for key in std::iter::once(&key).chain(&below) {
                    let known = self.read(self.sessions.session(key)).await?;
                    active += usize::from(known.is_some_and(|known| known.session.state(now) == SessionState::Active));
                }
                Ok(active)
            }
        }
    }
}

/// Sessions being named, some thousand in a transaction.
struct Naming<'a> {
    control: &'a Control,
    caller: &'a Caller,
    kept: HashSet<SessionKey>,
    /// Whose they are, and what is to be written.
    waiting: Vec<(usize, Revocation)>,
    /// The selectors among them.
    taken: HashSet<Selector>,
    named: Named,
}

impl<'a> Naming<'a> {
    fn new(control: &'a Control, caller: &'a Caller, orders: usize) -> Self {
        let named = Named { ended: vec![0; orders], cut: vec![0; orders], position: Position::START };
        Self { control, caller, kept: HashSet::new(), waiting: Vec::new(), taken: HashSet::new(), named }
    }

    /// Names all that the query finds, page by page, each with what was opened from it.
    async fn found(&mut self, at: usize, order: &Order, mut query: SessionQuery) -> Result<(), ControlError> {
        // Some client's tokens in a session are not the session: it goes on, and so does what was opened from it.
        let whole = query.client.is_none();
        loop {
            let page = self.control.read(self.control.sessions.sessions(&query)).await?;
            for session in page.items.iter().filter(|session| lasts(session, query.now)) {
                self.name(at, order, &session.key, session.expires_at).await?;
                if whole {
                    self.below(at, order, &session.key).await?;
                }
            }
            query.after = page.next;
            if query.after.is_none() {
                return Ok(());
            }
        }
    }

    /// Names what was opened from the session that the order names, and counts that one if it was the order that ended it.
    async fn opened_from(&mut self, at: usize, order: &Order, key: &SessionKey) -> Result<(), ControlError> {
        let known = self.control.read(self.control.sessions.session(key)).await?;
        let end = known.and_then(|known| known.session.ended);
        if end.is_some_and(|end| end.revocation == order.revocation.id) {
            self.count(at);
        }
        self.below(at, order, key).await
    }

    async fn below(&mut self, at: usize, order: &Order, key: &SessionKey) -> Result<(), ControlError> {
        for key in self.control.read(self.control.sessions.descendants(key)).await? {
            let known = self.control.read(self.control.sessions.session(&key)).await?;
            if let Some(known) = known.filter(|known| lasts(&known.session, self.control.clock.now())) {
                self.name(at, order, &key, known.session.expires_at).await?;
            }
        }
        Ok(())
    }

    async fn name(
        &mut self,
        at: usize,
        order: &Order,
        key: &SessionKey,
        lasts: Option<Timestamp>,
    ) -> Result<(), ControlError> {
        // An id that no selector can hold is covered by the order itself, as far as it can be.
        let Some(selector) = order.revocation.naming(key) else { return Ok(()) };
        if self.kept.contains(key) || !self.taken.insert(selector.clone()) {
            return Ok(());
        }
        let retention = || self.control.session_retention(&key.issuer, lasts, order.revocation.created_at);
        let revocation = Revocation {
            id: new_id()?,
            selector,
            reach: Reach::LOGIN,
            cutoff: Cutoff::Absolute,
            expires_at: order.until.or_else(retention),
            named_for: Some(order.revocation.selector.clone()),
            ..order.revocation.clone()
        };
        self.waiting.push((at, revocation));
        if self.waiting.len() >= TOGETHER { self.write().await } else { Ok(()) }
    }

    /// Writes what waits, and counts the sessions that were not named before.
    async fn write(&mut self) -> Result<(), ControlError> {
        self.taken.clear();
        let (whose, revocations): (Vec<_>, Vec<_>) = self.waiting.drain(..).unzip();
        if revocations.is_empty() {
            return Ok(());
        }
        let appended = self.control.commit(self.control.batch(self.caller, revocations)).await?;
        self.named.position = self.named.position.max(appended.position);
        for (at, disposition) in whose.into_iter().zip(appended.dispositions) {
            if let Disposition::Created(held) = disposition {
                self.count(at);
                let cut = self.control.live.cut_by(held.revocation.id);
                self.named.cut.get_mut(at).into_iter().for_each(|sum| *sum += cut);
            }
        }
        Ok(())
    }

    fn count(&mut self, at: usize) {
        if let Some(ended) = self.named.ended.get_mut(at) {
            *ended += 1;
        }
    }

    async fn finish(mut self) -> Result<Named, ControlError> {
        self.write().await?;
        Ok(self.named)
    }
}

/// Whether any token of it may still be good by itself.
fn lasts(session: &Session, now: Timestamp) -> bool {
    session.expires_at.is_none_or(|expires_at| now < expires_at)
}

impl Revocation {
    /// The selector by which this revocation names a session: of one client alone, where it is about that client.
    pub(super) fn naming(&self, key: &SessionKey) -> Option<Selector> {
        let session = [(Name::Issuer, key.issuer.to_string()), (Name::Session, key.id.to_string())];
        let client = self.selector.value(&Name::Client).map(|client| (Name::Client, client.to_owned()));
        Selector::new(session.into_iter().chain(client)).ok()
    }
}
