//! A document as Elasticsearch's clients take it: in the media type they asked for, indented if they asked for that, with a
//! warning on the path that is deprecated; and what is said for each fault.

use axum::body::Body;
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderName, WARNING};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;

use crate::admin::Fault;
use crate::admin::elasticsearch::{LEGACY_TOKEN, VERSION};
use crate::domain::wording::Wording;
use crate::domain::wording::elasticsearch::{INVALIDATE, error, media_type, unauthenticated, unauthorized};

/// How a request wants to be answered.
#[derive(Clone, Debug)]
pub(super) struct Style {
    /// The content type.
    media: String,
    /// Indented, for people.
    pub(super) pretty: bool,
    is_deprecated: bool,
}

impl Style {
    /// The style a request asks for; it is known before anything of the request is believed.
    pub(super) fn of(request: &Parts) -> Self {
        let headers = &request.headers;
        let media = asked_for(headers, &ACCEPT).or_else(|| asked_for(headers, &CONTENT_TYPE));
        let media = media.unwrap_or_else(|| "application/json".to_owned());
        Self { media, pretty: false, is_deprecated: request.uri.path() == LEGACY_TOKEN }
    }

    /// The answer.
    pub(super) fn answer(&self, wording: Wording) -> Response {
        let written = if self.pretty { serde_json::to_string_pretty } else { serde_json::to_string };
        // Plain data: turning it into JSON cannot fail.
        let mut response = Response::new(Body::from(written(&wording.body).unwrap_or_default()));
        *response.status_mut() = StatusCode::from_u16(wording.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        for (name, value) in &wording.headers {
            append(headers, HeaderName::from_static(name), value);
        }
        append(headers, CONTENT_TYPE, &self.media);
        if self.is_deprecated {
            append(headers, WARNING, &deprecation());
        }
        response
    }
}

fn append(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.append(name, value);
    }
}

fn asked_for(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.find_map(media_type)
}

fn deprecation() -> String {
    format!(
        "299 Elasticsearch-{VERSION}-portcullis \"[DELETE /_xpack/security/oauth2/token] is deprecated! Use [DELETE \
         /_security/oauth2/token] instead.\""
    )
}

/// What is said for a fault, with the status that every dialect gives it.
pub(super) fn worded(fault: &Fault) -> Wording {
    let status = fault.status().as_u16();
    let kind = match fault {
        Fault::Anonymous => return unauthenticated("missing authentication credentials for REST request"),
        Fault::Unauthenticated => return unauthenticated("unable to authenticate with the provided credentials"),
        Fault::Forbidden(_) | Fault::Ownerless => return unauthorized(INVALIDATE, "the caller"),
        Fault::Invalid(_) | Fault::AllInvalid(_) | Fault::Ambiguous | Fault::Method => "illegal_argument_exception",
        Fault::NotFound(_) => "resource_not_found_exception",
        Fault::Timeout => "timeout_exception",
        Fault::TooLarge(_) => "content_too_long_exception",
        Fault::MediaType(_) => "media_type_header_exception",
        Fault::RateLimited(_) | Fault::Busy(_) => "es_rejected_execution_exception",
        Fault::Unavailable(_) => "unavailable_shards_exception",
        Fault::Internal => "exception",
    };
    let wording = error(status, kind, &fault.detail());
    match fault.retry_after_secs() {
        Some(secs) => wording.with("retry-after", secs.to_string()),
        None => wording,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::header::RETRY_AFTER;

    use super::*;
    use crate::domain::Right;

    #[test]
    fn every_fault_has_a_root_cause_and_one_status() {
        for fault in [
            Fault::Invalid("x".into()),
            Fault::Ambiguous,
            Fault::Anonymous,
            Fault::Unauthenticated,
            Fault::Forbidden(Some(Right::SessionsRevoke)),
            Fault::NotFound("x".into()),
            Fault::Method,
            Fault::Timeout,
            Fault::TooLarge(1),
            Fault::MediaType("application/json"),
            Fault::RateLimited(Duration::from_secs(3)),
            Fault::Unavailable("x"),
            Fault::Internal,
        ] {
            let wording = worded(&fault);
            assert_eq!(wording.status, fault.status().as_u16(), "{fault:?}");
            assert_eq!(wording.body["status"], wording.status, "{fault:?}");
            assert!(wording.body["error"]["root_cause"][0]["reason"].is_string(), "{fault:?}");
            assert!(wording.headers.contains(&("x-elastic-product", "Elasticsearch".to_owned())), "{fault:?}");
            let retry = wording.headers.iter().any(|(name, _)| *name == RETRY_AFTER);
            assert_eq!(retry, matches!(wording.status, 429 | 503), "{fault:?}");
        }
    }
}
