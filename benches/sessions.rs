//! What the inventory costs: searching and filling it in SQLite, and the tracker on the request's path.
//!
//! `cargo bench --bench sessions [-- --sessions N] [--rounds N]`: fills a new store with a million sessions (or N) as
//! traffic does, a fifth of them ended; learns some as token endpoints do; searches, each kind with other values each
//! round; and times `Tracker::see` for a token told of already and for one that is not.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis::clock::SystemClock;
use portcullis::domain::{
    Claims, Cutoff, Entry, Reach, Revocation, RevocationId, SeenToken, Selector, Session, SessionKey, SessionState,
    SessionType, Timestamp, TokenDigest, TokenKind,
};
use portcullis::sessions::{Seen, Settings as Tracking, Tracker};
use portcullis::store::{Backend, Batch, Lesson, SessionQuery, Settings, Sighting, SortKey, Span, Store};
use portcullis::telemetry::Metrics;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const DAY: u64 = 86_400;
const BATCH: u64 = 1_000;

fn main() {
    let sessions = argument("--sessions").unwrap_or(1_000_000);
    let rounds = argument("--rounds").unwrap_or(50);
    track();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let folder = std::env::temp_dir().join(format!("portcullis-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("portcullis.db");
        inventory(&path, sessions, rounds).await;
        std::fs::remove_dir_all(folder).expect("the folder is ours");
    });
}

fn argument(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)?.parse().ok()
}

async fn inventory(path: &PathBuf, sessions: u64, rounds: u64) {
    let settings = Settings::new(Backend::Sqlite(path.clone()));
    let store = Store::open(&settings, SystemClock::shared(), Metrics::new()).await.expect("a store");
    let mut rows = fill(&store, sessions).await;
    rows.push(learn(&store, sessions).await);
    rows.push(again(&store, sessions).await);
    println!(
        "\n| {sessions} sessions in SQLite | per second | ms a batch, median | ms, slowest |\n|---|---:|---:|---:|"
    );
    rows.iter().for_each(|row| println!("{row}"));
    end_some(&store, sessions).await;
    println!("\n| search | median ms | p95 ms | found, median |\n|---|---:|---:|---:|");
    for (kind, make) in searches() {
        search(&store, kind, make, sessions, rounds).await;
    }
    let bytes = std::fs::metadata(path).map_or(0, |file| file.len());
    println!("\n{} bytes a session on disk", bytes / sessions.max(1));
    store.close().await;
}

