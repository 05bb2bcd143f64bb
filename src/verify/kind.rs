//! What kind of token a token says it is. Issuers sign many things with one key: access and refresh tokens, ID tokens,
//! logout tokens, security events, proofs. Only the marks they bear keep one from being used as another (RFC 8725 §3.11,
//! §3.12), so every mark in use is read, and one that names something else settles the matter.

use serde_json::Value;

use crate::domain::TokenKind;
use crate::domain::json::Object;
use crate::verify::jws::Header;

/// Claims in which issuers write a token's kind: Keycloak, Amazon Cognito and Ory Hydra, RFC 7662 §2.2, and many
/// frameworks.
const MARKS: [&str; 4] = ["typ", "token_use", "token_type", "type"];
/// Claims that only ID tokens have (OpenID Connect Core §3.1.3.6, §3.3.2.11).
const ID_TOKEN_CLAIMS: [&str; 3] = ["at_hash", "c_hash", "s_hash"];

/// What the marks of a token say, and whether it has the type its issuer's section demands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Marking {
    says: Says,
    meets_demand: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Says {
    /// It is of this kind.
    Kind(TokenKind),
    /// Nothing: it is what it is used as.
    Nothing,
    /// It is something that opens no door.
    Foreign,
}

impl Marking {
    /// Reads the marks of a token: the header's `typ`, or the `token_type` of an introspection answer, and claims.
    pub(super) fn of(header: Option<&Header>, claims: &Object, demanded: Option<&str>) -> Self {
        let typ = match header {
            Some(header) => header.media_type.as_deref(),
            None => text(claims, "token_type"),
        };
        let as_demanded = |demanded: &str| typ.is_some_and(|typ| media_type(typ) == media_type(demanded));
        let meets_demand = demanded.is_none_or(as_demanded);
        let by_type = match typ.map_or(Says::Nothing, by_media_type) {
            // What the operator names is known, whatever it is.
            Says::Foreign if demanded.is_some() && meets_demand => Says::Nothing,
            says => says,
        };
        let marks = MARKS.iter().filter_map(|name| text(claims, name)).map(by_mark);
        let says = marks.chain([by_claims(claims)]).fold(by_type, Says::and);
        Self { says, meets_demand }
    }

    /// The kind, when it is marked.
    pub(super) const fn kind(self) -> Option<TokenKind> {
        match self.says {
            Says::Kind(kind) => Some(kind),
            Says::Nothing | Says::Foreign => None,
        }
    }

    /// Whether a token so marked serves as `wanted`. An API key serves wherever an access token does; the type that is
    /// demanded is that of access tokens (RFC 9068 §4).
    pub(super) fn serves_as(self, wanted: TokenKind) -> bool {
        match self.says {
            Says::Kind(TokenKind::ApiKey) => wanted != TokenKind::Refresh && self.meets_demand,
            Says::Kind(TokenKind::Refresh) => wanted == TokenKind::Refresh,
            Says::Kind(TokenKind::Access) => wanted == TokenKind::Access && self.meets_demand,
            Says::Nothing => wanted == TokenKind::Refresh || self.meets_demand,
            Says::Foreign => false,
        }
    }
}

impl Says {
    /// Two marks that disagree make a token that is neither; but an API key may call itself an access token as well.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, mark) | (mark, Self::Nothing) => mark,
            (one, other) if one == other => one,
            (Self::Kind(TokenKind::ApiKey), Self::Kind(TokenKind::Access))
            | (Self::Kind(TokenKind::Access), Self::Kind(TokenKind::ApiKey)) => Self::Kind(TokenKind::ApiKey),
            _ => Self::Foreign,
        }
    }
}

fn text<'a>(claims: &'a Object, name: &str) -> Option<&'a str> {
    claims.get(name).and_then(Value::as_str)
}

/// A media type without `application/`, in lower case (RFC 7515 §4.1.9).
fn media_type(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    lower.strip_prefix("application/").map_or(lower.clone(), ToOwned::to_owned)
}

/// Explicit types all end in `+jwt` (RFC 8725 §3.11); one we do not know is not meant for us.
fn by_media_type(given: &str) -> Says {
    let given = media_type(given);
    match given.strip_suffix("+jwt") {
        Some("at") => Says::Kind(TokenKind::Access),
        Some("rt" | "refresh") => Says::Kind(TokenKind::Refresh),
        Some("api-key" | "apikey") => Says::Kind(TokenKind::ApiKey),
        Some(_) => Says::Foreign,
        None => by_mark(&given),
    }
}

