//! What PrivX's scopes come to here.
//!
//! A token names them by its scopes or by the permissions of its user, whose names PrivX's API writes in one word:
//!
//! | scope | permission | may |
//! |---|---|---|
//! | `admin` | `privx-admin` | see and end sessions |
//! | `service` | `privx-service` | the same: PrivX's own parts |
//! | `usersManage` | `users-manage` | end sessions |
//! | `usersView` | `users-view` | see sessions |
//! | `user` | `privx-user` | mind its own, as every user may |
//!
//! None of them gives a right that PrivX itself has no word for: its admin is not portcullis's.

use crate::admin::Identity;
use crate::domain::{ClaimValues, Claims, Name, Right, Rights};

/// The claim in which PrivX writes permissions: one text, with commas.
const PERMISSIONS: &str = "permissions";

/// The caller with the rights that its token's scopes come to, when the token is of `issuer`.
pub(super) fn applied(identity: Identity, issuer: &str) -> Identity {
    let rights = identity.claims().filter(|claims| *claims.issuer == *issuer).map(rights).unwrap_or_default();
    identity.with_rights(rights)
}

fn rights(claims: &Claims) -> Rights {
    let name = Name::Claim(PERMISSIONS.into());
    let permissions = match claims.values(&name) {
        ClaimValues::Many(texts) => texts,
        _ => &[],
    };
    let named = claims.scopes.iter().chain(permissions).flat_map(|text| text.split([',', ' ']));
    named.flat_map(meaning).copied().collect()
}

fn meaning(scope: &str) -> &'static [Right] {
    match scope {
        "admin" | "privx-admin" | "service" | "privx-service" => &[Right::SessionsRead, Right::SessionsRevoke],
        "usersManage" | "users-manage" => &[Right::SessionsRevoke],
        "usersView" | "users-view" => &[Right::SessionsRead],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{TokenDigest, TokenKind};

    fn held(scopes: &[&str], permissions: &str) -> (bool, bool, bool) {
        let bare = Claims::bare("iss".into(), TokenKind::Access, TokenDigest::new([0; 32]));
        let other = [(PERMISSIONS.into(), [permissions.into()].into())].into();
        let rights = rights(&Claims { scopes: scopes.iter().map(|scope| (*scope).into()).collect(), other, ..bare });
        (rights.allow(Right::SessionsRead), rights.allow(Right::SessionsRevoke), rights.allow(Right::AuditRead))
    }

    #[test]
    fn every_scope_and_permission_has_its_meaning_and_no_more() {
        for scope in ["admin", "service", "privx-admin"] {
            assert_eq!(held(&[scope], ""), (true, true, false), "{scope}");
        }
        assert_eq!(held(&[], "privx-user, privx-admin"), (true, true, false));
        assert_eq!(held(&["usersView"], ""), (true, false, false));
        assert_eq!(held(&[], "users-manage"), (false, true, false));
        assert_eq!(held(&["usersView"], "users-manage,privx-user"), (true, true, false));
        for none in ["user", "privx-user", "Admin", "users", "privx-admin2", "sessions:read", ""] {
            assert_eq!(held(&[none], none), (false, false, false), "{none}");
        }
    }
}
