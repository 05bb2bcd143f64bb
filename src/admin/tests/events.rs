//! The live stream.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{Method, Request};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};

use super::{Rig, credential, request, settings};
use crate::admin::Settings;
use crate::domain::Right;

/// The events of a stream, as they come.
pub(super) struct Stream {
    body: Body,
    text: String,
}

impl Stream {
    async fn open(rig: &Rig, path: &str, last_event_id: Option<&str>) -> Self {
        let mut request = request(Method::GET, path, "auditor", "");
        if let Some(id) = last_event_id {
            request.headers_mut().insert("last-event-id", id.parse().unwrap());
        }
        Self::of(rig, request).await
    }

    pub(super) async fn of(rig: &Rig, request: Request<Body>) -> Self {
        let response = TowerToHyperService::new(rig.router.clone()).call(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers().get(CONTENT_TYPE).unwrap(), "text/event-stream");
        let mut stream = Self { body: response.into_body(), text: String::new() };
        assert_eq!(stream.block().await, "retry: 2000");
        stream
    }

    /// What comes up to the next blank line.
    pub(super) async fn block(&mut self) -> String {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return block;
            }
            let frame = self.body.frame().await.expect("the stream goes on").unwrap();
            self.text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
    }

    /// The next event: its name, its id, its data.
    async fn event(&mut self) -> (String, Option<u64>, Value) {
        loop {
            let block = self.block().await;
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
            if let Some(data) = field("data") {
                let id = field("id").map(|id| id.parse().unwrap());
                return (field("event").unwrap().to_owned(), id, serde_json::from_str(data).unwrap());
            }
        }
    }
}

#[tokio::test]
async fn events_tell_of_each_change_and_resume_where_a_reader_left_off() {
    let rig = Rig::new(settings()).await;
    rig.revoke(json!({"selector": {"issuer": "main", "user": "before"}})).await;
    let mut live = Stream::open(&rig, "/v1/events", None).await;
    let (_, first) = rig.revoke(json!({"selector": {"issuer": "main", "user": "alice"}})).await;
    let (name, id, data) = live.event().await;
    assert_eq!((&*name, id), ("revoked", first["position"].as_u64()));
    assert_eq!(data["revocation"], first["revocation"], "nothing that happened before is told");

    let path = format!("/v1/revocations/{}", first["revocation"]["id"].as_str().unwrap());
    rig.send(request(Method::DELETE, &path, "admin", "")).await;
    let (name, _, data) = live.event().await;
    assert_eq!((&*name, &data["revocation"]["state"]), ("lifted", &json!("lifted")));

    let mut resumed = Stream::open(&rig, "/v1/events?from=0", Some(&id.unwrap().to_string())).await;
    assert_eq!(resumed.event().await.0, "lifted", "the header counts before the parameter");
    let mut all = Stream::open(&rig, "/v1/events?from=0", None).await;
    let (name, id, data) = all.event().await;
    assert_eq!((&*name, id, &data["selector"]["user"]), ("revoked", None, &json!("before")));
    assert!(all.block().await.starts_with("id: "), "a place to resume from, once all that stands was told");
}

#[tokio::test]
async fn a_place_that_was_never_reached_is_no_place_to_resume_from() {
    let rig = Rig::new(settings()).await;
    for id in ["99", "x", "-1"] {
        let mut request = request(Method::GET, "/v1/events", "auditor", "");
        request.headers_mut().insert("last-event-id", id.parse().unwrap());
        let answer = rig.send(request).await;
        assert_eq!(answer.status, 400, "{id}");
    }
}

#[tokio::test]
async fn a_stream_ends_when_its_caller_is_no_longer_known_and_when_the_replica_stops() {
    let rig = Rig::new(settings()).await;
    let (mut one, mut other) =
        (Stream::open(&rig, "/v1/events", None).await, Stream::open(&rig, "/v1/events", None).await);
    rig.admin.close();
    while one.block().await != ": closed: this replica stops" {}
    while other.block().await != ": closed: this replica stops" {}

    let rig = Rig::new(settings()).await;
    let mut stream = Stream::open(&rig, "/v1/events", None).await;
    rig.admin.replace(
        Settings { credentials: vec![credential("admin", &[Right::Admin])], ..Settings::default() },
        rig.admin.verifier.load_full(),
    );
    while stream.block().await != ": closed: the credential is no longer valid" {}
}

#[tokio::test]
async fn as_many_streams_as_may_be_open_can_be_and_closing_one_makes_room() {
    let rig = Rig::new(settings()).await;
    let mut open = Vec::new();
    for _ in 0..crate::admin::MAX_STREAMS {
        open.push(Stream::open(&rig, "/v1/events", None).await);
    }
    let busy = rig.get("auditor", "/v1/events").await;
    assert_eq!((busy.status.as_u16(), busy.headers.get(RETRY_AFTER).unwrap().to_str().unwrap()), (503, "5"));
    drop(open.pop());
    // The feed ends when the runtime comes to it.
    drop(rig.admin.streams.acquire().await.unwrap());
    Stream::open(&rig, "/v1/events", None).await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_let_go_and_told_why() {
    let rig = Rig::new(settings()).await;
    let mut slow = Stream::open(&rig, "/v1/events", None).await;
    let lines: Vec<_> =
        (0..400).map(|n| json!({"selector": {"issuer": "main", "user": n.to_string()}}).to_string()).collect();
    assert_eq!(rig.lines("/v1/revocations/bulk", lines.join("\n")).await.len(), 400);
    // Its place is free again before it has taken anything more.
    drop(rig.admin.streams.acquire_many(u32::try_from(crate::admin::MAX_STREAMS).unwrap()).await.unwrap());
    let mut told = 0;
    loop {
        let block = slow.block().await;
        if block.starts_with(": closed") {
            assert!(block.contains("too slow"), "{block}");
            break;
        }
        told += 1;
    }
    assert!((256..300).contains(&told), "{told}");
}
