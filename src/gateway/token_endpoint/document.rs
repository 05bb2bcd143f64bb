//! The body of a request as fields, whichever of the two ways it is written in.
//!
//! A field counts only under exactly its name. One that is not it, but that some server takes for it, makes the refresh
//! token ambiguous, which is refused, and anything else unknown, which is harmless.

use serde_json::Value;

use crate::domain::json;
use crate::gateway::token_endpoint::head::MediaType;
use crate::gateway::token_endpoint::name::imitates;
use crate::gateway::token_endpoint::request::RequestFault;
use crate::gateway::token_endpoint::{FieldPlace, Pointer, RequestField, form};

const JSON: RequestFault = RequestFault::Malformed("the body is not one JSON object with one meaning");
const TYPE: RequestFault = RequestFault::Malformed("a token in the body is no string");
const IMITATED: RequestFault = RequestFault::Malformed("a field could be taken for a token's");
const CHARSET: RequestFault = RequestFault::Malformed("the body must not name a charset");

/// A body.
pub(super) enum Document {
    /// Its fields.
    Form(Vec<(String, String)>),
    /// One object.
    Json(Value),
}

impl Document {
    /// Reads a body whose size is bounded.
    pub(super) fn read(media: MediaType, body: &[u8]) -> Result<Self, RequestFault> {
        match media {
            MediaType::Form => {
                let fields = form::fields(body)?;
                // Browsers put the charset there, and some servers decode by it.
                let charset = fields.iter().any(|(name, _)| name.trim().eq_ignore_ascii_case("_charset_"));
                if charset { Err(CHARSET) } else { Ok(Self::Form(fields)) }
            }
            MediaType::Json => {
                let object = json::object(body).ok_or(JSON)?;
                let odd = object.keys().any(|name| name.contains(char::is_control));
                if odd { Err(JSON) } else { Ok(Self::Json(Value::Object(object))) }
            }
        }
    }

    /// The token at a place, if the body is written so that it can have one and has it.
    pub(super) fn token(&self, place: &FieldPlace) -> Result<Option<&str>, RequestFault> {
        let text = match (self, place) {
            (Self::Form(fields), FieldPlace::Form(name)) => {
                if fields.iter().any(|(other, _)| imitates(other, name)) {
                    return Err(IMITATED);
                }
                value(fields, name)
            }
            (Self::Json(document), FieldPlace::Json(pointer)) => {
                if is_imitated(document, pointer) || has_like(document, &place.name()) {
                    return Err(IMITATED);
                }
                pointer.find(document).map(|value| value.as_str().ok_or(TYPE)).transpose()?
            }
            _ => None,
        };
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// A field, when it is a text and nothing else could be taken for it.
    pub(super) fn field(&self, field: &RequestField) -> Option<&str> {
        let text = match self {
            Self::Form(fields) => {
                let name = field.name()?;
                let alone = !fields.iter().any(|(other, _)| imitates(other, name));
                alone.then(|| value(fields, name)).flatten()
            }
            Self::Json(document) => {
                let alone = !is_imitated(document, field.pointer());
                alone.then(|| field.pointer().find(document)).flatten().and_then(Value::as_str)
            }
        };
        text.filter(|text| !text.is_empty())
    }

    /// Whether the field is there but no text.
    pub(super) fn is_mistyped(&self, field: &RequestField) -> bool {
        let Self::Json(document) = self else { return false };
        field.pointer().find(document).is_some_and(|value| !value.is_string())
    }
}

fn value<'f>(fields: &'f [(String, String)], name: &str) -> Option<&'f str> {
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Whether another member than the one meant could be taken for it, at any step of the way.
fn is_imitated(document: &Value, pointer: &Pointer) -> bool {
    let mut here = Some(document);
    pointer.names().any(|name| {
        let imitated = here.is_some_and(|here| has_like(here, &name));
        here = here.and_then(|here| Pointer::member(&name).find(here));
        imitated
    })
}

/// Whether an object has a member that could be taken for `name`.
fn has_like(value: &Value, name: &str) -> bool {
    value.as_object().is_some_and(|members| members.keys().any(|other| imitates(other, name)))
}
