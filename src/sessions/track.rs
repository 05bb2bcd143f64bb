//! What ordinary requests tell of sessions, on the request's path: as good as nothing. A token that was told of a
//! moment ago costs a look at one cache line; another goes to a bounded queue, and is dropped and counted when that is
//! full.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::domain::{Claims, SeenToken, Session, SessionKey, Timestamp, TokenDigest, TokenKind};
use crate::sessions::Settings;
use crate::store::Sighting;
use crate::telemetry::Metrics;

/// How many tokens are remembered as told of: half a mebibyte. With more in use some are told of more often than need
/// be.
const SLOTS: usize = 1 << 16;
/// How many slots a token may take: those of one cache line's half, so that few tokens drive each other out.
const WAYS: usize = 4;
/// How much is kept of a user agent.
const USER_AGENT_BYTES: usize = 256;

/// How a request came.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// From where.
    pub address: Option<IpAddr>,
    /// Its `User-Agent`, as it stood there.
    pub user_agent: Option<&'a [u8]>,
    /// When.
    pub now: Timestamp,
}

/// Takes note of the sessions that requests belong to. One for the process, whatever is reloaded.
#[derive(Debug)]
pub struct Tracker {
    track: AtomicBool,
    every_secs: AtomicU64,
    /// Each holds some bits of a token's digest and the period in which it was told of. Nothing is published through
    /// them, so their order with other memory does not matter; a race tells of a token twice.
    slots: Box<[AtomicU64]>,
    queue: mpsc::Sender<Sighting>,
    metrics: Arc<Metrics>,
}

/// What waits to be written.
#[derive(Debug)]
pub struct Sightings(pub(super) mpsc::Receiver<Sighting>);

impl Tracker {
    /// A tracker, and what it tells. The queue's length stays as it is now.
    #[must_use]
    pub fn new(settings: &Settings, metrics: Arc<Metrics>) -> (Arc<Self>, Sightings) {
        let (queue, sightings) = mpsc::channel(settings.queue.max(1));
        let slots = std::iter::repeat_with(AtomicU64::default).take(SLOTS).collect();
        let (track, every_secs) = (AtomicBool::default(), AtomicU64::default());
        let tracker = Self { track, every_secs, slots, queue, metrics };
        tracker.configure(settings);
        (Arc::new(tracker), Sightings(sightings))
    }

    /// Takes over other settings, except the queue's length.
    pub fn configure(&self, settings: &Settings) {
        self.track.store(settings.track, Ordering::Relaxed);
        self.every_secs.store(settings.every.as_secs().max(1), Ordering::Relaxed);
    }

    /// A request came with this token and passed. Tokens that name no session, and API keys, teach nothing.
    pub fn see(&self, claims: &Claims, seen: Seen<'_>) {
        let belongs = claims.session.is_some() && claims.kind != TokenKind::ApiKey;
        if !belongs || !self.track.load(Ordering::Relaxed) {
            return;
        }
        let every_secs = self.every_secs.load(Ordering::Relaxed);
        let note = Note::of(&claims.digest, seen.now, every_secs);
        let Some(slots) = self.slots.get(note.slots()) else { return };
        if slots.iter().any(|slot| slot.load(Ordering::Relaxed) == note.value) {
            return;
        }
        if self.tell(claims, seen) {
            note.leave(slots);
        }
    }

    /// Whether all that the token tells found room.
    fn tell(&self, claims: &Claims, seen: Seen<'_>) -> bool {
        let twins = claims.twins.iter().map(|twin| &**twin).filter(|twin| twin.session.is_some());
        std::iter::once(claims).chain(twins).all(|claims| {
            let place = self.queue.try_reserve();
            self.metrics.sighting(if place.is_ok() { "queued" } else { "dropped" });
            let told = place.ok().zip(sighting(claims, seen));
            told.map(|(place, sighting)| place.send(sighting)).is_some()
        })
    }
}

/// That a token was told of in a period.
struct Note {
    /// Where its slots begin.
    first: usize,
    value: u64,
}

