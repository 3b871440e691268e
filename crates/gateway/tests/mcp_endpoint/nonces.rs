//! Proofs that must carry a nonce (RFC 9449 §9).

use http::HeaderValue;
use identity::nonce::{Demand, NONCE_SECONDS, Nonces};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::support::{Agent, Answered, Double, Gateway, modern, plain};

struct Asking {
    gateway: Gateway,
    agent: Agent,
    token: String,
}

impl Asking {
    async fn new() -> Self {
        let double = Double::with_result(json!({ "content": [], "resultType": "complete" })).await;
        let gateway = Gateway::before(&double).await;
        gateway.pipeline.nonces().set(true);
        let agent = gateway.agent();
        let token = gateway.token(&agent, |_| ());
        Self {
            gateway,
            agent,
            token,
        }
    }

    fn proof(&self, nonce: Option<&str>, jti: &str) -> String {
        let url = self.gateway.url();
        let token = Some(self.token.as_str());
        let key = &self.agent.key;
        key.sign_dpop("POST", &url, token, nonce, Timestamp::now(), jti)
            .unwrap()
    }

    async fn with(&self, proof: &str) -> Answered {
        let (headers, body) = modern("tools/call", json!({ "name": "echo", "arguments": {} }));
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let mut headers = plain(&headers);
        let token = format!("DPoP {}", self.token);
        headers.insert("authorization", HeaderValue::try_from(token).unwrap());
        headers.insert("dpop", HeaderValue::try_from(proof).unwrap());
        self.gateway.raw(headers, body).await
    }
}

fn nonce(answer: &Answered) -> Option<String> {
    let nonce = answer.headers.get("dpop-nonce")?;
    Some(nonce.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_proof_without_a_good_nonce_is_answered_with_one() {
    let asking = Asking::new().await;
    let refused = asking.with(&asking.proof(None, "1")).await;
    assert_eq!(refused.status, 401);
    let challenge = refused.headers["www-authenticate"].to_str().unwrap();
    assert!(challenge.starts_with("DPoP "), "{challenge}");
    assert!(
        challenge.contains("error=\"use_dpop_nonce\""),
        "{challenge}"
    );
    assert_eq!(refused.json()["error"]["data"]["rule"], "nonce_needed");
    let given = nonce(&refused).unwrap();

    let proof = asking.proof(Some(&given), "2");
    let answer = asking.with(&proof).await;
    assert!(answer.json().get("result").is_some(), "{:?}", answer.json());
    assert!(nonce(&answer).is_some(), "the next one comes along");
    let again = asking.with(&proof).await;
    assert_eq!(again.status, 401, "a nonce makes no proof good twice");
    let challenge = again.headers["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains("invalid_dpop_proof"), "{challenge}");
    // It is no ticket either: as many as are wanted, until it is over.
    let next = asking.with(&asking.proof(Some(&given), "3")).await;
    assert!(next.json().get("result").is_some());
}

#[tokio::test]
async fn nonces_of_others_of_other_times_and_made_up_ones_are_none() {
    let asking = Asking::new().await;
    let demand = Demand::default();
    demand.set(true);
    let own = asking.gateway.keys.secret("nonces of the gateway").unwrap();
    let other = asking
        .gateway
        .keys
        .secret("nonces of the control listener")
        .unwrap();
    let at = |secret: &[u8; 32], minutes: i64| {
        let moved = SignedDuration::from_secs(minutes * NONCE_SECONDS);
        let now = Timestamp::now().checked_add(moved).unwrap();
        Nonces::new(secret, demand.clone()).present(now).unwrap()
    };
    // Two minutes ahead, since a minute may begin while this runs.
    for (what, wrong) in [
        ("long over", at(&own, -3)),
        ("of a time to come", at(&own, 2)),
        ("of the token service", at(&other, 0)),
        ("made up", "AAAAAAAAAAAAAAAAAAAAAA".into()),
        ("empty", "".into()),
    ] {
        let answer = asking.with(&asking.proof(Some(&wrong), what)).await;
        assert_eq!(answer.status, 401, "{what}");
        assert_eq!(
            answer.json()["error"]["data"]["rule"],
            "nonce_needed",
            "{what}"
        );
    }
    // That of the minute before is still taken: who got it a moment ago need not ask again.
    let answer = asking.with(&asking.proof(Some(&at(&own, 0)), "good")).await;
    assert!(answer.json().get("result").is_some(), "{:?}", answer.json());
}

#[tokio::test]
async fn nobody_who_lacks_the_key_is_asked_for_one() {
    let asking = Asking::new().await;
    let stranger = asking.gateway.agent();
    let url = asking.gateway.url();
    let token = Some(asking.token.as_str());
    let proof = stranger
        .key
        .sign_dpop("POST", &url, token, None, Timestamp::now(), "1")
        .unwrap();
    let answer = asking.with(&proof).await;
    let challenge = answer.headers["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains("invalid_dpop_proof"), "{challenge}");
    assert_eq!(answer.json()["error"]["data"]["rule"], "unauthenticated");
}

#[tokio::test]
async fn while_none_is_demanded_none_is_offered_and_any_is_taken() {
    let asking = Asking::new().await;
    asking.gateway.pipeline.nonces().set(false);
    for (proof, jti) in [(None, "1"), (Some("whatever"), "2")] {
        let answer = asking.with(&asking.proof(proof, jti)).await;
        assert!(answer.json().get("result").is_some());
        assert_eq!(nonce(&answer), None);
    }
}
