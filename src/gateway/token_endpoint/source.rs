//! Places in requests and answers, as the configuration names them: `form:FIELD`, `json:/POINTER`, `reply:/POINTER`,
//! `access:CLAIM`, `refresh:CLAIM`, `id:CLAIM`, `request:FIELD`. Parsed once, so that a text that is no place never gets
//! into a running gateway.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// The longest place, in bytes.
const MAX_BYTES: usize = 256;

/// A JSON pointer (RFC 6901) to a member, never to the whole document.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Pointer(Box<str>);

impl Pointer {
    /// The pointer to a member of the document itself.
    #[must_use]
    pub fn member(name: &str) -> Self {
        Self(format!("/{}", name.replace('~', "~0").replace('/', "~1")).into())
    }

    /// The pointer that goes through these names.
    #[must_use]
    pub fn through(names: &[&str]) -> Self {
        Self(names.iter().map(|name| Self::member(name).0.into_string()).collect::<String>().into())
    }

    /// The value it points to.
    #[must_use]
    pub fn find<'v>(&self, document: &'v Value) -> Option<&'v Value> {
        document.pointer(&self.0)
    }

    /// The names it goes through, unescaped.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.0.split('/').skip(1).map(|name| name.replace("~1", "/").replace("~0", "~"))
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Pointer {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        let escaped = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
        let fits = text.len() <= MAX_BYTES && !text.contains(char::is_control);
        if text.len() > 1 && text.starts_with('/') && escaped && fits {
            Ok(Self(text.into()))
        } else {
            Err(InvalidSource::Pointer(text.to_owned()))
        }
    }
}

/// A claim's name, or a pointer into the claims.
fn claim(text: &str) -> Result<Pointer, InvalidSource> {
    if text.starts_with('/') { text.parse() } else { Pointer::member(text).0.parse() }
}

/// Where a request carries a refresh token.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum FieldPlace {
    /// In that field of a form.
    Form(Box<str>),
    /// There in a JSON document.
    Json(Pointer),
}

impl FieldPlace {
    /// The name of the field itself.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Form(name) => name.to_string(),
            Self::Json(pointer) => pointer.names().last().unwrap_or_default(),
        }
    }
}

impl FromStr for FieldPlace {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        match text.split_once(':') {
            Some(("form", name)) if is_field(name) => Ok(Self::Form(name.into())),
            Some(("json", pointer)) => pointer.parse().map(Self::Json),
            _ => Err(InvalidSource::Place(text.to_owned())),
        }
    }
}

/// Names of fields that mean one thing in every form, whoever decodes it.
fn is_field(name: &str) -> bool {
    (1..=MAX_BYTES).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// A token that an answer hands out.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Handed {
    /// The access token.
    Access,
    /// The refresh token.
    Refresh,
    /// The ID token.
    Id,
}

/// A field of a request: of a form by its name, of a JSON document by its name or by a pointer.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct RequestField {
    name: Option<Box<str>>,
    pointer: Pointer,
}

impl RequestField {
    /// The field of that name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: Some(name.into()), pointer: Pointer::member(name) }
    }

    /// Its name in a form; `None` for one that only JSON has.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Where it is in a JSON document.
    #[must_use]
    pub const fn pointer(&self) -> &Pointer {
        &self.pointer
    }
}

impl FromStr for RequestField {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        match text.starts_with('/') {
            true => Ok(Self { name: None, pointer: text.parse()? }),
            false if is_field(text) => Ok(Self::named(text)),
            false => Err(InvalidSource::Field(text.to_owned())),
        }
    }
}

/// Where to learn something.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Source {
    /// There in the answer.
    Reply(Pointer),
    /// That claim of a JWT that the answer hands out.
    Claim(Handed, Pointer),
    /// That field of the request.
    Request(RequestField),
}

impl FromStr for Source {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        match text.split_once(':') {
            Some(("reply", pointer)) => pointer.parse().map(Self::Reply),
            Some(("access", name)) => claim(name).map(|name| Self::Claim(Handed::Access, name)),
            Some(("refresh", name)) => claim(name).map(|name| Self::Claim(Handed::Refresh, name)),
            Some(("id", name)) => claim(name).map(|name| Self::Claim(Handed::Id, name)),
            Some(("request", field)) => field.parse().map(Self::Request),
            _ => Err(InvalidSource::Source(text.to_owned())),
        }
    }
}

/// A text that names no place.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidSource {
    /// No JSON pointer to a member.
    #[error("{0:?} is no JSON pointer to a member, such as \"/a/b\" (RFC 6901)")]
    Pointer(String),
    /// No place of a refresh token.
    #[error("{0:?} is no place of a field; places are form:FIELD and json:/POINTER")]
    Place(String),
    /// No field of a request.
    #[error("{0:?} is no field of a request: a name of letters, digits, _, - and ., or a JSON pointer")]
    Field(String),
    /// No source.
    #[error("{0:?} is no source; sources are reply:/POINTER, access:CLAIM, refresh:CLAIM, id:CLAIM, request:FIELD")]
    Source(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn pointer(text: &str) -> Pointer {
        text.parse().unwrap()
    }

    #[test]
    fn a_pointer_finds_members_of_objects_and_arrays() {
        let document = json!({ "ids": [{ "id": "bob" }], "a/b": { "~c": 1 } });
        assert_eq!(pointer("/ids/0/id").find(&document), Some(&json!("bob")));
        assert_eq!(pointer("/a~1b/~0c").find(&document), Some(&json!(1)));
        assert_eq!(Pointer::member("a/b").find(&document), Some(&json!({ "~c": 1 })));
        for missing in ["/ids/00/id", "/ids/-/id", "/ids/1", "/IDS", "/a"] {
            assert_eq!(pointer(missing).find(&document), None, "{missing}");
        }
    }

    #[test]
    fn places_are_read_or_refused() {
        assert_eq!("form:refresh_token".parse(), Ok(FieldPlace::Form("refresh_token".into())));
        assert_eq!("json:/a/refresh_token".parse::<FieldPlace>().unwrap().name(), "refresh_token");
        for wrong in ["", "form:", "form:a b", "form:a[]", "form:a&b", "json:", "json:a", "json:/", "json:/~2", "x:a"] {
            assert!(wrong.parse::<FieldPlace>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn sources_are_read_or_refused() {
        assert_eq!("reply:/a".parse(), Ok(Source::Reply(pointer("/a"))));
        assert_eq!("access:https://x/y".parse(), Ok(Source::Claim(Handed::Access, Pointer::member("https://x/y"))));
        assert_eq!("id:/ids/0/id".parse(), Ok(Source::Claim(Handed::Id, pointer("/ids/0/id"))));
        let Ok(Source::Request(field)) = "request:username".parse() else { panic!("no request's field") };
        assert_eq!((field.name(), field.pointer()), (Some("username"), &pointer("/username")));
        for wrong in ["", "reply", "reply:", "reply:a", "access:", "request:", "request:a b", "request:/", "cookie:a"] {
            assert!(wrong.parse::<Source>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_place_or_a_fault(text in "(form|json|reply|access|request)?:?/?\\PC{0,20}") {
            let _ = text.parse::<FieldPlace>();
            let _ = text.parse::<Source>();
        }

        #[test]
        fn a_members_pointer_finds_it(name in "[a-z~/01]{1,8}") {
            let document = json!({ name.clone(): 1, "other": 2 });
            prop_assert_eq!(Pointer::member(&name).find(&document), Some(&json!(1)));
            prop_assert_eq!(Pointer::member(&name).names().collect::<Vec<_>>(), [name]);
        }
    }
}
