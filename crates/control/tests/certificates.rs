//! Certificates of agents, attacked: who gets one, and what a token that is bound to one is good for.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

mod common;

use std::sync::Arc;

use common::{Answer, CONTROL, GATEWAY, Instance, Plane, borrowed, encode, resource};
use gateway::caller::Caller;
use gateway::resource::Route;
use http::StatusCode;
use identity::svid::{Request, Svid};
use jiff::Timestamp;
use model::config::ServerKind;
use model::{Proof, ServerName, TaskId};
use serde_json::{Value, json};

/// What an instance gets for a new key.
async fn ask(plane: &Plane, instance: &Instance) -> Answer {
    let body = json!({ "csr": Request::new().unwrap().pem() });
    instance.manage(plane, "POST", "/v1/svids", body).await
}

/// An SVID of an instance, as the listener knows it.
async fn svid(plane: &Plane, instance: &Instance) -> Arc<Svid> {
    let issued = ask(plane, instance).await.ok();
    let (_, pem) = pem(issued["certificate"].as_str().unwrap());
    Arc::new(Svid::read(&pem).unwrap())
}

fn pem(text: &str) -> (String, Vec<u8>) {
    use base64::Engine as _;
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(body);
    (text.to_owned(), der.unwrap())
}

/// Asks for a token on a connection that was made with a certificate.
async fn token_over(
    plane: &Plane,
    instance: &Instance,
    certificate: Option<&Arc<Svid>>,
    resource: &str,
    proof: Option<&str>,
) -> Answer {
    let form = instance.form(&[("resource", resource)]);
    let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
    headers.extend(proof.map(|proof| ("dpop", proof)));
    let body = encode(&borrowed(&form));
    plane
        .call_over(certificate, "POST", "/oauth/token", &headers, body)
        .await
}

/// Authenticates a call at the gateway with a token, on a connection that was made with a certificate.
fn call(
    plane: &Plane,
    task: TaskId,
    (scheme, token): (&str, &str),
    certificate: Option<&Arc<Svid>>,
) -> Result<Caller, (Option<&'static str>, String)> {
    let route = Route {
        kind: ServerKind::Mcp,
        server: ServerName::parse("files").unwrap(),
        task: Some(task),
    };
    let mut request = http::Request::post(resource(task, "files"))
        .header("authorization", format!("{scheme} {token}"));
    if let Some(certificate) = certificate {
        request = request.extension(Arc::clone(certificate));
    }
    let request = request.body(()).unwrap();
    let pipeline = plane.engine.pipeline();
    pipeline
        .authenticate(&request, &route, "", GATEWAY)
        .map_err(|refused| (refused.error, refused.reason))
}

#[tokio::test]
async fn an_instance_gets_a_certificate_and_that_is_on_record() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let answer = ask(&plane, &instance).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    let issued = answer.ok();
    let (_, der) = pem(issued["certificate"].as_str().unwrap());
    let svid = Svid::read(&der).unwrap();
    assert_eq!((svid.instance, &svid.agent), (instance.id, &instance.agent));
    assert_eq!(issued["spiffe_id"], "spiffe://example.org/agent/support-1");
    let life = svid.expires_at.duration_since(Timestamp::now());
    assert!((3_590..=3_600).contains(&life.as_secs()));
    let records = plane.changes("svid.issued");
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].actor, instance.id.to_string());
    assert_eq!(records[0].subject, svid.serial);
    // The bundle is for everyone, and verifies it.
    let bundle = plane.call("GET", "/spiffe/bundle", &[], "").await;
    assert_eq!(bundle.headers["access-control-allow-origin"], "*");
    let key = bundle.ok()["keys"][0].clone();
    assert_eq!(key["use"], "x509-svid");
    let (_, root) = pem(issued["bundle"].as_str().unwrap());
    assert_eq!(pem(key["x5c"][0].as_str().unwrap()).1, root);
}

#[tokio::test]
async fn nobody_else_gets_one() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let body = json!({ "csr": Request::new().unwrap().pem() });
    let refused = plane.operate("POST", "/v1/svids", body.clone()).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let headers = [("content-type", "application/json")];
    let unknown = plane.call("POST", "/v1/svids", &headers, body.to_string());
    assert_eq!(unknown.await.status, StatusCode::UNAUTHORIZED);
    for bad in [
        json!({}),
        json!({ "csr": "" }),
        json!({ "csr": "x", "agent": "support-2" }),
    ] {
        let refused = instance.manage(&plane, "POST", "/v1/svids", bad).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    }
    assert!(plane.changes("svid.issued").is_empty());
    for (stop, again) in [("quarantine", "release"), ("retire", "")] {
        let path = |what: &str| format!("/v1/agents/support-1/{what}");
        plane.operate("POST", &path(stop), Value::Null).await.ok();
        let body = json!({ "csr": Request::new().unwrap().pem() });
        let refused = engine_issues(&plane, &instance, &body).await;
        assert!(refused.contains("not active"), "{refused}");
        if !again.is_empty() {
            plane.operate("POST", &path(again), Value::Null).await.ok();
            assert_eq!(ask(&plane, &instance).await.status, StatusCode::CREATED);
        }
    }
    assert_eq!(plane.changes("svid.issued").len(), 1);
}

