//! The main job, end to end.

use serde_json::json;

use crate::rig::Rig;

#[tokio::test]
async fn a_token_passes_until_it_is_revoked() {
    let rig = Rig::start().await;
    let alice = rig.issuer.token(json!({}));
    assert_eq!(rig.get("/", &alice.text).await.status, 200);
    rig.admin.revoke(json!({ "token": alice.text })).await;
    let refused = rig.get("/", &alice.text).await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("www-authenticate"), r#"Bearer error="invalid_token""#);
}