/// What a mark in a claim says; most words say nothing about the kind.
fn by_mark(mark: &str) -> Says {
    let mark = mark.to_ascii_lowercase().replace([' ', '-'], "_");
    match mark.as_str() {
        "access" | "access_token" | "bearer" | "dpop" | "at+jwt" | "application/at+jwt" => {
            Says::Kind(TokenKind::Access)
        }
        "refresh" | "refresh_token" | "offline" => Says::Kind(TokenKind::Refresh),
        "api_key" | "apikey" => Says::Kind(TokenKind::ApiKey),
        "id" | "id_token" | "logout" | "logout_token" => Says::Foreign,
        _ => Says::Nothing,
    }
}

/// ID tokens, and security events (RFC 8417 §2.2), of which logout tokens are a kind, are known by their claims too.
fn by_claims(claims: &Object) -> Says {
    let id_token = ID_TOKEN_CLAIMS.iter().any(|name| claims.contains_key(*name));
    let event = claims.get("events").is_some_and(Value::is_object);
    if id_token || event { Says::Foreign } else { Says::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::json;

    fn marking(typ: Option<&str>, claims: &str, demanded: Option<&str>) -> Marking {
        let header = Header { algorithm: "ES256".into(), key_id: None, media_type: typ.map(Into::into) };
        Marking::of(Some(&header), &json::object(claims.as_bytes()).unwrap(), demanded)
    }

    fn serves(marking: Marking) -> Vec<TokenKind> {
        TokenKind::ALL.into_iter().filter(|kind| marking.serves_as(*kind)).collect()
    }

    #[test]
    fn kinds_are_told_apart_by_type_and_by_claims() {
        for typ in ["at+jwt", "AT+JWT", "application/at+jwt"] {
            assert_eq!(serves(marking(Some(typ), "{}", None)), [TokenKind::Access], "{typ}");
        }
        let refresh =
            [r#"{"token_use":"refresh"}"#, r#"{"typ":"Refresh"}"#, r#"{"typ":"Offline"}"#, r#"{"type":"refresh"}"#];
        for claims in refresh {
            assert_eq!(serves(marking(Some("JWT"), claims, None)), [TokenKind::Refresh], "{claims}");
        }
        let key = marking(None, r#"{"token_use":"api_key"}"#, None);
        assert_eq!((key.kind(), serves(key)), (Some(TokenKind::ApiKey), vec![TokenKind::Access, TokenKind::ApiKey]));
        assert_eq!(serves(marking(Some("JWT"), r#"{"type":"premium"}"#, None)), TokenKind::ALL);
    }

    #[test]
    fn what_opens_no_door_serves_as_nothing() {
        for typ in ["logout+jwt", "secevent+jwt", "dpop+jwt", "application/secevent+jwt", "kb+jwt", "id_token"] {
            assert_eq!(serves(marking(Some(typ), "{}", None)), [], "{typ}");
        }
        let logout = r#"{"events":{"http://schemas.openid.net/event/backchannel-logout":{}}}"#;
        for claims in [logout, r#"{"at_hash":"x"}"#, r#"{"token_use":"id"}"#, r#"{"typ":"ID"}"#, r#"{"typ":"Logout"}"#]
        {
            assert_eq!(serves(marking(Some("JWT"), claims, None)), [], "{claims}");
        }
    }

    #[test]
    fn marks_that_disagree_make_neither() {
        assert_eq!(serves(marking(Some("at+jwt"), r#"{"token_use":"refresh"}"#, None)), []);
        assert_eq!(serves(marking(None, r#"{"typ":"Bearer","token_use":"id"}"#, None)), []);
    }

    #[test]
    fn a_demanded_type_admits_no_other_access_token() {
        let demanded = Some("at+jwt");
        assert_eq!(serves(marking(Some("application/AT+jwt"), "{}", demanded)), [TokenKind::Access]);
        assert_eq!(serves(marking(Some("JWT"), "{}", demanded)), [TokenKind::Refresh]);
        assert_eq!(serves(marking(None, "{}", demanded)), [TokenKind::Refresh]);
        assert_eq!(serves(marking(Some("service+jwt"), "{}", Some("service+jwt"))), TokenKind::ALL);
    }

    #[test]
    fn an_opaque_tokens_type_is_its_token_type() {
        let answer = json::object(br#"{"active":true,"token_type":"Bearer"}"#).unwrap();
        assert_eq!(serves(Marking::of(None, &answer, Some("bearer"))), [TokenKind::Access]);
        let silent = json::object(br#"{"active":true}"#).unwrap();
        assert!(!Marking::of(None, &silent, Some("bearer")).serves_as(TokenKind::Access));
    }
}
