//! Why a request gets no answer of an upstream's. What is said about it, and how, is for `respond` alone.

use std::sync::Arc;

use hyper::header::HeaderValue;

use crate::admission::Stop;
use crate::domain::{Denial, Dialect};
use crate::gateway::path::PathFault;
use crate::gateway::token_endpoint::request::RequestFault;

/// Why a request was not answered by an upstream.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    /// Its form is wrong or has two meanings: 400, and the connection ends.
    Form(Form),
    /// More bytes of target than allowed: 414.
    UriTooLong,
    /// More header fields than allowed: 431.
    TooManyHeaders,
    /// No route names this host and path: 404.
    NoRoute,
    /// The route has other methods: 405.
    Method {
        /// The value of `Allow`.
        allow: HeaderValue,
    },
    /// It may not pass, or nobody knows: 400, 401, 403, 503.
    Stopped {
        /// Why.
        stop: Stop,
        /// The scopes the route demands, for the challenge.
        scope: Option<Arc<str>>,
    },
    /// Its refresh token is dead: what the token endpoint's client understands by that.
    Grant {
        /// Why.
        denial: Denial,
        /// Whose client it is.
        dialect: Dialect,
    },
    /// It asks a token endpoint for something in a form that can be read in more than one way.
    TokenRequest {
        /// What is wrong.
        fault: RequestFault,
        /// Whose client it is.
        dialect: Dialect,
    },
    /// A body beyond the limit: 413.
    BodyTooLarge,
    /// The client stopped sending its body: 408.
    UploadStalled,
    /// The client's body broke off; nobody is there to read the answer: 400.
    UploadBroken,
    /// The upstream is at fault: 502 or 504.
    Upstream(UpstreamFault),
}

/// What is wrong with a request's form.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    /// The path.
    Path(PathFault),
    /// `Host`, `:authority`, or both.
    Host,
    /// `Content-Length` or `Transfer-Encoding`.
    Framing,
    /// A `CONNECT` that asks for no protocol a route offers.
    Connect,
    /// The headers of a WebSocket handshake.
    Handshake,
}

/// How an upstream failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum UpstreamFault {
    /// No connection: 502.
    Connect,
    /// No connection in time: 504.
    ConnectTimeout,
    /// No answer in time: 504.
    Timeout,
    /// The connection ended before the answer: 502.
    Reset,
    /// The answer is none: 502.
    Protocol,
}

impl UpstreamFault {
    /// The reason in metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::ConnectTimeout | Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
        }
    }

    /// Whether it says that the upstream is ill, not that one exchange went wrong.
    pub(super) const fn is_illness(self) -> bool {
        matches!(self, Self::Connect | Self::ConnectTimeout | Self::Timeout)
    }
}

impl Refusal {
    /// The outcome in logs and metrics.
    pub(super) const fn outcome(&self) -> &'static str {
        match self {
            Self::Stopped { stop: Stop::Denied(_), .. } | Self::Grant { .. } => "denied",
            Self::Stopped { stop: Stop::Blind(_), .. } => "unavailable",
            Self::Upstream(_) => "failed",
            _ => "refused",
        }
    }

    /// The denial, when a token is to blame.
    pub(super) const fn denial(&self) -> Option<Denial> {
        match self {
            Self::Stopped { stop: Stop::Denied(denial), .. } | Self::Grant { denial, .. } => Some(*denial),
            _ => None,
        }
    }

    /// The reason in metrics, for what is neither a denial nor the upstream's fault.
    pub(super) const fn reason(&self) -> Option<&'static str> {
        Some(match self {
            Self::Form(Form::Path(_)) => "path",
            Self::Form(Form::Host) => "host",
            Self::Form(Form::Framing) => "framing",
            Self::Form(Form::Connect) => "connect",
            Self::Form(Form::Handshake) => "handshake",
            Self::UriTooLong => "uri_length",
            Self::TooManyHeaders => "headers",
            Self::NoRoute => "no_route",
            Self::Method { .. } => "method",
            Self::Stopped { stop: Stop::Ambiguous(_), .. } => "credentials",
            Self::Stopped { .. } | Self::Grant { .. } | Self::Upstream(_) => return None,
            Self::TokenRequest { .. } => "token_request",
            Self::BodyTooLarge => "body_size",
            Self::UploadStalled => "upload_stalled",
            Self::UploadBroken => "upload_broken",
        })
    }
}