/// Asks past the listener, as if the agent had been active when it authenticated.
async fn engine_issues(plane: &Plane, instance: &Instance, body: &Value) -> String {
    let csr = body["csr"].as_str().unwrap().to_owned();
    let issued = plane
        .engine
        .issue_svid(instance.agent.clone(), instance.id, csr);
    issued.await.err().map(|error| error.to_string()).unwrap()
}

#[tokio::test]
async fn without_a_log_there_is_no_certificate() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    plane.break_log().await;
    let body = json!({ "csr": Request::new().unwrap().pem() });
    let refused = engine_issues(&plane, &instance, &body).await;
    assert!(refused.contains("audit log"), "{refused}");
}

#[tokio::test]
async fn a_token_is_bound_to_the_certificate_that_it_was_asked_for_with() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let own = svid(&plane, &instance).await;
    let task = plane.task("support-1", "certified").await;
    let url = resource(task, "files");
    let answer = token_over(&plane, &instance, Some(&own), &url, None).await;
    let answer = answer.ok();
    assert_eq!(answer["token_type"], "Bearer");
    let token = answer["access_token"].as_str().unwrap();
    let caller = call(&plane, task, ("Bearer", token), Some(&own))
        .ok()
        .unwrap();
    assert_eq!(caller.proof, Proof::Certificate);
    let issued = plane.changes("token.issued");
    assert_eq!(issued.last().unwrap().details["proof"], "certificate");
    // The very same instance with another certificate is not who the token is bound to.
    let next = svid(&plane, &instance).await;
    let other = plane.instance("support-2").await;
    let foreign = svid(&plane, &other).await;
    for shown in [None, Some(&next), Some(&foreign)] {
        let (error, reason) = call(&plane, task, ("Bearer", token), shown).err().unwrap();
        assert_eq!(error, Some("invalid_token"));
        assert!(reason.contains("bound to a certificate"), "{reason}");
    }
    let (error, _) = call(&plane, task, ("DPoP", token), Some(&own))
        .err()
        .unwrap();
    assert_eq!(error, Some("invalid_token"));
    // Whoever may look at it sees what it is bound to.
    let form = [("token", token)];
    let bearer = format!("Bearer {}", plane.operator);
    let headers = [
        ("authorization", &*bearer),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let shown = plane.call("POST", "/oauth/introspect", &headers, encode(&form));
    let shown = shown.await.ok();
    assert_eq!(shown["cnf"]["x5t#S256"], own.thumbprint.to_string());
    assert_eq!(
        (&shown["active"], &shown["token_type"]),
        (&json!(true), &json!("Bearer"))
    );
}

#[tokio::test]
async fn where_a_certificate_is_demanded_nothing_less_gets_a_token() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let own = svid(&plane, &instance).await;
    let task = plane.task("support-1", "certified").await;
    let url = resource(task, "files");
    let proof = instance.token_proof();
    for proof in [None, Some(proof.as_str())] {
        let refused = token_over(&plane, &instance, None, &url, proof).await;
        assert_eq!(refused.refusal(), "invalid_request");
        assert!(
            refused.body["error_description"]
                .as_str()
                .unwrap()
                .contains("certificate")
        );
    }
    // With both, the certificate is what counts.
    let proof = instance.token_proof();
    let both = token_over(&plane, &instance, Some(&own), &url, Some(&proof)).await;
    let token = both.ok()["access_token"].as_str().unwrap().to_owned();
    assert!(call(&plane, task, ("Bearer", &token), Some(&own)).is_ok());
    assert!(call(&plane, task, ("Bearer", &token), None).is_err());
}

#[tokio::test]
async fn a_certificate_will_do_where_a_proof_is_demanded_but_not_for_the_control_listener() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let own = svid(&plane, &instance).await;
    let task = plane.task("support-1", "ticket").await;
    let url = resource(task, "files");
    let answer = token_over(&plane, &instance, Some(&own), &url, None)
        .await
        .ok();
    assert_eq!(answer["token_type"], "Bearer");
    // Who proves the key has a token for the key, whatever else the connection shows.
    let proof = instance.token_proof();
    let answer = token_over(&plane, &instance, Some(&own), &url, Some(&proof))
        .await
        .ok();
    assert_eq!(answer["token_type"], "DPoP");
    // Where a bearer token would do, who shows a certificate gets something better.
    let open = plane.task("support-1", "open").await;
    let url = resource(open, "files");
    let answer = token_over(&plane, &instance, Some(&own), &url, None)
        .await
        .ok();
    let token = answer["access_token"].as_str().unwrap();
    assert!(call(&plane, open, ("Bearer", token), None).is_err());
    let refused = token_over(&plane, &instance, Some(&own), CONTROL, None).await;
    assert_eq!(refused.refusal(), "invalid_dpop_proof");
}

