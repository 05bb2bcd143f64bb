//! The service behind the demo's gateway: it knows nothing of tokens and says what reached it.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Sse;
use axum::response::sse::Event;
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream::{self, Stream};
use serde_json::{Map, Value, json};

/// `/clock` ticks for ever, so that a revocation can be seen to end it; every other path is echoed.
pub(super) fn router() -> Router {
    Router::new().route("/clock", get(clock)).fallback(echo)
}

async fn echo(request: Request) -> Json<Value> {
    let identity = request.headers().iter().filter(|(name, _)| name.as_str().starts_with("x-auth-"));
    let identity: Map<String, Value> =
        identity.map(|(name, value)| (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes())))).collect();
    Json(json!({
        "service": "the sample service",
        "method": request.method().as_str(),
        "path": request.uri().path(),
        "identity": identity,
    }))
}

async fn clock() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    Sse::new(stream::unfold(0_u64, |tick| async move {
        if tick > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Some((Ok(Event::default().id(tick.to_string()).data(format!("tick {tick}"))), tick + 1))
    }))
}
