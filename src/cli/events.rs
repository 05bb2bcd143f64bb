//! `events`: follows revocations and lifts as they happen. When the stream breaks it is taken up where it broke
//! (`Last-Event-ID`), with growing pauses; a refusal ends it.

use std::time::Duration;

use clap::Args;
use http_body_util::BodyExt;
use hyper::Method;
use hyper::header::{ACCEPT, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::http::{Admin, Reply, Stream};
use super::sse::{Event, Reader};
use super::{Failure, Options, output};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The first and the longest pause before the stream is taken up again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// How long the stream may be silent, keep-alive comments included.
const MAX_SILENCE: Duration = Duration::from_secs(90);

/// Follow revocations and lifts as they happen.
#[derive(Args, Debug)]
pub(super) struct Events {
    /// Begin after this position in the log [default: now]
    #[arg(long, value_name = "POSITION")]
    after: Option<u64>,
    /// End after so many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Where we are in the stream.
struct Progress {
    last_id: Option<String>,
    left: Option<u64>,
    pause: Duration,
    json: bool,
}

impl Events {
    /// Prints events until there were enough, or the process is ended.
    pub(super) async fn run(self, options: &Options) -> Result<(), Failure> {
        let admin = Admin::new(&options.admin)?;
        let last_id = self.after.map(|position| position.to_string());
        let mut progress = Progress { last_id, left: self.count, pause: PAUSES.0, json: options.json };
        let mut connected_once = false;
        while progress.left != Some(0) {
            match progress.connect(&admin).await {
                Ok(stream) => {
                    connected_once = true;
                    progress.follow(stream).await?;
                }
                Err(failure @ (Failure::Unreachable(_) | Failure::Unavailable(_))) if connected_once => {
                    failure.report()
                }
                Err(failure) => return Err(failure),
            }
            progress.rest().await;
        }
        Ok(())
    }
}

impl Progress {
    async fn connect(&self, admin: &Admin) -> Result<Stream, Failure> {
        let mut headers = vec![(ACCEPT, HeaderValue::from_static("text/event-stream"))];
        if let Some(id) = self.last_id.as_deref().and_then(|id| HeaderValue::from_str(id).ok()) {
            headers.push((LAST_EVENT_ID, id));
        }
        let stream = admin.open(Method::GET, "/v1/events", None, &headers).await?;
        if stream.response.status().is_success() {
            return Ok(stream);
        }
        Err(Reply::read(stream.response).await?.failure())
    }

    /// Prints what comes; returns when the stream ends or is silent for too long.
    async fn follow(&mut self, mut stream: Stream) -> Result<(), Failure> {
        let mut reader = Reader::default();
        while self.left != Some(0) {
            let Ok(Some(Ok(frame))) = tokio::time::timeout(MAX_SILENCE, stream.response.body_mut().frame()).await
            else {
                return Ok(());
            };
            let piece = frame.into_data().unwrap_or_default();
            for event in reader.read(&piece) {
                self.take(event)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<(), Failure> {
        if self.left == Some(0) {
            return Ok(());
        }
        output::line(&if self.json { machine(&event) } else { person(&event) })?;
        self.left = self.left.map(|left| left - 1);
        self.pause = PAUSES.0;
        if !event.id.is_empty() {
            self.last_id = Some(event.id);
        }
        Ok(())
    }

    /// Waits before the next attempt: some part of the pause, so that many clients do not come back at once.
    async fn rest(&mut self) {
        if self.left == Some(0) {
            return;
        }
        let mut byte = [0];
        // Without randomness the pause is merely less spread.
        let _ = aws_lc_rs::rand::fill(&mut byte);
        let [share] = byte;
        tokio::time::sleep(self.pause / 2 + self.pause * u32::from(share) / 512).await;
        self.pause = (self.pause * 2).min(PAUSES.1);
    }
}

fn machine(event: &Event) -> String {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_else(|_| json!(event.data));
    json!({ "id": event.id, "event": event.name, "data": data }).to_string()
}

fn person(event: &Event) -> String {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_else(|_| json!(event.data));
    let name = if event.name.is_empty() { "message" } else { &event.name };
    format!("{} {} {}", output::printable(&event.id), output::printable(name), output::plain(&data))
        .trim_start()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = Event { id: "7".into(), name: "revoked".into(), data: "{\"user\":\"alice\"}".into() };
        assert_eq!(person(&event), "7 revoked user=alice");
        assert_eq!(machine(&event), r#"{"data":{"user":"alice"},"event":"revoked","id":"7"}"#);
    }
}