impl Note {
    /// Periods begin at another moment for each token, so that they are not all told of in the same second.
    fn of(digest: &TokenDigest, now: Timestamp, every_secs: u64) -> Self {
        let (place, rest) = digest.as_bytes().split_at(8);
        let number = |bytes: &[u8]| bytes.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let tag = number(rest) & u64::from(u32::MAX);
        let period = (now.as_secs() + tag % every_secs) / every_secs;
        // Never zero, which is an empty slot.
        let value = (tag | 1) << 32 | period & u64::from(u32::MAX);
        Self { first: number(place) as usize % (SLOTS / WAYS) * WAYS, value }
    }

    const fn slots(&self) -> std::ops::Range<usize> {
        self.first..self.first + WAYS
    }

    /// Takes the token's own slot, or the one whose token was told of longest ago.
    fn leave(&self, slots: &[AtomicU64]) {
        let tag = |value: u64| value >> 32;
        let age = |slot: &&AtomicU64| {
            let held = slot.load(Ordering::Relaxed);
            if tag(held) == tag(self.value) { 0 } else { held & u64::from(u32::MAX) }
        };
        if let Some(slot) = slots.iter().min_by_key(age) {
            slot.store(self.value, Ordering::Relaxed);
        }
    }
}

/// What a token tells of its session.
fn sighting(claims: &Claims, seen: Seen<'_>) -> Option<Sighting> {
    let key = SessionKey { issuer: claims.issuer.clone(), id: claims.session.clone()? };
    let began = began_at(claims).or(claims.issued_at).unwrap_or(seen.now);
    let mut session = Session::new(key, seen.now);
    session.created_at = began.min(seen.now);
    session.user = claims.user.clone();
    session.username = claims.username.clone();
    session.client = claims.client.clone();
    session.address = seen.address.map(|address| address.to_string().into());
    session.user_agent = seen.user_agent.map(readable);
    // How long the session lasts is not for an access token to say.
    session.token_expires_at = claims.expires_at.filter(|_| claims.kind == TokenKind::Access);
    let token = SeenToken {
        digest: claims.digest,
        token_id: claims.token_id.clone(),
        kind: claims.kind,
        issued_at: claims.issued_at,
        expires_at: claims.expires_at,
        generation: claims.generation,
    };
    Some(Sighting { session, token: Some(token) })
}

/// `auth_time`: when the user logged in (OpenID Connect Core §2).
fn began_at(claims: &Claims) -> Option<Timestamp> {
    let at = claims.other.binary_search_by(|(name, _)| (**name).cmp("auth_time")).ok()?;
    let (_, values) = claims.other.get(at)?;
    let secs: f64 = values.first()?.parse().ok()?;
    (secs >= 1.0).then(|| Timestamp::from_secs(secs as u64))
}

