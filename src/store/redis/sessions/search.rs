//! Searching sessions. What a search asks of one field is a stretch of a sorted set, and counting its members costs next to
//! nothing. So there are two ways, and the cheaper is gone:
//!
//! - *In order*: along the sorted set of the sort, from the cursor on, until the page is full. Only if the total is known by
//!   counting: nothing is asked, or one thing.
//! - *Through the narrowest*: every session of the shortest stretch is read and held against the plain rule; what belongs
//!   on the page is kept aside.
//!
//! The second reads as many sessions as the stretch has: a search for a keyword alone, or for two things that each hold of
//! very many, reads them all. It is spread over many short scripts, so that nobody else waits for more than one of them;
//! but a million sessions are some hundred megabytes to send and take seconds, and `store.timeout` may end it.

use std::collections::{BinaryHeap, HashSet};

use crate::domain::{Session, SessionState, SessionType};
use crate::store::redis::connection::Connection;
use crate::store::redis::sessions::order::{Index, Range, place};
use crate::store::redis::sessions::page::{Held, Page, counts, sessions};
use crate::store::session_query::SortValue;
use crate::store::{SessionPage, SessionQuery, SortKey, SoughtDomain, StoreError};

/// How many sessions are read at once; few in tests, which thus turn pages.
const CHUNK: usize = if cfg!(test) { 7 } else { 500 };

/// A page of sessions, and how many there are in all.
pub(super) async fn search(connection: &Connection, query: &SessionQuery) -> Result<SessionPage, StoreError> {
    let plan = Plan::of(connection, query).await?;
    match plan {
        Plan::Nothing => Ok(SessionPage { items: Vec::new(), total: 0, next: None }),
        Plan::InOrder { total, within } => in_order(connection, query, total, within).await,
        Plan::Through(range) => through(connection, query, range).await,
    }
}

/// How a search goes.
#[derive(Debug)]
enum Plan {
    /// Nothing can match.
    Nothing,
    /// In the order of the sort, within that stretch of it; so many match in all.
    InOrder { total: u64, within: Range },
    /// Through all of a stretch.
    Through(Range),
}

impl Plan {
    async fn of(connection: &Connection, query: &SessionQuery) -> Result<Self, StoreError> {
        let sort = Range::all(Index::By(query.sort));
        let ranges = ranges(query);
        let asked = [sort.clone(), Range::all(Index::Ended), expired(query, Index::By(SortKey::Expires))];
        let asked = [&asked[..], &[expired(query, Index::Ended)], &ranges].concat();
        let counts = counts(connection, &asked).await?;
        let [all, ended, expired, ended_expired, each @ ..] = &counts[..] else { return Ok(Self::Nothing) };
        let narrowest = ranges.iter().zip(each).min_by_key(|(_, count)| **count);
        if *all == 0 || narrowest.is_some_and(|(_, count)| *count == 0) {
            return Ok(Self::Nothing);
        }
        let in_state = query.state.map(|state| match state {
            SessionState::Revoked => *ended,
            SessionState::Expired => expired.saturating_sub(*ended_expired),
            SessionState::Active => all.saturating_sub(ended + expired.saturating_sub(*ended_expired)),
        });
        let total = match (query.folded().is_empty(), in_state, each) {
            (true, None, []) => Some(*all),
            (true, Some(count), []) => Some(count),
            (true, None, [count]) => Some(*count),
            _ => None,
        };
        let narrow = match query.state {
            Some(SessionState::Revoked) => Some((Range::all(Index::Ended), *ended)),
            Some(SessionState::Expired) => Some((self::expired(query, Index::By(SortKey::Expires)), *expired)),
            Some(SessionState::Active) | None => None,
        };
        let narrowest = narrowest.map(|(range, count)| (range.clone(), *count));
        let narrowest = narrowest.into_iter().chain(narrow).min_by_key(|(_, count)| *count);
        Ok(Self::choose(query, *all, total, sort, narrowest))
    }

    fn choose(
        query: &SessionQuery,
        all: u64,
        total: Option<u64>,
        sort: Range,
        narrowest: Option<(Range, u64)>,
    ) -> Self {
        let (range, count) = match (total, narrowest) {
            (Some(0), _) => return Self::Nothing,
            (Some(total), None) => return Self::InOrder { total, within: sort },
            (Some(total), Some((range, _))) if range.index == sort.index => {
                return Self::InOrder { total, within: range };
            }
            (_, Some(narrowest)) => narrowest,
            (None, None) => (sort.clone(), all),
        };
        let shown = query.offset.saturating_add(query.limit() as u64);
        match total {
            // As many as would be read in order before the page is full, if what is sought is spread evenly.
            Some(total) if shown.saturating_mul(all / total) < count => Self::InOrder { total, within: sort },
            _ => Self::Through(range),
        }
    }
}

fn expired(query: &SessionQuery, index: Index) -> Range {
    Range::upto(index, query.now)
}