/// Numbers without rhyme, the same in every run.
const fn scramble(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn user(n: u64, sessions: u64) -> u64 {
    scramble(n) % (sessions / 4).max(1)
}

fn at(secs: u64) -> Timestamp {
    NOW.before(Duration::from_secs(DAY)).after(Duration::from_secs(secs))
}

fn id(n: u64) -> String {
    format!("{:016x}{:08x}", scramble(n), scramble(n + 7) as u32)
}

/// The `n`th session of a day's.
fn session(n: u64, sessions: u64) -> Session {
    let luck = scramble(n + 1_000_000_007);
    let issuer = if luck.is_multiple_of(5) { "https://partners.example.com/" } else { "https://id.example.com/" };
    let mut session =
        Session::new(SessionKey { issuer: issuer.into(), id: id(n).into() }, at(n * DAY / sessions.max(1)));
    let user = user(n, sessions);
    session.user = Some(format!("{:012x}", scramble(user)).into());
    session.username = Some(format!("user{user:06}@example.com").into());
    session.client =
        ["web", "ios", "android", "desktop", "cli"].get((luck >> 50) as usize % 5).map(|name| (*name).into());
    session.address = Some(format!("10.{}.{}.{}", luck >> 8 & 255, luck >> 16 & 255, luck >> 24 & 63).into());
    session.user_agent =
        Some(format!("Mozilla/5.0 (X11; Linux x86_64; rv:{}.0) Firefox/{}", luck % 40, luck % 50).into());
    session.kind = if luck % 10 == 3 { SessionType::Sso } else { SessionType::Login };
    session.updated_at = session.created_at.after(Duration::from_secs(luck >> 32 & 4095));
    session.expires_at = Some(session.created_at.after(Duration::from_secs(DAY + (luck >> 40) % DAY)));
    session.token_expires_at = Some(session.updated_at.after(Duration::from_secs(300)));
    session
}

fn token(n: u64, kind: TokenKind, session: &Session) -> SeenToken {
    let mut digest = [0; 32];
    for (at, bytes) in digest.chunks_exact_mut(8).enumerate() {
        bytes.copy_from_slice(&scramble(n * 4 + at as u64 + kind as u64 * 1_000_003).to_be_bytes());
    }
    SeenToken {
        digest: TokenDigest::new(digest),
        token_id: None,
        kind,
        issued_at: Some(session.created_at),
        expires_at: session.token_expires_at,
        generation: None,
    }
}

/// A row of the table of writes.
fn row(what: &str, written: u64, mut took: Vec<Duration>) -> String {
    let seconds: f64 = took.iter().map(Duration::as_secs_f64).sum();
    took.sort_unstable();
    let millis = |took: Option<&Duration>| took.map_or(0.0, |took| took.as_secs_f64() * 1e3);
    let (median, slowest) = (millis(took.get(took.len() / 2)), millis(took.last()));
    format!("| {what} | {:.0} | {median:.1} | {slowest:.1} |", written as f64 / seconds)
}

async fn fill(store: &Store, sessions: u64) -> Vec<String> {
    let mut took = Vec::new();
    for first in (0..sessions).step_by(BATCH as usize) {
        let sightings = (first..(first + BATCH).min(sessions)).map(|n| {
            let session = session(n, sessions);
            let token = token(n, TokenKind::Access, &session);
            Sighting { session, token: Some(token) }
        });
        let sightings = sightings.collect();
        let began = Instant::now();
        store.sessions.touch(sightings).await.expect("room for sessions");
        took.push(began.elapsed());
    }
    let last = took.len().saturating_sub(took.len() / 10 + 1);
    let end = took.split_off(last);
    let written = end.len() as u64 * BATCH;
    took.extend(end.iter().copied());
    vec![row("new sessions of traffic, all", sessions, took), row("the last tenth of them", written, end)]
}

/// What traffic tells of sessions that are known.
async fn again(store: &Store, sessions: u64) -> String {
    let mut took = Vec::new();
    let rounds = 20.min(sessions / BATCH).max(1);
    for round in 0..rounds {
        let sightings = (0..BATCH).map(|n| {
            let mut session = session(scramble(round * BATCH + n) % sessions, sessions);
            session.updated_at = NOW.after(Duration::from_secs(round));
            Sighting { session, token: None }
        });
        let sightings = sightings.collect();
        let began = Instant::now();
        store.sessions.touch(sightings).await.expect("room for sessions");
        took.push(began.elapsed());
    }
    row("known sessions seen again", rounds * BATCH, took)
}

/// What token endpoints teach, 32 at once.
async fn learn(store: &Store, sessions: u64) -> String {
    let mut took = Vec::new();
    for round in 0..20_u64 {
        let began = Instant::now();
        let lessons = (0..32_u64).map(|n| {
            let (n, table) = (sessions + round * 32 + n, store.sessions.clone());
            let session = session(n, sessions);
            let tokens = [TokenKind::Access, TokenKind::Refresh].map(|kind| token(n, kind, &session)).into();
            let lesson = Lesson { session, family: n.to_string().into(), tokens, redeemed: None };
            tokio::spawn(async move { table.learn(lesson).await.expect("room for a session") })
        });
        for lesson in lessons.collect::<Vec<_>>() {
            lesson.await.expect("a lesson");
        }
        took.push(began.elapsed());
    }
    row("answers of token endpoints, 32 at once", 20 * 32, took)
}

/// Ends every fifth user's sessions.
async fn end_some(store: &Store, sessions: u64) {
    let users: Vec<u64> = (0..(sessions / 4).max(1)).step_by(5).collect();
    for some in users.chunks(500) {
        let entries = some.iter().map(|user| {
            let parts = [
                ("issuer".to_owned(), "https://id.example.com/".to_owned()),
                ("user".to_owned(), format!("{:012x}", scramble(*user))),
            ];
            Entry::Revoke(Revocation {
                id: RevocationId::from_random(u128::from(scramble(*user))),
                selector: Selector::try_from(BTreeMap::from(parts)).expect("a selector"),
                reach: Reach::LOGIN,
                cutoff: Cutoff::Until(NOW),
                created_at: NOW,
                expires_at: Some(NOW.after(Duration::from_secs(DAY))),
                actor: "bench".into(),
                reason: None,
                named_for: None,
            })
        });
        let batch = Batch { entries: entries.collect(), now: NOW, ..Batch::default() };
        store.log.append(batch).await.expect("room for revocations");
    }
}

type Make = fn(u64, u64) -> SessionQuery;

fn page() -> SessionQuery {
    SessionQuery { now: NOW, limit: 50, descending: true, sort: SortKey::Updated, ..SessionQuery::default() }
}

fn words(word: String) -> SessionQuery {
    SessionQuery { keywords: vec![word], ..page() }
}

fn span(from: u64, secs: u64) -> Span {
    Span { since: Some(at(from)), until: Some(at(from + secs)) }
}

/// Searches as people make them.
fn searches() -> Vec<(&'static str, Make)> {
    const ACTIVE: Option<SessionState> = Some(SessionState::Active);
    vec![
        ("the first page of all", |_, _| page()),
        ("the page at 10,000", |_, _| SessionQuery { offset: 10_000, ..page() }),
        ("the last page", |_, sessions| SessionQuery { offset: sessions - 50, ..page() }),
        ("of a user", |n, sessions| {
            let user = format!("{:012x}", scramble(user(n, sessions)));
            SessionQuery { user: Some(user), ..page() }
        }),
        ("active of a username", |n, sessions| {
            let username = format!("user{:06}@example.com", user(n, sessions));
            SessionQuery { username: Some(username), state: ACTIVE, ..page() }
        }),
        ("active, by expiry", |_, _| SessionQuery {
            state: ACTIVE,
            sort: SortKey::Expires,
            descending: false,
            ..page()
        }),
        ("active, by username", |_, _| SessionQuery { state: ACTIVE, sort: SortKey::Username, ..page() }),
        ("revoked, by creation", |_, _| SessionQuery {
            state: Some(SessionState::Revoked),
            sort: SortKey::Created,
            ..page()
        }),
        ("active of an issuer and a client", |_, _| SessionQuery {
            issuer: Some("https://partners.example.com/".to_owned()),
            client: Some("ios".to_owned()),
            state: ACTIVE,
            ..page()
        }),
        ("keyword: a username", |n, sessions| words(format!("user{:06}@example.com", user(n, sessions)))),
        ("keyword: part of an id", |n, sessions| {
            words(id(scramble(n) % sessions).split_at(4).1.split_at(10).0.to_owned())
        }),
        ("keyword: a network", |n, _| words(format!("10.{}.{}.", scramble(n) & 255, scramble(n) >> 8 & 255))),
        ("keyword: a browser's version", |n, _| words(format!("rv:{}.0", scramble(n) % 40))),
        ("keyword: in every username", |_, _| words("example.com".to_owned())),
        ("created within a minute", |n, _| SessionQuery { created: span(scramble(n) % (DAY - 60), 60), ..page() }),
        ("created within an hour", |n, _| SessionQuery { created: span(scramble(n) % (DAY - 3_600), 3_600), ..page() }),
        ("active, seen within an hour", |n, _| SessionQuery {
            updated: span(scramble(n) % (DAY - 3_600), 3_600),
            state: ACTIVE,
            ..page()
        }),
        ("active, expiring within ten minutes", |n, _| SessionQuery {
            expires: span(DAY + scramble(n) % (DAY / 2), 600),
            state: ACTIVE,
            ..page()
        }),
        ("active of a client, created within an hour", |n, _| SessionQuery {
            client: Some("ios".to_owned()),
            created: span(scramble(n) % (DAY - 3_600), 3_600),
            state: ACTIVE,
            ..page()
        }),
        ("of an address", |n, sessions| {
            let address = session(scramble(n) % sessions, sessions).address.map(String::from);
            SessionQuery { address, ..page() }
        }),
    ]
}

async fn search(store: &Store, kind: &str, make: Make, sessions: u64, rounds: u64) {
    let (mut took, mut found) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let query = make(round, sessions);
        let began = Instant::now();
        let page = store.sessions.sessions(&query).await.expect("an answer");
        took.push(began.elapsed());
        found.push(black_box(page).total);
    }
    took.sort_unstable();
    found.sort_unstable();
    let millis = |at: usize| took.get(at).map_or(0.0, |took| took.as_secs_f64() * 1e3);
    let (median, p95) = (millis(took.len() / 2), millis(took.len() * 95 / 100));
    println!("| {kind} | {median:.2} | {p95:.2} | {} |", found.get(found.len() / 2).unwrap_or(&0));
}

