//! Revocations by the million: NDJSON in, NDJSON out, neither held in memory. A line that is wrong stops no other; what goes
//! out by `GET` comes back in by `POST`.
//!
//! Answers are sent while lines still come, so a caller must read while it writes; `quiet=true` leaves out all answers but
//! those to lines that failed, for callers who cannot.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use utoipa::{IntoParams, ToSchema};

use crate::admin::door::Access;
use crate::admin::extract::{self, MAX_JSON_BYTES, NoParameters, Parameters};
use crate::admin::native::Calls;
use crate::admin::native::lines::{End, Line, Lines};
use crate::admin::native::spread::{Spread, Wait};
use crate::admin::native::wire::{Kind, RevokeBody, kinds, last_second, outcome};
use crate::admin::{Admin, Fault, Identity};
use crate::control::{Asked, ControlError, Event, EventStream, Receipt, Revoke, StoreError};
use crate::domain::{Position, Revocation, Right, Timestamp};

const NDJSON: &str = "application/x-ndjson";
/// Changes that go out in one piece of an export, at most.
const EXPORT_CHUNK: usize = 256;

pub(super) fn calls(calls: Calls) -> Calls {
    calls.add(__path_import, Access::Needs(Right::Admin), import).add(
        __path_export,
        Access::Needs(Right::SessionsRead),
        export,
    )
}

/// How an import answers.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ImportParameters {
    /// Only answer to lines that failed.
    #[serde(default)]
    quiet: bool,
    /// Whose word the last line waits for: with `all`, every live replica's.
    #[serde(default)]
    #[param(inline)]
    wait: Wait,
    /// How long to wait for other replicas, as `500ms` or `2s`; at most `60s`. Default: `2s`.
    #[param(example = "2s")]
    timeout: Option<String>,
}

/// The answer to one line.
#[derive(Debug, Serialize, ToSchema)]
struct LineAnswer {
    /// The line's number, from 1.
    line: u64,
    /// As the answer to a single revocation would have it: 201 new, 200 already so, 4xx and 5xx not done.
    #[schema(example = 201)]
    status: u16,
    /// The revocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// How many open exchanges of this replica it has cut, when there were any.
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<usize>,
    /// Why it was not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A line of the answer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what is written one by one")]
enum ImportLine {
    Answer(LineAnswer),
    Spread(Spread),
}

/// Import revocations
///
/// A revocation a line, at most 64 KiB each; an answer a line, in the same order, sent while lines still come. With `wait=all` one
/// more line comes last, `quiet` or not: whether every live replica has applied all that was done, and who. It has no member `line`,
/// and it is missing when the body did not come to its end.
#[utoipa::path(post, path = "/v1/revocations/bulk", tag = "revocations", params(ImportParameters),
    request_body(content = RevokeBody, content_type = "application/x-ndjson", description = "One revocation a line"),
    responses((status = 200, description = "One answer a line", body = ImportLine,
               content_type = "application/x-ndjson")))]
async fn import(
    State(admin): State<Arc<Admin>>,
    identity: Identity,
    Parameters(parameters): Parameters<ImportParameters>,
    request: Request,
) -> Result<Response, Fault> {
    extract::media_type(request.headers(), &[NDJSON, "application/ndjson", "application/jsonl"])?;
    let asked = parameters.wait.ask(parameters.timeout.as_deref(), &admin)?;
    let asked = Some(asked).filter(|_| parameters.wait == Wait::All);
    let permit = permit(&admin)?;
    let lines = Lines::of(request.into_body());
    let position = admin.control.status().position;
    let (quiet, ended) = (parameters.quiet, false);
    let import = Import { lines, admin, identity, quiet, asked, position, ended, _permit: permit };
    let answers = stream::unfold(Some(import), async |import| {
        let (bytes, rest) = import?.step().await;
        Some((Ok::<_, Infallible>(bytes), rest))
    });
    Ok(ndjson(Body::from_stream(answers)))
}

fn permit(admin: &Admin) -> Result<OwnedSemaphorePermit, Fault> {
    admin.bulks.clone().try_acquire_owned().map_err(|_| Fault::Busy("imports and exports"))
}

fn ndjson(body: Body) -> Response {
    ([(CONTENT_TYPE, NDJSON)], body).into_response()
}

