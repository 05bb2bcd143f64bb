//! A live stream of what is revoked and lifted, as server-sent events (WHATWG HTML §9.2).
//!
//! An event's id is its position, so `Last-Event-ID` resumes without a gap. A stream ends, each time with a last comment
//! that says why: when its reader takes nothing for a while, when its caller would not be let in any more, when this replica
//! stops, when the store is lost.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until};
use utoipa::{IntoParams, ToSchema};

use crate::admin::door::Access;
use crate::admin::extract::Parameters;
use crate::admin::native::Calls;
use crate::admin::native::wire::RevocationView;
use crate::admin::{Admin, Fault, Identity};
use crate::control::{Event, EventStream};
use crate::domain::{Change, Ending, Position, Recorded, Right, Timestamp};

/// Events that wait for a slow reader, at most.
const MAX_WAITING: usize = 256;
/// How long a reader may take nothing while that many wait.
const READER_PATIENCE: Duration = if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(10) };
/// How long a stream is silent before it says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often it asks whether its caller would still be let in.
const REVIEW: Duration = Duration::from_secs(1);

pub(super) fn calls(calls: Calls) -> Calls {
    calls.add(__path_events, Access::Needs(Right::AuditRead), events)
}

/// Where to begin.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EventParameters {
    /// The position after which to begin, 0 for all that stands. `Last-Event-ID` counts before it. Default: the news only.
    from: Option<u64>,
}

/// What an event tells.
#[derive(Debug, Serialize, ToSchema)]
struct EventData {
    /// Where in the log.
    position: u64,
    /// The selector it is about.
    selector: BTreeMap<String, String>,
    /// The revocation; null when the log no longer knows which one was lifted.
    revocation: Option<RevocationView>,
}

/// Events
///
/// `event: revoked` when a revocation stands, or is kept longer; `lifted` when one no longer stands; `superseded` when a later
/// one says all it said. `id` is the position, `data` is JSON. Events come at least once; quick changes of one revocation may
/// come as one. A comment every 15 seconds shows that the stream is alive.
#[utoipa::path(get, path = "/v1/events", tag = "audit",
    params(EventParameters, ("Last-Event-ID" = Option<u64>, Header, description = "The position after which to begin")),
    responses((status = 200, description = "A stream of events", content_type = "text/event-stream", body = EventData)))]
async fn events(
    State(admin): State<Arc<Admin>>,
    identity: Identity,
    Parameters(parameters): Parameters<EventParameters>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let from = last_event_id(&headers)?.or(parameters.from).map(Position::new);
    let permit = admin.streams.clone().try_acquire_owned().map_err(|_| Fault::Busy("event streams"))?;
    let news = admin.control.follow(&identity.caller, from).await?;
    let (out, waiting) = mpsc::channel(MAX_WAITING);
    let mut task = JoinSet::new();
    task.spawn(Feed { admin, identity, news, out, resumable: true, told_upto: None, _permit: permit }.run());
    let headers = [(CONTENT_TYPE, "text/event-stream"), (HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((headers, body(waiting, task)).into_response())
}

/// The position the client saw last. The empty id is what a client sends that has seen none.
fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Fault> {
    let Some(value) = headers.get("last-event-id").filter(|value| !value.is_empty()) else { return Ok(None) };
    let position = value.to_str().ok().and_then(|text| text.parse().ok());
    position.map(Some).ok_or_else(|| Fault::Invalid("Last-Event-ID: expected a position".to_owned()))
}

/// What waits, then why it ended. Owns the feed: when the connection goes, the feed goes with it.
fn body(waiting: mpsc::Receiver<Bytes>, task: JoinSet<&'static str>) -> Body {
    let opening = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"retry: 2000\n\n"))]);
    let rest = stream::unfold(Some((waiting, task)), async |state| {
        let (mut waiting, mut task) = state?;
        if let Some(bytes) = waiting.recv().await {
            return Some((Ok(bytes), Some((waiting, task))));
        }
        let why = task.join_next().await.and_then(Result::ok).unwrap_or("failed");
        Some((Ok(format!(": closed: {why}\n\n").into()), None))
    });
    Body::from_stream(opening.chain(rest))
}