/// The tracker alone.
fn track() {
    const TOKENS: u64 = 10_000;
    let settings = Tracking { track: true, queue: TOKENS as usize, every: Duration::from_secs(60) };
    let tokens: Vec<Claims> = (0..TOKENS).map(claims).collect();
    let see = |tracker: &Tracker, now: Timestamp| {
        let seen = Seen { address: None, user_agent: Some(b"Mozilla/5.0 (X11; Linux x86_64) Firefox/140"), now };
        let began = Instant::now();
        tokens.iter().for_each(|claims| tracker.see(black_box(claims), seen));
        began.elapsed().as_secs_f64() * 1e9 / TOKENS as f64
    };
    println!("\n| Tracker::see, {TOKENS} tokens in turn | ns |\n|---|---:|");
    let (tracker, sightings) = Tracker::new(&settings, Metrics::new());
    println!("| not told of yet, queued | {:.0} |", see(&tracker, NOW));
    let median = |mut took: Vec<f64>| {
        took.sort_by(f64::total_cmp);
        took.get(took.len() / 2).copied().unwrap_or_default()
    };
    println!("| told of already | {:.1} |", median((0..101).map(|_| see(&tracker, NOW)).collect()));
    drop(sightings);
    let later = |round: u64| NOW.after(Duration::from_secs(60 * (round + 1)));
    println!(
        "| not told of yet, no room | {:.1} |",
        median((0..21).map(|round| see(&tracker, later(round))).collect())
    );
    tracker.configure(&Tracking { track: false, ..settings });
    println!("| tracking off | {:.1} |", median((0..101).map(|_| see(&tracker, NOW)).collect()));
}

fn claims(n: u64) -> Claims {
    let mut digest = [0; 32];
    digest.chunks_exact_mut(8).zip(0..).for_each(|(bytes, at)| {
        bytes.copy_from_slice(&scramble(n * 4 + at).to_be_bytes());
    });
    let mut claims = Claims::bare(Arc::from("https://id.example.com/"), TokenKind::Access, TokenDigest::new(digest));
    (claims.session, claims.user) = (Some(id(n).into()), Some(format!("user{n}").into()));
    (claims.issued_at, claims.expires_at) = (Some(NOW), Some(NOW.after(Duration::from_secs(300))));
    claims
}