/// An import under way. It goes on only as fast as its answers are read.
struct Import {
    lines: Lines,
    admin: Arc<Admin>,
    identity: Identity,
    quiet: bool,
    /// Set when the last line is to tell how far all has spread.
    asked: Option<Asked>,
    /// Up to where what was done stands in the log.
    position: Position,
    /// All lines were read; what is left is to tell that.
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Import {
    /// Carries out the next batch; gives the answers, and itself if there may be more.
    async fn step(mut self) -> (Bytes, Option<Self>) {
        if self.ended {
            return (self.spread().await, None);
        }
        let batch = self.lines.batch().await;
        let (answers, reached) = carry_out(&self.admin, &self.identity, batch.lines).await;
        self.position = self.position.max(reached);
        let mut text = Vec::new();
        for answer in answers.iter().filter(|answer| !self.quiet || answer.error.is_some()) {
            append_line(&mut text, answer);
        }
        if let Some(End::Stalled(line)) = batch.end {
            append_line(&mut text, &LineAnswer::of(line, Err(Fault::Timeout)));
        }
        self.ended = batch.end == Some(End::Complete) && self.asked.is_some();
        (text.into(), (batch.end.is_none() || self.ended).then_some(self))
    }

    /// The last line.
    async fn spread(self) -> Bytes {
        let Self { asked, admin, position, .. } = self;
        let mut text = Vec::new();
        if let Some(asked) = asked {
            append_line(&mut text, &Spread::of(&admin, &asked, position).await);
        }
        text.into()
    }
}

/// Revokes what the lines ask for, in one go; an answer for each line, in order, and up to where it stands in the log.
async fn carry_out(admin: &Admin, identity: &Identity, lines: Vec<Line>) -> (Vec<LineAnswer>, Position) {
    let mut commands = Vec::new();
    let mut read = Vec::new();
    for line in lines {
        read.push((line.number, command(&line).map(|command| commands.push(command))));
    }
    let receipts = admin.control.revoke_all(&identity.caller, commands).await;
    let reached = receipts.iter().flatten().map(|receipt| receipt.position).max().unwrap_or_default();
    let mut receipts = receipts.into_iter();
    let mut next = || receipts.next().unwrap_or_else(|| Err(ControlError::Invalid("not carried out".to_owned())));
    let answers = read
        .into_iter()
        .map(|(number, fault)| LineAnswer::of(number, fault.and_then(|()| next().map_err(Fault::from))));
    (answers.collect(), reached)
}

fn command(line: &Line) -> Result<Revoke, Fault> {
    let text = line.text.as_deref().ok_or(Fault::TooLarge(MAX_JSON_BYTES))?;
    extract::json::<RevokeBody>(text)?.into_command()
}

impl LineAnswer {
    fn of(line: u64, receipt: Result<Receipt, Fault>) -> Self {
        let done = receipt.and_then(|receipt| {
            let (recorded, new) = outcome(&receipt).ok_or(Fault::Internal)?;
            Ok((recorded.revocation.id.to_string(), new, receipt.cut))
        });
        match done {
            Ok((id, new, cut)) => {
                let (status, cut) = (if new { 201 } else { 200 }, (cut > 0).then_some(cut));
                Self { line, status, id: Some(id), cut, error: None }
            }
            Err(fault) => {
                Self { line, status: fault.status().as_u16(), id: None, cut: None, error: Some(fault.detail()) }
            }
        }
    }
}

/// A standing revocation, in the form in which it is asked for.
#[derive(Debug, Serialize, ToSchema)]
struct ExportLine {
    selector: std::collections::BTreeMap<String, String>,
    kinds: Vec<Kind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cutoff: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    block: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
}

/// Export revocations
///
/// All that stand, one a line, in the form that `POST` takes. A connection that ends without a proper end has not sent all.
#[utoipa::path(get, path = "/v1/revocations/bulk", tag = "revocations",
    responses((status = 200, description = "One revocation a line", body = ExportLine,
               content_type = "application/x-ndjson")))]
async fn export(
    State(admin): State<Arc<Admin>>,
    identity: Identity,
    _: Parameters<NoParameters>,
) -> Result<Response, Fault> {
    let permit = permit(&admin)?;
    let changes = admin.control.follow(&identity.caller, Some(Position::START)).await?;
    Ok(ndjson(Body::from_stream(exported(changes, admin.clock.now(), permit))))
}

/// The text of all that stands, up to where the news begins. An error breaks it off, so that half is not taken for all.
fn exported(
    changes: EventStream,
    now: Timestamp,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Bytes, StoreError>> {
    let standing = changes.take_while(|event| std::future::ready(!matches!(event, Ok(Event::CaughtUp(_)))));
    standing.ready_chunks(EXPORT_CHUNK).map(move |events| {
        // Held as long as the stream is.
        let _ = &permit;
        let mut text = Vec::new();
        for event in events {
            let Event::Change(change) = event? else { continue };
            for revocation in change.standing.iter().filter(|revocation| revocation.in_force(now)) {
                append_line(&mut text, &ExportLine::from(revocation));
            }
        }
        Ok(text.into())
    })
}

impl From<&Revocation> for ExportLine {
    fn from(revocation: &Revocation) -> Self {
        let cutoff = last_second(revocation.cutoff);
        Self {
            selector: revocation.selector.clone().into(),
            kinds: kinds(revocation.reach),
            cutoff,
            block: cutoff.is_none() && !revocation.selector.is_absolute(),
            reason: revocation.reason.as_deref().map(str::to_owned),
            expires_at: revocation.expires_at.map(Timestamp::as_secs),
        }
    }
}

fn append_line(text: &mut Vec<u8>, value: &impl Serialize) {
    // Plain structs of texts and numbers; writing them to memory cannot fail.
    let _ = serde_json::to_writer(&mut *text, value);
    text.push(b'\n');
}
