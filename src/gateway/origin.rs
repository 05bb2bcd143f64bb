//! Who a request comes from, as far as its peer may be believed, and what that tells of the session it belongs to.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::Request;
use hyper::header::{HeaderValue, USER_AGENT};

use crate::admission::Admitted;
use crate::gateway::{Gateway, forwarded};
use crate::net::Peer;
use crate::sessions::Seen;

impl Gateway {
    /// The client's address, behind trusted proxies too.
    pub(super) fn client_address<B>(&self, request: &Request<B>) -> Option<IpAddr> {
        let peer = request.extensions().get::<Arc<Peer>>()?.address.ip();
        Some(forwarded::client(request.headers(), peer, |address| self.trusts(address)))
    }

    /// Takes note of the session that an admitted request belongs to.
    pub(super) fn see<B>(&self, admitted: &Admitted, request: &Request<B>) {
        let Some(claims) = admitted.teaches() else { return };
        let user_agent = request.headers().get(USER_AGENT).map(HeaderValue::as_bytes);
        self.tracker.see(claims, Seen { address: self.client_address(request), user_agent, now: self.clock.now() });
    }
}
