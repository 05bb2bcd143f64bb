//! Any revocation, for tests of what keeps them.

use proptest::prelude::*;

use crate::domain::{
    Cutoff, Ending, Lift, Name, Position, Reach, Recorded, Revocation, RevocationId, Selector, Timestamp,
};
use crate::sync::ledger::record::Kept;

/// A revocation of any form, seen at any time.
pub(crate) fn kept() -> impl Strategy<Value = Kept> {
    (recorded(), any::<u64>()).prop_map(|(recorded, seen_at)| Kept { recorded, seen_at: Timestamp::from_secs(seen_at) })
}

fn recorded() -> impl Strategy<Value = Recorded> {
    (revocation(), any::<u64>(), proptest::option::of(ending())).prop_map(|(revocation, position, ending)| Recorded {
        revocation,
        position: Position::new(position),
        ending,
    })
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        (any::<u64>(), "[a-z]{0,8}")
            .prop_map(|(at, actor)| { Ending::Lifted(Lift { at: Timestamp::from_secs(at), actor: actor.into() }) }),
        any::<u128>().prop_map(|by| Ending::Superseded(RevocationId::from_random(by))),
    ]
}

fn revocation() -> impl Strategy<Value = Revocation> {
    let times = (any::<u64>(), proptest::option::of(any::<u64>()), proptest::option::of(any::<u64>()));
    let words = ("[a-z]{0,8}", proptest::option::of("\\PC{0,20}"), proptest::option::of(selector()));
    (any::<u128>(), selector(), 0_u8..8, times, words).prop_map(|(id, selector, reach, times, words)| {
        let (created_at, cutoff, expires_at) = times;
        let (actor, reason, named_for) = words;
        Revocation {
            id: RevocationId::from_random(id),
            selector,
            reach: Reach::from_bits(reach),
            cutoff: cutoff.map_or(Cutoff::Absolute, |last| Cutoff::Until(Timestamp::from_secs(last))),
            created_at: Timestamp::from_secs(created_at),
            expires_at: expires_at.map(Timestamp::from_secs),
            actor: actor.into(),
            reason: reason.map(Into::into),
            named_for,
        }
    })
}

fn selector() -> impl Strategy<Value = Selector> {
    let name = prop_oneof![
        Just(Name::TokenId),
        Just(Name::Session),
        Just(Name::Family),
        Just(Name::User),
        Just(Name::Temporary),
        Just(Name::Username),
        Just(Name::Client),
        Just(Name::KeyId),
        "[a-z]{4,8}".prop_map(|claim| Name::Claim(claim.into())),
    ];
    let value = prop_oneof!["[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "[0-9a-f]{32}", "[a-z]{1,12}"];
    proptest::collection::vec((name, value), 0..4).prop_map(|parts| {
        let issuer = [(Name::Issuer, "https://id.example".to_owned())];
        Selector::new(issuer.into_iter().chain(parts)).expect("names of an issuer")
    })
}
