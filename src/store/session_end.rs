//! Which sessions a revocation ends in the inventory. Only people look there: what may pass is the index's to say.

use crate::domain::{Cutoff, Name, Revocation, Selector, Session, SessionEnd, Timestamp, TokenKind};

/// The sessions a revocation ends: those with all of these.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Swept {
    pub(super) issuer: Option<Box<str>>,
    pub(super) session: Option<Box<str>>,
    pub(super) user: Option<Box<str>>,
    pub(super) username: Option<Box<str>>,
    pub(super) client: Option<Box<str>>,
    /// Begun until then, inclusive; `None` for whenever.
    pub(super) until: Option<Timestamp>,
}

impl Swept {
    /// What `revocation` ends. None if it reaches no token of a login, or asks for what is not known of a session: a
    /// session is ended as a whole or not at all.
    pub(super) fn of(revocation: &Revocation) -> Option<Self> {
        let reaches = |kind| revocation.reach.contains(kind);
        if !reaches(TokenKind::Access) && !reaches(TokenKind::Refresh) {
            return None;
        }
        let until = match revocation.cutoff {
            Cutoff::Until(last) => Some(last),
            Cutoff::Absolute => None,
        };
        let mut swept = Self { until, ..Self::default() };
        for (name, value) in revocation.selector.parts() {
            *swept.field(name)? = Some(value.into());
        }
        Some(swept)
    }

    const fn field(&mut self, name: &Name) -> Option<&mut Option<Box<str>>> {
        match name {
            Name::Issuer => Some(&mut self.issuer),
            Name::Session => Some(&mut self.session),
            Name::User => Some(&mut self.user),
            Name::Username => Some(&mut self.username),
            Name::Client => Some(&mut self.client),
            _ => None,
        }
    }

    /// Whether `session` is among them.
    pub(super) fn holds(&self, session: &Session) -> bool {
        let is = |wanted: &Option<Box<str>>, own: Option<&str>| wanted.as_deref().is_none_or(|text| own == Some(text));
        is(&self.issuer, Some(&session.key.issuer))
            && is(&self.session, Some(&session.key.id))
            && is(&self.user, session.user.as_deref())
            && is(&self.username, session.username.as_deref())
            && is(&self.client, session.client.as_deref())
            && self.until.is_none_or(|until| session.created_at <= until)
    }
}

/// The selectors that name `session`, as the log knows them, the narrowest first: whatever else stands over it once a
/// revocation of it was lifted.
pub(super) fn naming(session: &Session) -> Vec<String> {
    let Session { key, user, username, client, .. } = session;
    let issuer = (Name::Issuer, Some(&*key.issuer));
    let user = (Name::User, user.as_deref());
    let username = (Name::Username, username.as_deref());
    let client = (Name::Client, client.as_deref());
    let named = [
        vec![issuer.clone(), (Name::Session, Some(&*key.id))],
        vec![issuer.clone(), user.clone()],
        vec![issuer.clone(), user, client.clone()],
        vec![username.clone()],
        vec![issuer.clone(), username],
        vec![issuer.clone(), client],
        vec![issuer],
    ];
    named.into_iter().filter_map(canonical).collect()
}

/// The selector that names one session, as the log knows it.
pub(super) fn naming_session(issuer: &str, id: &str) -> Option<String> {
    canonical(vec![(Name::Issuer, Some(issuer)), (Name::Session, Some(id))])
}

fn canonical(parts: Vec<(Name, Option<&str>)>) -> Option<String> {
    let parts: Option<Vec<_>> = parts.into_iter().map(|(name, value)| Some((name, value?.to_owned()))).collect();
    Selector::new(parts?).ok().map(|selector| selector.canonical())
}

/// What a session says of its end by `revocation`.
pub(super) fn end_by(revocation: &Revocation) -> SessionEnd {
    SessionEnd {
        at: revocation.created_at,
        actor: revocation.actor.clone(),
        reason: revocation.reason.clone(),
        revocation: revocation.id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Reach, SessionKey};
    use crate::store::testing::{NOW, revocation, selector};

    fn swept(json: &str) -> Option<Swept> {
        Swept::of(&revocation(1, selector(json), 0))
    }

    #[test]
    fn only_what_is_known_of_sessions_sweeps_them() {
        assert!(swept(r#"{"issuer":"i","session":"s"}"#).is_some());
        assert!(swept(r#"{"username":"u"}"#).is_some());
        assert!(swept(r#"{"issuer":"i","user":"u","client":"c"}"#).is_some());
        for other in ["token_id", "family", "key_id", "claim:x"] {
            assert_eq!(swept(&format!(r#"{{"issuer":"i","user":"u","{other}":"x"}}"#)), None, "{other}");
        }
        let mut keys = revocation(1, selector(r#"{"issuer":"i","session":"s"}"#), 0);
        keys.reach = Reach::from_iter([TokenKind::ApiKey]);
        assert_eq!(Swept::of(&keys), None);
    }

    #[test]
    fn every_selector_that_names_a_session_sweeps_it() {
        let key = SessionKey { issuer: "i".into(), id: "s".into() };
        let mut session = Session::new(key, NOW);
        (session.user, session.username, session.client) = (Some("u".into()), Some("n".into()), Some("c".into()));
        let naming = naming(&session);
        assert_eq!(naming.len(), 7);
        for json in naming {
            assert!(swept(&json).unwrap().holds(&session), "{json}");
        }
        session.created_at = NOW.after(std::time::Duration::from_secs(1));
        assert!(!swept(r#"{"issuer":"i","user":"u"}"#).unwrap().holds(&session), "begun after the cut-off");
    }
}
