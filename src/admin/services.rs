//! The admin side as it is served: all of it on its own listener, the dialects that are mounted there on the proxy's.
//!
//! A reload puts a new router in the place of the old; calls under way end with the one they began with.

use std::convert::Infallible;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{Method, Request, Response, StatusCode};
use axum::response::IntoResponse;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use crate::admin::dialect::Spoken;
use crate::admin::{Admin, Fault, Settings, answer, native};
use crate::net::{Local, Taken};
use crate::verify::Verifier;

/// The admin side of one process. Every request must carry its `Arc<`[`Peer`](crate::net::Peer)`>` in its extensions.
#[derive(Debug)]
pub struct Services {
    admin: Arc<Admin>,
    current: ArcSwap<Served>,
}

/// What is served under one configuration.
#[derive(Debug)]
struct Served {
    on_admin: Router,
    on_proxy: Router,
    spoken: Spoken,
}

impl Services {
    /// Serves this admin side.
    #[must_use]
    pub fn new(admin: Arc<Admin>) -> Arc<Self> {
        let served = Served::new(&admin);
        Arc::new(Self { admin, current: ArcSwap::from_pointee(served) })
    }

    /// Takes over new settings and the verifier of the same configuration, for every call from now on.
    pub fn replace(&self, settings: Settings, verifier: Arc<Verifier>) {
        self.admin.replace(settings, verifier);
        self.current.store(Arc::new(Served::new(&self.admin)));
    }

    /// Ends the event streams: see [`Admin::close`].
    pub fn close(&self) {
        self.admin.close();
    }

    /// Answers a request of the admin listener.
    pub async fn on_admin(&self, request: Request<Incoming>) -> Response<Body> {
        called(&self.current.load_full(), |served| &served.on_admin, request).await
    }
}

#[async_trait]
impl Local for Services {
    fn takes(&self, method: &Method, path: &str) -> Taken {
        self.current.load().spoken.takes(method, path)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Bytes> {
        let (parts, body) = called(&self.current.load_full(), |served| &served.on_proxy, request).await.into_parts();
        match body.collect().await {
            Ok(body) => Response::from_parts(parts, body.to_bytes()),
            Err(_) => Fault::Internal.into_response().map(|_| Bytes::new()),
        }
    }
}

impl Served {
    fn new(admin: &Arc<Admin>) -> Self {
        let spoken = Spoken::new(admin, &admin.settings.load().dialects);
        let native = native::router(admin).with_state(admin.clone());
        let on_admin = answer::around(native.merge(spoken.on_admin.clone()), admin);
        let on_proxy = answer::around(spoken.on_proxy.clone(), admin);
        Self { on_admin, on_proxy, spoken }
    }
}

async fn called(
    served: &Served,
    side: impl Fn(&Served) -> &Router + Send,
    mut request: Request<Incoming>,
) -> Response<Body> {
    if let Some(root) = served.spoken.at_root(request.uri().path()) {
        let target = request.uri().query().map_or(root.to_owned(), |query| format!("{root}?{query}"));
        if let Ok(target) = target.parse() {
            *request.uri_mut() = target;
        }
    }
    let answered = TowerToHyperService::new(side(served).clone()).call(request).await;
    let mut answer = answered.unwrap_or_else(|never: Infallible| match never {});
    if answer.status() == StatusCode::NO_CONTENT {
        // RFC 9110 §8.6: it has no length, not even none.
        answer.headers_mut().remove(CONTENT_LENGTH);
    }
    answer
}