/// The stretches of sorted sets that a query asks for; what it asks beyond them is a state and keywords.
fn ranges(query: &SessionQuery) -> Vec<Range> {
    let text = |index, text: &Option<String>| {
        text.as_deref().map(|text| Range::of(index, &SortValue::Text(Some(text.into()))))
    };
    let domain = query.domain.as_ref().map(|domain| match domain {
        SoughtDomain::Named(name) => SortValue::Text(Some(name.as_str().into())),
        SoughtDomain::Unknown => SortValue::Text(None),
    });
    let kind = query.kind.map(SessionType::name).map(|name| SortValue::Text(Some(name.into())));
    let by = Index::By;
    let ranges = [
        text(by(SortKey::Issuer), &query.issuer),
        text(by(SortKey::User), &query.user),
        text(by(SortKey::Username), &query.username),
        text(Index::Client, &query.client),
        text(by(SortKey::Parent), &query.parent),
        domain.map(|domain| Range::of(by(SortKey::Domain), &domain)),
        text(by(SortKey::Address), &query.address),
        kind.map(|kind| Range::of(by(SortKey::Type), &kind)),
        Range::within(by(SortKey::Created), query.created),
        Range::within(by(SortKey::Updated), query.updated),
        Range::within(by(SortKey::Expires), query.expires),
    ];
    ranges.into_iter().flatten().collect()
}

/// Along the order of the sort, until the page is full.
async fn in_order(
    connection: &Connection,
    query: &SessionQuery,
    total: u64,
    within: Range,
) -> Result<SessionPage, StoreError> {
    let wanted = query.limit() + 1;
    // Where every member matches, those left out need not be read.
    let all_match = query.state.is_none() && ranges(query).iter().all(|range| *range == within);
    let mut skipped = if all_match { query.offset } else { 0 };
    let mut left_out = query.offset - skipped;
    let mut range = Some(match &query.after {
        Some(cursor) => cut(within, &place(&query.sort.read(cursor), cursor.number), query.descending),
        None => within,
    });
    let mut shown: Vec<Held> = Vec::new();
    while let Some(within) = range.take() {
        let limit = if all_match { wanted.min(2 * CHUNK) } else { CHUNK };
        let page = Page { descending: query.descending, offset: skipped, ..Page::of(&within, limit) };
        let (some, last) = sessions(connection, &page).await?;
        skipped = 0;
        for held in some.into_iter().filter(|held| query.wants(&held.session)) {
            match left_out {
                0 => shown.push(held),
                _ => left_out -= 1,
            }
        }
        range = last.filter(|_| shown.len() < wanted).map(|last| within.beyond(&last, query.descending));
    }
    let rows = shown.into_iter().map(|held| (held.number, held.session));
    Ok(cut_off(query, rows.collect(), total))
}

/// What is left of a range beyond a place.
fn cut(range: Range, place: &[u8], descending: bool) -> Range {
    let (bound, edge) = if descending { (&range.max, b'+') } else { (&range.min, b'-') };
    let inside = match &bound[..] {
        [sign] if *sign == edge => true,
        [_, bytes @ ..] if descending => place < bytes,
        [_, bytes @ ..] => place >= bytes,
        [] => true,
    };
    if inside { range.beyond(place, descending) } else { range }
}

/// A session found, as it is sorted.
type Place = (SortValue, u64);

/// Through every session of a stretch.
async fn through(connection: &Connection, query: &SessionQuery, range: Range) -> Result<SessionPage, StoreError> {
    let mut found = Found::new(query);
    let mut range = Some(range);
    while let Some(within) = range.take() {
        let (some, last) = sessions(connection, &Page::of(&within, CHUNK)).await?;
        some.into_iter().for_each(|held| found.see(held));
        range = last.map(|last| within.beyond(&last, false));
    }
    Ok(found.page())
}

/// What was found so far: of what belongs on the page or before it, the places; of all, how many.
struct Found<'a> {
    query: &'a SessionQuery,
    after: Option<Place>,
    /// So many places are kept.
    most: usize,
    /// The last of them on top.
    places: BinaryHeap<Sorted>,
    /// A session that moves while we read is met twice.
    seen: HashSet<u64>,
    total: u64,
}

struct Sorted {
    descending: bool,
    place: Place,
    session: Session,
}

impl Found<'_> {
    fn new(query: &SessionQuery) -> Found<'_> {
        let most = usize::try_from(query.offset).unwrap_or(usize::MAX).saturating_add(query.limit() + 1);
        let after = query.after.as_ref().map(|cursor| (query.sort.read(cursor), cursor.number));
        Found { query, after, most, places: BinaryHeap::new(), seen: HashSet::new(), total: 0 }
    }

    fn see(&mut self, Held { number, session, .. }: Held) {
        if !self.query.wants(&session) || !self.seen.insert(number) {
            return;
        }
        self.total += 1;
        let place = (self.query.sort.value(&session), number);
        let beyond =
            self.after.as_ref().is_none_or(|after| if self.query.descending { place < *after } else { place > *after });
        if beyond {
            self.places.push(Sorted { descending: self.query.descending, place, session });
            if self.places.len() > self.most {
                self.places.pop();
            }
        }
    }

    fn page(self) -> SessionPage {
        let offset = usize::try_from(self.query.offset).unwrap_or(usize::MAX);
        let rows = self.places.into_sorted_vec().into_iter().skip(offset);
        cut_off(self.query, rows.map(|row| (row.place.1, row.session)).collect(), self.total)
    }
}

impl Ord for Sorted {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let order = self.place.cmp(&other.place);
        if self.descending { order.reverse() } else { order }
    }
}

impl PartialOrd for Sorted {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Sorted {}

impl PartialEq for Sorted {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

/// The page of these rows, of which one too many tells that there are more.
fn cut_off(query: &SessionQuery, mut rows: Vec<(u64, Session)>, total: u64) -> SessionPage {
    let follows = rows.len() > query.limit();
    rows.truncate(query.limit());
    let last = rows.last().filter(|_| follows);
    let next = last.map(|(number, session)| query.sort.cursor(session, *number));
    SessionPage { items: rows.into_iter().map(|(_, session)| session).collect(), total, next }
}
