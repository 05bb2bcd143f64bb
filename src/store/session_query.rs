//! What a search for sessions means, in plain code: the in-memory store answers with it, and the others are tested
//! against it.

use std::cmp::Ordering;

use crate::domain::{Session, Timestamp};
use crate::store::{Cursor, SessionPage, SessionQuery, SortKey, SoughtDomain, Span};

/// The most sessions a page may have.
const MAX_PAGE: u32 = 1_000;

/// What a session is sorted by: `None`, the unknown, comes first.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum SortValue {
    /// A text, by its bytes.
    Text(Option<Box<str>>),
    /// A number.
    Number(Option<u64>),
}

impl SortValue {
    fn text(text: Option<&str>) -> Self {
        Self::Text(text.map(Into::into))
    }

    /// As a cursor writes it.
    fn written(self) -> Option<String> {
        match self {
            Self::Text(text) => text.map(String::from),
            Self::Number(number) => number.map(|number| number.to_string()),
        }
    }
}

impl SortKey {
    /// Whether it sorts by numbers.
    pub(super) const fn is_number(self) -> bool {
        matches!(self, Self::Created | Self::Updated | Self::Expires | Self::TokenExpires)
    }

    /// What `session` is sorted by.
    pub(super) fn value(self, session: &Session) -> SortValue {
        match self {
            Self::Id => SortValue::text(Some(&session.key.id)),
            Self::User => SortValue::text(session.user.as_deref()),
            Self::Username => SortValue::text(session.username.as_deref()),
            Self::Issuer => SortValue::text(Some(&session.key.issuer)),
            Self::Parent => SortValue::text(session.parent.as_deref()),
            Self::Domain => SortValue::text(session.domain.as_deref()),
            Self::Address => SortValue::text(session.address.as_deref()),
            Self::Type => SortValue::text(Some(session.kind.name())),
            Self::Created => SortValue::Number(Some(session.created_at.as_secs())),
            Self::Updated => SortValue::Number(Some(session.updated_at.as_secs())),
            Self::Expires => SortValue::Number(session.expires_at.map(Timestamp::as_secs)),
            Self::TokenExpires => SortValue::Number(session.token_expires_at.map(Timestamp::as_secs)),
        }
    }

    /// The cursor that stands on `session`.
    pub(super) fn cursor(self, session: &Session, number: u64) -> Cursor {
        Cursor { value: self.value(session).written(), number }
    }

    /// What a cursor's value means; a number that cannot be read counts as unknown.
    pub(super) fn read(self, cursor: &Cursor) -> SortValue {
        if self.is_number() {
            SortValue::Number(cursor.value.as_ref().and_then(|value| value.parse().ok()))
        } else {
            SortValue::text(cursor.value.as_deref())
        }
    }
}

impl Span {
    /// Whether `at` lies in it; what has no time lies in the whole of time only.
    fn holds(self, at: Option<Timestamp>) -> bool {
        self.since.is_none_or(|since| at.is_some_and(|at| at >= since))
            && self.until.is_none_or(|until| at.is_some_and(|at| at < until))
    }
}

impl SoughtDomain {
    /// Whether that is a session's.
    fn is(&self, own: Option<&str>) -> bool {
        match self {
            Self::Named(name) => own == Some(name),
            Self::Unknown => own.is_none(),
        }
    }
}

impl SessionQuery {
    /// How many sessions a page has.
    pub(super) fn limit(&self) -> usize {
        self.limit.clamp(1, MAX_PAGE) as usize
    }

    /// The keywords as they are compared; an empty one asks for nothing.
    pub(super) fn folded(&self) -> Vec<String> {
        self.keywords.iter().filter(|word| !word.is_empty()).map(|word| fold(word)).collect()
    }

    /// Whether `session` is asked for, the cursor aside.
    pub(super) fn wants(&self, session: &Session) -> bool {
        let is = |wanted: &Option<String>, own: Option<&str>| wanted.as_deref().is_none_or(|text| own == Some(text));
        is(&self.issuer, Some(&session.key.issuer))
            && is(&self.user, session.user.as_deref())
            && is(&self.username, session.username.as_deref())
            && is(&self.client, session.client.as_deref())
            && is(&self.parent, session.parent.as_deref())
            && self.domain.as_ref().is_none_or(|domain| domain.is(session.domain.as_deref()))
            && is(&self.address, session.address.as_deref())
            && self.kind.is_none_or(|kind| session.kind == kind)
            && self.state.is_none_or(|state| session.state(self.now) == state)
            && self.created.holds(Some(session.created_at))
            && self.updated.holds(Some(session.updated_at))
            && self.expires.holds(session.expires_at)
            && self.finds(session)
    }

    fn finds(&self, session: &Session) -> bool {
        let words = self.folded();
        let texts = || words_of(session).into_iter().flatten().chain(session.user_agent.as_deref());
        words.is_empty() || texts().map(fold).any(|text| words.iter().any(|word| text.contains(word)))
    }

    /// The page that `sessions`, each with its number, hold.
    pub(super) fn page<'a>(&self, sessions: impl Iterator<Item = (u64, &'a Session)>) -> SessionPage {
        let wanted = sessions.filter(|(_, session)| self.wants(session));
        let mut rows: Vec<_> = wanted.map(|(number, session)| (self.sort.value(session), number, session)).collect();
        let total = rows.len() as u64;
        rows.sort_by(|one, other| self.direct((&one.0, one.1).cmp(&(&other.0, other.1))));
        if let Some(cursor) = &self.after {
            let place = (self.sort.read(cursor), cursor.number);
            rows.retain(|row| self.direct((&row.0, row.1).cmp(&(&place.0, place.1))) == Ordering::Greater);
        }
        let rest = rows.iter().skip(usize::try_from(self.offset).unwrap_or(usize::MAX));
        let mut shown: Vec<_> = rest.take(self.limit() + 1).map(|(_, number, session)| (*number, *session)).collect();
        let follows = shown.len() > self.limit();
        shown.truncate(self.limit());
        let last = shown.last().filter(|_| follows);
        let next = last.map(|(number, session)| self.sort.cursor(session, *number));
        SessionPage { items: shown.into_iter().map(|(_, session)| session.clone()).collect(), total, next }
    }

    const fn direct(&self, order: Ordering) -> Ordering {
        if self.descending { order.reverse() } else { order }
    }
}

/// What of a session keywords are looked for in, the user agent aside.
pub(super) fn words_of(session: &Session) -> [Option<&str>; 4] {
    let Session { key, username, address, domain, .. } = session;
    [Some(&key.id), username.as_deref(), address.as_deref(), domain.as_deref()]
}

/// A text as keywords are compared with it: letter by letter in lower case, and without control characters, so that a
/// store may put one between texts.
pub(super) fn fold(text: &str) -> String {
    let visible = text.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter });
    visible.flat_map(char::to_lowercase).collect()
}
