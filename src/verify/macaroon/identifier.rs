//! What the identifier of Onezone's macaroons says: `2/PERSISTENCE/SUBJECT/TYPE/ID`, and of the first version the id alone.
//! Read as strictly as it is signed: the real one has one spelling, so that another is somebody's invention.

use crate::domain::Timestamp;

/// The longest text a selector can name, in bytes: a token that says more could not be revoked.
const MAX_NAME_BYTES: usize = 1024;

/// Who and what a token is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Identity {
    /// Whose it is; tokens of the first version do not say.
    pub(super) subject: Option<Subject>,
    /// What it is good for.
    pub(super) kind: Type,
    /// The generation of its subject's temporary tokens it is of; `None` for a named token.
    pub(super) generation: Option<u64>,
    /// Its own id.
    pub(super) id: Box<str>,
}

/// Whose a token is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Subject {
    /// A user of that id.
    User(Box<str>),
    /// A Oneprovider of that id.
    Provider(Box<str>),
}

/// What a token is good for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Type {
    /// Opens doors; perhaps only as long as a session lasts.
    Access(Option<Box<str>>),
    /// Says who somebody is, and opens nothing.
    Identity,
    /// Invites somebody to something.
    Invite,
}

impl Type {
    /// Its name as a claim.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Access(_) => "access",
            Self::Identity => "identity",
            Self::Invite => "invite",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "act" => Some(Self::Access(None)),
            None if text == "idn" => Some(Self::Identity),
            Some(("act", session)) => name(session).map(|session| Self::Access(Some(session))),
            Some((kind, _)) if kind.len() == 3 && kind != "idn" => Some(Self::Invite),
            _ => None,
        }
    }
}

impl Identity {
    /// Reads an identifier; `None` for one that Onezone would not have written.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        match *parts.as_slice() {
            [id] => Some(Self { subject: None, kind: Type::Access(None), generation: None, id: name(id)? }),
            ["2", persistence, subject, kind, id] => Some(Self {
                subject: Some(Subject::parse(subject)?),
                kind: Type::parse(kind)?,
                generation: generation(persistence)?,
                id: name(id)?,
            }),
            _ => None,
        }
    }
}

impl Subject {
    fn parse(text: &str) -> Option<Self> {
        match text.split_once('-')? {
            ("usr", id) => name(id).map(Self::User),
            ("prv", id) => name(id).map(Self::Provider),
            _ => None,
        }
    }
}

/// `nmd` has none, `tmp-N` has that one.
#[expect(clippy::option_option, reason = "the outer is whether the text is one at all")]
fn generation(persistence: &str) -> Option<Option<u64>> {
    if persistence == "nmd" {
        return Some(None);
    }
    let digits = persistence.strip_prefix("tmp-")?;
    let number: u64 = digits.parse().ok()?;
    // One spelling, and within what a cut-off can count.
    let counts = number.to_string() == digits && (1..Timestamp::MAX.as_secs()).contains(&number);
    counts.then_some(Some(number))
}

/// A text that a selector can name.
fn name(text: &str) -> Option<Box<str>> {
    ((1..=MAX_NAME_BYTES).contains(&text.len()) && !text.contains(char::is_control)).then(|| text.into())
}
