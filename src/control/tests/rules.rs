//! Who may revoke what, how far back it reaches, and how long it is kept.

use super::*;

#[tokio::test]
async fn the_cutoff_is_this_second_and_the_next_login_passes() {
    let rig = Rig::in_memory().await;
    let receipt = rig.revoke(r#"{"user":"a"}"#).await;
    assert_eq!(receipt.readmits_from, Some(NOW.after(Duration::from_secs(1))));
    assert!(rig.covers(&claims(0)));
    assert!(!rig.covers(&claims(1)));
    let undated = Claims { issued_at: None, ..claims(0) };
    assert!(rig.covers(&undated), "a token that does not say when it was issued counts as older");
    let key = Claims { kind: TokenKind::ApiKey, ..claims(0) };
    assert!(!rig.covers(&key), "an API key belongs to no login");
}

#[tokio::test]
async fn the_cutoff_moves_on_by_the_lead_of_the_issuer_it_is_about() {
    let mut ahead = issuer("main", MAIN);
    ahead.lead = Duration::from_secs(4);
    let facts = vec![ahead, issuer("other", "https://other.example")];
    let rig = Rig::on(testing::open(Backend::Memory).await, facts).await;
    let receipt = rig.revoke(r#"{"issuer":"main","user":"a"}"#).await;
    assert_eq!(receipt.readmits_from, Some(NOW.after(Duration::from_secs(5))));
    let receipt = rig.revoke(r#"{"issuer":"other","user":"a"}"#).await;
    assert_eq!(receipt.readmits_from, Some(NOW.after(Duration::from_secs(1))));
    let receipt = rig.revoke(r#"{"username":"ann"}"#).await;
    assert_eq!(receipt.readmits_from, Some(NOW.after(Duration::from_secs(5))), "of all issuers the one furthest ahead");
}

#[tokio::test]
async fn a_cutoff_that_was_given_stands_as_given_within_the_leeway() {
    let rig = Rig::in_memory().await;
    for (asked, fits) in [(NOW.before(DAY), true), (NOW.after(LEEWAY), true), (NOW.after(LEEWAY * 2), false)] {
        let answer = rig.control.revoke(&revoker(), Revoke { cutoff: Some(asked), ..about(r#"{"user":"a"}"#) }).await;
        match answer {
            Ok(receipt) => assert!(fits && receipt.readmits_from.unwrap() > asked),
            Err(refusal) => assert!(!fits && matches!(refusal, ControlError::Invalid(_)), "{refusal}"),
        }
    }
    let session = Revoke { cutoff: Some(NOW), ..about(r#"{"session":"s1"}"#) };
    assert!(matches!(rig.control.revoke(&revoker(), session).await, Err(ControlError::Invalid(_))));
}

#[tokio::test]
async fn a_session_is_revoked_altogether() {
    let rig = Rig::in_memory().await;
    let receipt = rig.revoke(r#"{"session":"s1"}"#).await;
    assert_eq!((receipt.readmits_from, held(&receipt).revocation.cutoff), (None, Cutoff::Absolute));
    assert!(rig.covers(&claims(1_000_000)));
}

#[tokio::test]
async fn a_ban_waits_to_be_lifted_and_is_for_admins() {
    let rig = Rig::in_memory().await;
    let ban = || Revoke { block: true, ..about(r#"{"user":"a"}"#) };
    let refusal = rig.control.revoke(&revoker(), ban()).await.unwrap_err();
    assert!(matches!(refusal, ControlError::Forbidden(Right::Admin)));
    let receipt = rig.control.revoke(&admin(), ban()).await.unwrap();
    let id = held(&receipt).revocation.id;
    assert_eq!(held(&receipt).revocation.expires_at, None);
    rig.clock.advance(DAY * 1_000);
    assert!(rig.covers(&claims(86_400_000)));
    let refusal = rig.control.lift(&revoker(), id, None).await.unwrap_err();
    assert!(matches!(refusal, ControlError::Forbidden(Right::Admin)), "who may not ban may not lift a ban");
    rig.control.lift(&admin(), id, None).await.unwrap();
    assert!(!rig.covers(&claims(86_400_000)));
}

#[tokio::test]
async fn a_sweep_is_for_admins_and_announced_before_it_is_carried_out() {
    let rig = Rig::in_memory().await;
    let sweep = r#"{"issuer":"main"}"#;
    let refusal = rig.control.revoke(&revoker(), about(sweep)).await.unwrap_err();
    assert!(matches!(refusal, ControlError::Forbidden(Right::Admin)));
    assert!(!rig.covers(&claims(0)));
    rig.revoke(sweep).await;
    assert!(rig.covers(&claims(0)));
    let results: Vec<_> = rig.trail().await.into_iter().rev().map(|record| record.result).collect();
    assert_eq!(results, ["refused", "attempted", "created"]);
}

#[tokio::test]
async fn without_a_right_nothing_is_done_and_the_attempt_is_kept() {
    let rig = Rig::in_memory().await;
    let reader = caller([Right::SessionsRead]);
    let refusals = [
        rig.control.revoke(&reader, about(r#"{"user":"a"}"#)).await.unwrap_err(),
        rig.control.revoke(&reader, command(Target::Token(token(r#"{"jti":"x"}"#)))).await.unwrap_err(),
        rig.control.lift(&reader, RevocationId::from_random(1), None).await.unwrap_err(),
        rig.control.find(&revoker(), RevocationId::from_random(1)).await.unwrap_err(),
        rig.control.search(&revoker(), RevocationQuery::default()).await.unwrap_err(),
        rig.control.check(&revoker(), &token("x")).await.unwrap_err(),
        rig.control.trail(&reader, AuditQuery::default()).await.unwrap_err(),
        rig.control.revoke_all(&reader, vec![about(r#"{"user":"a"}"#)]).await.remove(0).unwrap_err(),
        rig.control.revoke_all(&revoker(), vec![about(r#"{"user":"a"}"#)]).await.remove(0).unwrap_err(),
    ];
    assert!(refusals.iter().all(|refusal| matches!(refusal, ControlError::Forbidden(_))), "{refusals:?}");
    let trail = rig.trail().await;
    assert_eq!(trail.len(), refusals.len());
    assert!(trail.iter().all(|record| record.result == "refused" && record.actor == "ops"));
    assert!(!rig.covers(&claims(0)));
}

#[tokio::test]
async fn the_issuer_may_be_named_or_left_out_where_there_is_one() {
    let rig = Rig::in_memory().await;
    for selector in
        [r#"{"user":"a"}"#, r#"{"issuer":"main","user":"a"}"#, r#"{"issuer":"https://id.example","user":"a"}"#]
    {
        let receipt = rig.revoke(selector).await;
        assert_eq!(held(&receipt).revocation.selector.canonical(), r#"{"issuer":"https://id.example","user":"a"}"#);
    }
    let unknown = rig.control.revoke(&admin(), about(r#"{"issuer":"mian","user":"a"}"#)).await.unwrap_err();
    assert!(
        matches!(&unknown, ControlError::Invalid(text) if text.contains("mian") && text.contains("main")),
        "{unknown}"
    );
    let facts = vec![issuer("main", MAIN), issuer("other", "https://other.example")];
    let two = Rig::on(testing::open(Backend::Memory).await, facts).await;
    let refusal = two.control.revoke(&admin(), about(r#"{"user":"a"}"#)).await.unwrap_err();
    assert!(matches!(refusal, ControlError::Selector(InvalidSelector::NeedsIssuer(_))));
    two.revoke(r#"{"username":"ann"}"#).await;
}

#[tokio::test]
async fn a_token_is_revoked_by_its_own_identity_whatever_its_kind() {
    let rig = Rig::in_memory().await;
    let exp = NOW.as_secs() + 600;
    let text = format!(r#"{{"iss":"{MAIN}","jti":"t1","exp":{exp}}}"#);
    let receipt = rig.control.revoke(&revoker(), command(Target::Token(token(&text)))).await.unwrap();
    let revocation = &held(&receipt).revocation;
    assert_eq!(revocation.selector.canonical(), r#"{"issuer":"https://id.example","token_id":"t1"}"#);
    assert_eq!((revocation.reach, revocation.cutoff), (Reach::ALL, Cutoff::Absolute));
    // Nobody verified the text: a forgery with this `jti` may claim an earlier end than the real token has.
    assert!(revocation.expires_at > Some(Timestamp::from_secs(exp + 31)), "{:?}", revocation.expires_at);
    let unnamed = format!(r#"{{"iss":"{MAIN}","exp":{exp}}}"#);
    let receipt = rig.control.revoke(&revoker(), command(Target::Token(token(&unnamed)))).await.unwrap();
    assert_eq!(held(&receipt).revocation.expires_at, Some(Timestamp::from_secs(exp + 31)), "bound to its bytes");
    assert!(rig.covers(&Claims { kind: TokenKind::ApiKey, ..claims(0) }));

    let opaque = command(Target::Token(token(r#"{"iss":"https://first.example","opaque":"x"}"#)));
    let receipt = rig.control.revoke(&revoker(), opaque).await.unwrap();
    let selector = held(&receipt).revocation.selector.canonical();
    assert!(selector.starts_with(r#"{"token_sha256":""#), "{selector}");
    let nonsense = rig.control.revoke(&revoker(), command(Target::Token(token("nonsense")))).await;
    assert!(matches!(nonsense, Err(ControlError::Token(Denial::Malformed))));
}

#[tokio::test]
async fn it_is_kept_until_everything_it_covers_has_expired() {
    let rig = Rig::in_memory().await;
    let life = NOW.after(DAY + LEEWAY + Duration::from_secs(1));
    let kept =
        async |command: Revoke| held(&rig.control.revoke(&admin(), command).await.unwrap()).revocation.expires_at;
    assert_eq!(kept(about(r#"{"user":"k1"}"#)).await, Some(life));
    assert_eq!(kept(about(r#"{"session":"k2"}"#)).await, Some(life));
    assert_eq!(kept(about(r#"{"token_id":"k3"}"#)).await, Some(life));
    let early = Revoke { cutoff: Some(NOW.before(Duration::from_secs(60))), ..about(r#"{"user":"k4"}"#) };
    assert_eq!(kept(early).await, Some(life.before(Duration::from_secs(60))));
    let ancient = Revoke { cutoff: Some(Timestamp::from_secs(5)), ..about(r#"{"user":"k5"}"#) };
    assert_eq!(kept(ancient).await, Some(NOW.after(LEEWAY + Duration::from_secs(1))));
    let asked = NOW.after(Duration::from_secs(7));
    assert_eq!(kept(Revoke { expires_at: Some(asked), ..about(r#"{"user":"k6"}"#) }).await, Some(asked));
    for wrong in [NOW, Timestamp::from_secs(u64::MAX)] {
        let answer =
            rig.control.revoke(&admin(), Revoke { expires_at: Some(wrong), ..about(r#"{"user":"k7"}"#) }).await;
        assert!(matches!(answer, Err(ControlError::Invalid(_))));
    }
    let far = format!(r#"{{"iss":"{MAIN}","jti":"far","exp":99999999999}}"#);
    assert_eq!(kept(command(Target::Token(token(&far)))).await, None);
}

#[tokio::test]
async fn what_reaches_refresh_tokens_is_kept_as_long_as_those_live() {
    let mut patient = issuer("main", MAIN);
    patient.longest_life = Some(DAY * 30);
    let rig = Rig::on(testing::open(Backend::Memory).await, vec![patient]).await;
    let kept = async |kinds: &[TokenKind]| {
        let reach = Some(kinds.iter().copied().collect());
        let receipt = rig.control.revoke(&admin(), Revoke { reach, ..about(r#"{"user":"a"}"#) }).await.unwrap();
        held(&receipt).revocation.expires_at.unwrap()
    };
    let margin = LEEWAY + Duration::from_secs(1);
    assert_eq!(kept(&[TokenKind::Access]).await, NOW.after(DAY + margin));
    assert_eq!(kept(&[TokenKind::Access, TokenKind::Refresh]).await, NOW.after(DAY * 30 + margin));
}

#[tokio::test]
async fn where_one_issuer_knows_no_lifetime_what_concerns_it_is_kept_for_ever() {
    let mut unknown = issuer("other", "https://other.example");
    (unknown.max_token_lifetime, unknown.longest_life) = (None, None);
    let rig = Rig::on(testing::open(Backend::Memory).await, vec![issuer("main", MAIN), unknown]).await;
    assert_eq!(held(&rig.revoke(r#"{"issuer":"other","user":"a"}"#).await).revocation.expires_at, None);
    assert_eq!(held(&rig.revoke(r#"{"username":"ann"}"#).await).revocation.expires_at, None);
    assert!(held(&rig.revoke(r#"{"issuer":"main","user":"a"}"#).await).revocation.expires_at.is_some());
}

#[tokio::test]
async fn many_at_once_are_answered_each_in_order() {
    let rig = Rig::in_memory().await;
    let commands = (0..2_500).map(|n| match n % 500 {
        7 => about(r#"{"planet":"x"}"#),
        _ => about(&format!(r#"{{"user":"u{n}"}}"#)),
    });
    let answers = rig.control.revoke_all(&admin(), commands.collect()).await;
    assert_eq!(answers.len(), 2_500);
    for (n, answer) in answers.iter().enumerate() {
        match answer {
            Ok(receipt) => {
                assert_eq!(held(receipt).revocation.selector.value(&crate::domain::Name::User), Some(&*format!("u{n}")))
            }
            Err(refusal) => assert!(n % 500 == 7 && matches!(refusal, ControlError::Selector(_)), "{n}: {refusal}"),
        }
    }
    let last = Claims { user: Some("u2499".into()), ..claims(0) };
    assert!(rig.covers(&last));
    let in_hand = (0..3).map(|n| command(Target::Token(token(&format!(r#"{{"iss":"{MAIN}","jti":"j{n}"}}"#)))));
    let answers = rig.control.revoke_all(&revoker(), in_hand.collect()).await;
    assert!(answers.iter().all(Result::is_ok), "tokens in hand need no admin");
    assert!(rig.control.revoke_all(&admin(), Vec::new()).await.is_empty());
}

#[tokio::test]
async fn a_forecast_tells_and_changes_nothing() {
    let rig = Rig::in_memory().await;
    let forecast = rig.control.forecast(&revoker(), about(r#"{"user":"a"}"#)).await.unwrap();
    assert_eq!((forecast.already.len(), forecast.recent_tokens), (0, 3));
    assert!(!rig.covers(&claims(0)) && rig.trail().await.is_empty());
    let receipt = rig.revoke(r#"{"user":"a"}"#).await;
    let forecast = rig.control.forecast(&revoker(), about(r#"{"user":"a"}"#)).await.unwrap();
    assert_eq!(forecast.already, [held(&receipt).revocation.id]);
}

#[tokio::test]
async fn a_check_names_what_stops_a_token() {
    let rig = Rig::in_memory().await;
    let reader = caller([Right::SessionsRead]);
    let of = |more: &str| token(&format!(r#"{{"iss":"{MAIN}","sub":"a","sid":"s1","iat":{}{more}}}"#, NOW.as_secs()));
    let good = rig.control.check(&reader, &of("")).await.unwrap();
    assert_eq!((good.denial, good.revocations.len()), (None, 0));
    let unknown = rig.control.check(&reader, &of(r#","azp":"unreachable""#)).await;
    assert!(matches!(unknown, Err(ControlError::Store(StoreError::Unavailable(_)))), "nobody knows");
    rig.revoke(r#"{"user":"a"}"#).await;
    rig.revoke(r#"{"session":"s1"}"#).await;
    rig.revoke(r#"{"user":"b"}"#).await;
    let dead = rig.control.check(&reader, &of("")).await.unwrap();
    assert_eq!((dead.denial, dead.revocations.len()), (Some(Denial::Revoked), 2));
    let dead = rig.control.check(&reader, &of(r#","azp":"unreachable""#)).await.unwrap();
    assert_eq!(dead.denial, Some(Denial::Revoked));
    let old = rig.control.check(&reader, &of(r#","exp":5"#)).await.unwrap();
    assert_eq!((old.denial, old.revocations.len()), (Some(Denial::Expired), 2));
    let nonsense = rig.control.check(&reader, &token("nonsense")).await.unwrap();
    assert_eq!((nonsense.claims, nonsense.denial), (None, Some(Denial::Malformed)));
}

#[tokio::test]
async fn neither_kinds_nor_reason_may_be_nonsense() {
    let rig = Rig::in_memory().await;
    let none = Revoke { reach: Some(Reach::from_bits(0)), ..about(r#"{"user":"a"}"#) };
    assert!(matches!(rig.control.revoke(&admin(), none).await, Err(ControlError::Invalid(_))));
    let long = Revoke { reason: Some("x".repeat(1_025)), ..about(r#"{"user":"a"}"#) };
    assert!(matches!(rig.control.revoke(&admin(), long).await, Err(ControlError::Invalid(_))));
}

#[tokio::test]
async fn a_receipt_counts_what_the_revocation_cut_and_a_forecast_what_it_would() {
    let rig = Rig::in_memory().await;
    let open = |user: &str| {
        let claims = Claims { user: Some(user.into()), issued_at: Some(NOW), ..bare() };
        rig.live.join(&std::sync::Arc::new(claims), None)
    };
    let leases = [open("a"), open("a"), open("b")];
    let forecast = rig.control.forecast(&admin(), about(r#"{"user":"a"}"#)).await.unwrap();
    assert_eq!(forecast.open, 2);
    assert_eq!(rig.revoke(r#"{"user":"a"}"#).await.cut, 2);
    assert_eq!(leases.map(|lease| lease.term().cut().is_some()), [true, true, false]);
    assert_eq!(rig.revoke(r#"{"user":"nobody"}"#).await.cut, 0);
}

fn bare() -> Claims {
    Claims::bare(MAIN.into(), crate::domain::TokenKind::Access, crate::domain::TokenDigest::new([7; 32]))
}

#[tokio::test]
async fn a_users_temporary_tokens_die_by_generation_and_the_named_ones_live() {
    on_each_store(async |rig| {
        let temporary = |generation| Claims { generation: Some(generation), issued_at: None, ..claims(0) };
        let named = Claims { issued_at: None, ..claims(0) };
        let generation = async || rig.control.generation(&admin(), MAIN, "a").await.unwrap();
        assert_eq!(generation().await, 1);
        let receipt = rig.control.revoke_temporary(&revoker(), ("main", "a"), 3, None).await.unwrap();
        assert_eq!(receipt.readmits_from, Some(Timestamp::from_secs(3)));
        assert_eq!(held(&receipt).revocation.expires_at, None, "a generation never begins again");
        assert!(rig.covers(&temporary(1)) && rig.covers(&temporary(2)));
        assert!(!rig.covers(&temporary(3)) && !rig.covers(&named));
        assert!(!rig.covers(&Claims { user: Some("b".into()), ..temporary(1) }));
        let again = rig.control.revoke_temporary(&revoker(), ("main", "a"), 2, None).await.unwrap();
        assert!(matches!(again.disposition, Disposition::Already(_)), "an earlier generation says no more");
        assert_eq!(generation().await, 3);
        rig.control.revoke_temporary(&revoker(), ("main", "a"), 4, None).await.unwrap();
        assert_eq!(generation().await, 4);
        assert!(rig.covers(&temporary(3)) && !rig.covers(&temporary(4)));
        let query = RevocationQuery { limit: 10, standing_only: true, now: NOW, ..Default::default() };
        assert_eq!(rig.store.log.search(&query).await.unwrap().items.len(), 1, "the later one replaced the earlier");
    })
    .await;
}

#[tokio::test]
async fn a_revocation_of_temporary_tokens_names_its_generation() {
    let rig = Rig::in_memory().await;
    let without = rig.control.revoke(&admin(), about(r#"{"temporary":"a"}"#)).await;
    assert!(matches!(without, Err(ControlError::Invalid(_))));
    let ban = Revoke { block: true, ..about(r#"{"temporary":"a"}"#) };
    rig.control.revoke(&admin(), ban).await.unwrap();
    assert!(rig.covers(&Claims { generation: Some(9), ..claims(0) }));
    assert_eq!(rig.control.generation(&admin(), MAIN, "a").await.unwrap(), 1);
    let refused = rig.control.revoke_temporary(&caller([]), ("main", "a"), 2, None).await;
    assert!(matches!(refused, Err(ControlError::Forbidden(Right::SessionsRevoke))));
}

#[tokio::test]
async fn what_an_owner_revoked_says_less_than_what_anybody_else_did() {
    on_each_store(async |rig| {
        let named = (MAIN, "n1");
        let standing = async || rig.control.standing_over(&admin(), MAIN, "n1").await.unwrap();
        let owners = rig.control.revoke_named(&revoker(), named, Some("a")).await.unwrap();
        let mark = held(&owners).revocation.named_for.clone();
        assert_eq!(mark, Some(Control::right_of(MAIN, "n1", "a").unwrap()));
        let again = rig.control.revoke_named(&revoker(), named, Some("a")).await.unwrap();
        assert!(matches!(again.disposition, Disposition::Already(_)));
        rig.control.revoke_named(&revoker(), named, Some("b")).await.unwrap();
        assert_eq!(standing().await.len(), 2, "each in their own right");
        let plain = rig.control.revoke_named(&revoker(), named, None).await.unwrap();
        assert!(matches!(plain.disposition, Disposition::Created(_)));
        assert_eq!(standing().await.len(), 1, "the operator's takes their place");
        let late = rig.control.revoke_named(&revoker(), named, Some("a")).await.unwrap();
        assert_eq!(held(&late).revocation.named_for, None);
    })
    .await;
}

#[tokio::test]
async fn a_deletion_outlasts_whatever_is_said_of_the_token() {
    on_each_store(async |rig| {
        let named = (MAIN, "n1");
        let other = [("persistence".into(), ["named".into()].into())].into();
        let token = Claims { token_id: Some("n1".into()), other, ..claims(0) };
        let revoked = rig.control.revoke_named(&revoker(), named, None).await.unwrap();
        assert!(!rig.control.is_deleted(&admin(), named).await.unwrap());
        let deleted = rig.control.delete_named(&revoker(), named).await.unwrap();
        rig.control.lift(&revoker(), held(&revoked).revocation.id, None).await.unwrap();
        assert!(rig.covers(&token) && rig.control.is_deleted(&admin(), named).await.unwrap());
        rig.control.lift(&revoker(), held(&deleted).revocation.id, None).await.unwrap();
        assert!(!rig.covers(&token) && !rig.control.is_deleted(&admin(), named).await.unwrap());
    })
    .await;
}
