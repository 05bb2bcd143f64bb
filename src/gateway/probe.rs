//! What a route demands, asked from outside of any request: for `/v1/check`, which explains.

use std::sync::Arc;

use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request};

use crate::admission::Policy;
use crate::gateway::Gateway;

impl Gateway {
    /// The name and the policy of the route that a request of this method for this host and path would take; `None` where
    /// there is none, and where the request would be refused for its form.
    #[must_use]
    pub fn demands_at(&self, host: Option<&str>, path: &str, method: &Method) -> Option<(Arc<str>, Policy)> {
        let mut request = Request::builder().method(method).uri(path).body(()).ok()?;
        if let Some(host) = host {
            request.headers_mut().insert(HOST, HeaderValue::from_str(host).ok()?);
        }
        let route = self.routes.find(&mut request).ok()?;
        Some((route.name.clone(), route.policy.clone()))
    }

    /// The policy of the route of that name.
    #[must_use]
    pub fn demands_of(&self, name: &str) -> Option<(Arc<str>, Policy)> {
        let route = self.routes.named(name)?;
        Some((route.name.clone(), route.policy.clone()))
    }
}