/// A user agent as people are shown it: printable, and not too long.
#[must_use]
pub fn readable(bytes: &[u8]) -> Box<str> {
    let text = String::from_utf8_lossy(bytes.get(..USER_AGENT_BYTES).unwrap_or(bytes));
    let printable = text.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter });
    let mut shortened = String::with_capacity(text.len());
    for letter in printable {
        if shortened.len() + letter.len_utf8() > USER_AGENT_BYTES {
            break;
        }
        shortened.push(letter);
    }
    shortened.into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::testing::NOW;

    const EVERY: Duration = Duration::from_secs(60);

    fn claims(n: u8) -> Claims {
        let mut claims = Claims::bare("https://id.example".into(), TokenKind::Access, TokenDigest::new([n; 32]));
        claims.session = Some(format!("s{n}").into());
        claims
    }

    fn seen(secs: u64) -> Seen<'static> {
        Seen { address: None, user_agent: None, now: NOW.after(Duration::from_secs(secs)) }
    }

    fn tracker(queue: usize) -> (Arc<Tracker>, Sightings) {
        Tracker::new(&Settings { track: true, queue, every: EVERY }, Metrics::new())
    }

    fn told(sightings: &mut Sightings) -> Vec<Sighting> {
        std::iter::from_fn(|| sightings.0.try_recv().ok()).collect()
    }

    #[test]
    fn a_token_in_use_is_told_of_once_a_period() {
        let (tracker, mut sightings) = tracker(100);
        for secs in 0..180 {
            tracker.see(&claims(1), seen(secs));
            tracker.see(&claims(2), seen(secs));
        }
        let of = |id: &str, told: &[Sighting]| told.iter().filter(|told| &*told.session.key.id == id).count();
        let told = told(&mut sightings);
        assert!((3..=4).contains(&of("s1", &told)) && (3..=4).contains(&of("s2", &told)));
    }

    #[test]
    fn tokens_that_share_their_slots_do_not_drive_each_other_out() {
        let (tracker, mut sightings) = tracker(100);
        let sharing = |n: u8| {
            let mut digest = [7; 32];
            digest[8..].fill(n);
            Claims { digest: TokenDigest::new(digest), ..claims(n) }
        };
        for _ in 0..100 {
            (1..=4).for_each(|n| tracker.see(&sharing(2 * n + 1), seen(0)));
        }
        assert_eq!(told(&mut sightings).len(), 4);
    }

    #[test]
    fn what_names_no_session_and_api_keys_teach_nothing() {
        let (tracker, mut sightings) = tracker(100);
        tracker.see(&Claims { session: None, ..claims(1) }, seen(0));
        tracker.see(&Claims { kind: TokenKind::ApiKey, ..claims(2) }, seen(0));
        tracker.configure(&Settings { track: false, queue: 1, every: EVERY });
        tracker.see(&claims(3), seen(0));
        assert!(told(&mut sightings).is_empty());
        tracker.configure(&Settings { track: true, queue: 1, every: Duration::ZERO });
        tracker.see(&claims(3), seen(0));
        assert_eq!(told(&mut sightings).len(), 1);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_told_when_there_is() {
        let (tracker, mut sightings) = tracker(1);
        (1..=3).for_each(|n| tracker.see(&claims(n), seen(0)));
        let text = tracker.metrics.text();
        assert!(text.contains(r#"portcullis_sightings_total{result="queued"} 1"#), "{text}");
        assert!(text.contains(r#"portcullis_sightings_total{result="dropped"} 2"#), "{text}");
        assert_eq!(told(&mut sightings).len(), 1);
        (1..=3).for_each(|n| tracker.see(&claims(n), seen(0)));
        assert_eq!(&*told(&mut sightings)[0].session.key.id, "s2");
    }

    #[test]
    fn a_token_tells_its_claims_and_where_it_was_used_and_nothing_secret() {
        let (tracker, mut sightings) = tracker(9);
        let mut claims = claims(1);
        (claims.user, claims.username, claims.client) = (Some("u".into()), Some("Ann".into()), Some("app".into()));
        (claims.issued_at, claims.expires_at) = (Some(NOW), Some(NOW.after(EVERY)));
        claims.other = Box::new([("auth_time".into(), Box::new(["1700000000".into()]) as Box<[Box<str>]>)]);
        let twin = Claims { session: Some("twin".into()), ..claims.clone() };
        claims.twins = Box::new([Arc::new(twin)]);
        let long = [b"Moz\x07illa\xff ".repeat(40), vec![b'x'; 999]].concat();
        let address = Some("2001:db8::1".parse().unwrap());
        tracker.see(&claims, Seen { address, user_agent: Some(&long), ..seen(5) });
        let told = told(&mut sightings);
        let Sighting { session, token } = &told[0];
        assert_eq!((session.user.as_deref(), session.username.as_deref()), (Some("u"), Some("Ann")));
        assert_eq!((session.client.as_deref(), session.address.as_deref()), (Some("app"), Some("2001:db8::1")));
        assert_eq!(session.created_at, Timestamp::from_secs(1_700_000_000));
        assert_eq!((session.updated_at, session.expires_at), (seen(5).now, None));
        assert_eq!((session.token_expires_at, token.as_ref().unwrap().digest), (claims.expires_at, claims.digest));
        let agent = session.user_agent.as_deref().unwrap();
        assert!(agent.starts_with("Moz\u{fffd}illa\u{fffd} ") && agent.len() <= 256, "{agent}");
        assert_eq!(&*told[1].session.key.id, "twin");
    }
}