#[tokio::test]
async fn a_certificate_in_other_hands_gets_no_token() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let sibling = plane.instance("support-1").await;
    let other = plane.instance("support-2").await;
    let task = plane.task("support-1", "certified").await;
    let url = resource(task, "files");
    for thief in [&sibling, &other] {
        let theirs = svid(&plane, thief).await;
        for proof in [None, Some(instance.token_proof())] {
            let refused =
                token_over(&plane, &instance, Some(&theirs), &url, proof.as_deref()).await;
            assert_eq!(refused.refusal(), "invalid_client");
        }
    }
}

#[tokio::test]
async fn what_is_withdrawn_ends_certificates_and_the_tokens_that_are_bound_to_them() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let own = svid(&plane, &instance).await;
    let task = plane.task("support-1", "certified").await;
    let url = resource(task, "files");
    let answer = token_over(&plane, &instance, Some(&own), &url, None)
        .await
        .ok();
    let token = answer["access_token"].as_str().unwrap();
    let pipeline = plane.engine.pipeline();
    let route = Route::parse("/postgres/files").unwrap();
    let by_svid = || {
        pipeline
            .authenticate_by_svid(&route, &own, &task)
            .map_err(|refused| refused.reason)
    };
    assert!(by_svid().is_ok());
    let path = "/v1/agents/support-1/tokens/revoke";
    plane.operate("POST", path, Value::Null).await.ok();
    let (_, reason) = call(&plane, task, ("Bearer", token), Some(&own))
        .err()
        .unwrap();
    assert!(reason.contains("revoked"), "{reason}");
    assert!(by_svid().err().unwrap().contains("revoked"));
    let refused = token_over(&plane, &instance, Some(&own), &url, None).await;
    assert_eq!(refused.refusal(), "invalid_client");
    // A certificate of a later second is good again, until its instance is disabled.
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let later = svid(&plane, &instance).await;
    let by_later = || pipeline.authenticate_by_svid(&route, &later, &task).is_ok();
    assert!(by_later());
    let path = format!("/v1/instances/{}/disable", instance.id);
    plane.operate("POST", &path, Value::Null).await.ok();
    assert!(!by_later());
}

#[tokio::test]
async fn a_certificate_alone_is_good_for_tasks_of_its_agent_and_instance_only() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let sibling = plane.instance("support-1").await;
    let other = plane.instance("support-2").await;
    let (own, theirs) = (svid(&plane, &instance).await, svid(&plane, &other).await);
    let siblings = svid(&plane, &sibling).await;
    let anyones = plane.task("support-1", "certified").await;
    let body = json!({
        "agent": "support-1", "template": "certified", "instance": instance.id,
    });
    let opened = plane.operate("POST", "/v1/tasks", body).await.ok();
    let mine = TaskId::parse(opened["id"].as_str().unwrap()).unwrap();
    let route = Route::parse("/postgres/files").unwrap();
    let refusal = |svid: &Svid, task: &TaskId| {
        let caller = plane
            .engine
            .pipeline()
            .authenticate_by_svid(&route, svid, task);
        caller.err().map(|refused| refused.reason)
    };
    assert_eq!(refusal(&own, &anyones), None);
    assert_eq!(refusal(&siblings, &anyones), None);
    assert_eq!(refusal(&own, &mine), None);
    let unknown = TaskId::new(Timestamp::now(), [9; 10]);
    let same = refusal(&own, &unknown);
    assert!(same.is_some());
    for (svid, task) in [(&siblings, &mine), (&theirs, &mine), (&theirs, &anyones)] {
        assert_eq!(
            refusal(svid, task),
            same,
            "nobody learns which tasks there are"
        );
    }
    let expired = Svid {
        expires_at: Timestamp::now(),
        ..(*own).clone()
    };
    assert!(refusal(&expired, &anyones).unwrap().contains("expired"));
}

#[tokio::test]
async fn the_metadata_says_that_tokens_can_be_bound_to_certificates() {
    let plane = Plane::new().await;
    let path = "/.well-known/oauth-authorization-server";
    let document = plane.call("GET", path, &[], "").await.ok();
    assert_eq!(document["tls_client_certificate_bound_access_tokens"], true);
}