/// Turns the log's news into text, for one reader.
struct Feed {
    admin: Arc<Admin>,
    identity: Identity,
    news: EventStream,
    out: mpsc::Sender<Bytes>,
    /// Whether the position of what comes now is a place to resume from.
    resumable: bool,
    /// The place to resume from that the reader was told last.
    told_upto: Option<Position>,
    _permit: OwnedSemaphorePermit,
}

impl Feed {
    /// Runs until there is a reason to end, and says which.
    async fn run(mut self) -> &'static str {
        let mut closing = self.admin.closing.subscribe();
        let mut review = interval(REVIEW);
        let mut alive_until = Instant::now() + KEEP_ALIVE;
        loop {
            let text = tokio::select! {
                _ = closing.wait_for(|closing| *closing) => return "this replica stops",
                _ = review.tick() => {
                    if !self.admin.still(&self.identity, Right::AuditRead) {
                        return "the credential is no longer valid";
                    }
                    continue;
                }
                () = sleep_until(alive_until) => ": alive\n\n".to_owned(),
                event = self.news.next() => match event {
                    Some(Ok(event)) => match self.told(event) {
                        Some(text) => text,
                        None => continue,
                    },
                    Some(Err(_)) | None => return "the log was lost; resume with Last-Event-ID",
                },
            };
            alive_until = Instant::now() + KEEP_ALIVE;
            if self.out.send_timeout(text.into(), READER_PATIENCE).await.is_err() {
                return "the reader was too slow; resume with Last-Event-ID";
            }
        }
    }

    /// What a reader is told of this; `None` for nothing.
    fn told(&mut self, event: Event) -> Option<String> {
        match event {
            // What stands comes in no order of positions, so none of it is a place to resume from.
            Event::Loading(_) => {
                self.resumable = false;
                None
            }
            Event::Change(change) => {
                self.told_upto = Some(change.position).filter(|_| self.resumable);
                Some(told(&change, self.resumable, self.admin.clock.now()))
            }
            // An id without data is remembered by the reader and dispatched to nobody (WHATWG HTML §9.2.6).
            Event::CaughtUp(proof) => {
                self.resumable = true;
                let position = proof.checkpoint.position;
                let news = self.told_upto.replace(position) != Some(position);
                news.then(|| format!("id: {position}\n\n"))
            }
        }
    }
}

/// The events that tell of one change. Only the last has the id: a reader that missed it sees all of them again.
fn told(change: &Change, resumable: bool, now: Timestamp) -> String {
    let views: Vec<_> = match &change.cause {
        Some(cause) => vec![Some(RevocationView::of(cause, now))],
        None if change.standing.is_empty() => vec![None],
        None => {
            let standing = change.standing.iter();
            standing.map(|standing| Some(RevocationView::standing(standing, change.position))).collect()
        }
    };
    let name = match &change.cause {
        Some(Recorded { ending: Some(Ending::Lifted(_)), .. }) => "lifted",
        Some(Recorded { ending: Some(Ending::Superseded(_)), .. }) => "superseded",
        None if change.standing.is_empty() => "lifted",
        _ => "revoked",
    };
    let (position, selector) = (change.position.get(), BTreeMap::from(change.selector.clone()));
    let mut text = String::new();
    let last = views.len();
    for (at, revocation) in views.into_iter().enumerate() {
        if resumable && at + 1 == last {
            let _ = writeln!(text, "id: {position}");
        }
        let data = EventData { position, selector: selector.clone(), revocation };
        // A plain struct: neither turning it into JSON nor writing to a string can fail. JSON has no raw line break.
        let json = serde_json::to_string(&data).unwrap_or_default();
        let _ = write!(text, "event: {name}\ndata: {json}\n\n");
    }
    text
}
