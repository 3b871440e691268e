//! The token service, attacked: everything here tries to get a token that it should not.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

mod common;

use common::{
    ASSERTION_TYPE, CONTROL, GATEWAY, PROXY, Plane, borrowed, details, encode, jwt, resource,
    unique,
};
use http::StatusCode;
use identity::InstanceKey;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Requests a token with one assertion.
async fn with_assertion(plane: &Plane, assertion: &str, resource: &str) -> common::Answer {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion),
        ("resource", resource),
    ];
    plane.ask_token(&form, None).await
}

fn claims(id: &str) -> Value {
    let now = Timestamp::now().as_second();
    json!({
        "iss": id, "sub": id, "aud": CONTROL, "iat": now, "exp": now + 60, "jti": unique(),
    })
}

#[tokio::test]
async fn a_token_is_bound_to_key_task_and_resource_and_is_recorded() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let task = plane.task("support-1", "ticket").await;
    let mcp = format!("{GATEWAY}/mcp/files");
    let asked = [
        ("resource", &*mcp),
        ("scope", "mcp"),
        ("authorization_details", &details(task)),
    ];
    let answer = instance.ask(&plane, &asked).await;
    assert_eq!(answer.headers["cache-control"], "no-store");
    let answer = answer.ok();
    assert_eq!(answer["token_type"], "DPoP");
    assert_eq!(answer["scope"], "mcp");
    assert_eq!(
        answer["authorization_details"],
        json!([{ "type": "sallyport_task", "task": task }])
    );
    let token = answer["access_token"].as_str().unwrap();
    let claims = plane
        .engine
        .keys()
        .verify(token, CONTROL, Timestamp::now())
        .unwrap();
    assert_eq!(claims.aud, mcp);
    assert_eq!(claims.task, Some(task));
    assert_eq!(claims.sub, "spiffe://example.org/agent/support-1");
    let jkt = instance.key.thumbprint();
    assert_eq!(claims.cnf, Some(identity::Cnf::Key { jkt }));
    assert!(claims.exp - claims.iat <= 300);
    let issued = plane.changes("token.issued");
    assert_eq!(issued.len(), 1);
    assert_eq!(issued[0].actor, instance.id.to_string());
    assert!(
        !format!("{issued:?}").contains(token),
        "the log must not hold the token"
    );
}

#[tokio::test]
async fn a_token_for_the_proxy_is_for_a_task_with_http_apis() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let other = plane.instance("support-2").await;
    let task = plane.task("support-1", "web").await;
    let without = plane.task("support-1", "open").await;
    let proxy = |of: &str, details: &str| {
        [
            ("resource", of.to_owned()),
            ("authorization_details", details.to_owned()),
        ]
    };
    for resource in [PROXY.to_owned(), format!("{PROXY}/")] {
        let asked = proxy(&resource, &details(task));
        let asked = asked
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let answer = instance.ask(&plane, &asked).await.ok();
        assert_eq!(answer["scope"], "http");
        let claims = plane
            .engine
            .keys()
            .verify(
                answer["access_token"].as_str().unwrap(),
                CONTROL,
                Timestamp::now(),
            )
            .unwrap();
        assert_eq!((claims.aud.as_str(), claims.task), (PROXY, Some(task)));
    }
    for (who, resource, task) in [
        (&instance, PROXY.to_owned(), without),
        (&other, PROXY.to_owned(), task),
        (&instance, format!("{PROXY}/crm"), task),
        (&instance, "http://127.0.0.1:8604".to_owned(), task),
    ] {
        let asked = proxy(&resource, &details(task));
        let asked = asked
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let refused = who.ask(&plane, &asked).await;
        assert_eq!(refused.refusal(), "invalid_target", "{resource}");
    }
    let unnamed = instance.ask(&plane, &[("resource", PROXY)]).await;
    assert_eq!(unnamed.refusal(), "invalid_authorization_details");
    let shown = |task| {
        let plane = &plane;
        async move {
            let path = format!("/v1/tasks/{task}");
            plane.operate("GET", &path, Value::Null).await.ok()["proxy"].clone()
        }
    };
    assert_eq!(shown(task).await, PROXY);
    assert_eq!(shown(without).await, Value::Null);
}

#[tokio::test]
async fn a_token_never_outlives_its_task() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let body = json!({ "agent": "support-1", "template": "open", "ttl_seconds": 20 });
    let task = plane.operate("POST", "/v1/tasks", body).await.ok();
    let url = task["urls"]["files"].as_str().unwrap();
    let answer = instance.ask(&plane, &[("resource", url)]).await.ok();
    assert!(answer["expires_in"].as_i64().unwrap() <= 20, "{answer}");
}

#[tokio::test]
async fn forged_assertions_are_refused() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let other = plane.instance("support-2").await;
    let task = plane.task("support-1", "open").await;
    let resource = resource(task, "files");
    let id = instance.id.to_string();
    let now = Timestamp::now();
    let jwk = instance.key.public_jwk();
    let strange = InstanceKey::generate().unwrap();
    let by = |key: &InstanceKey, audience: &str, at: Timestamp| {
        key.sign_assertion(&id, audience, at, &unique()).unwrap()
    };
    let hour = jiff::SignedDuration::from_hours(1);
    let good = by(&instance.key, CONTROL, now);
    let (signed, _) = good.rsplit_once('.').unwrap();
    // The public key as the secret of an HMAC: the classic confusion of algorithms.
    let confused = jwt(&json!({ "alg": "HS256" }), &claims(&id), &[7; 32]);
    let own_key = jwt(
        &json!({ "alg": "ES256", "jwk": strange.public_jwk() }),
        &claims(&id),
        &[1; 64],
    );
    let attacks = [
        (
            "alg none",
            jwt(&json!({ "alg": "none" }), &claims(&id), b""),
        ),
        (
            "alg None",
            jwt(&json!({ "alg": "None" }), &claims(&id), &[0; 64]),
        ),
        ("hmac with the public key", confused),
        (
            "eddsa with a p256 key",
            jwt(&json!({ "alg": "EdDSA" }), &claims(&id), &[1; 64]),
        ),
        ("a key in the header", own_key),
        ("no signature", format!("{signed}.")),
        ("another signature", format!("{signed}.{}", "A".repeat(86))),
        ("another agent's key", by(&other.key, CONTROL, now)),
        ("a strange key", by(&strange, CONTROL, now)),
        (
            "another audience",
            by(&instance.key, "https://evil.example", now),
        ),
        ("the gateway as audience", by(&instance.key, GATEWAY, now)),
        ("an old one", by(&instance.key, CONTROL, now - hour)),
        (
            "one from the future",
            by(&instance.key, CONTROL, now + hour),
        ),
        ("a DPoP proof", instance.token_proof()),
        ("nothing", ".".to_owned()),
        ("the key itself", jwk.to_string()),
    ];
    for (attack, assertion) in attacks {
        let answer = with_assertion(&plane, &assertion, &resource).await;
        assert_eq!(answer.refusal(), "invalid_client", "{attack}");
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{attack}");
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
    assert_eq!(plane.changes("token.issued").len(), 0);
    with_assertion(&plane, &good, &resource).await.ok();
}

#[tokio::test]
async fn an_assertion_works_once() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let task = plane.task("support-1", "open").await;
    let resource = resource(task, "files");
    for audience in [
        CONTROL.to_owned(),
        format!("{CONTROL}/"),
        format!("{CONTROL}/oauth/token"),
    ] {
        let assertion = instance.assertion(&audience);
        with_assertion(&plane, &assertion, &resource).await.ok();
        let again = with_assertion(&plane, &assertion, &resource).await;
        assert_eq!(again.refusal(), "invalid_client", "{audience}");
    }
}

#[tokio::test]
async fn tasks_of_others_and_servers_that_are_not_granted_are_all_the_same() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let twin = plane.instance("support-1").await;
    plane.instance("support-2").await;
    let own = plane.task("support-1", "open").await;
    let foreign = plane.task("support-2", "open").await;
    let body = json!({ "agent": "support-1", "template": "open", "instance": twin.id });
    let twins = plane.operate("POST", "/v1/tasks", body).await.ok();
    let twins = twins["id"].as_str().unwrap().parse().unwrap();
    let missing = model::TaskId::new(Timestamp::now(), [9; 10]);
    let targets = [
        ("another agent's task", resource(foreign, "files")),
        ("another instance's task", resource(twins, "files")),
        ("no task", resource(missing, "files")),
        ("a server that is not granted", resource(own, "finance")),
        ("a server that is not there", resource(own, "nowhere")),
        (
            "another gateway",
            resource(own, "files").replace("8601", "8602"),
        ),
        (
            "another spelling",
            resource(own, "files").replace("/mcp/", "/mcp/../mcp/"),
        ),
        ("a fragment", format!("{}#x", resource(own, "files"))),
        ("a slash at the end", format!("{}/", resource(own, "files"))),
    ];
    let mut answers = Vec::new();
    for (what, target) in targets {
        let answer = instance.ask(&plane, &[("resource", &target)]).await;
        assert_eq!(answer.refusal(), "invalid_target", "{what}");
        answers.push(answer.body);
    }
    answers.dedup();
    assert_eq!(
        answers.len(),
        1,
        "what exists shows in the answers: {answers:?}"
    );
    let url = resource(own, "files");
    let mixed = [
        ("resource", &*url),
        ("authorization_details", &details(foreign)),
    ];
    let answer = instance.ask(&plane, &mixed).await;
    assert_eq!(answer.refusal(), "invalid_authorization_details");
    instance.ask(&plane, &[("resource", &url)]).await.ok();
    twin.ask(&plane, &[("resource", &resource(twins, "files"))])
        .await
        .ok();
}

#[tokio::test]
async fn the_form_is_read_strictly() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let task = plane.task("support-1", "open").await;
    let url = resource(task, "files");
    for twice in [
        ("grant_type", "client_credentials"),
        ("scope", "mcp"),
        ("client_id", "x"),
    ] {
        let answer = instance
            .ask(&plane, &[("resource", &url), twice, twice])
            .await;
        assert_eq!(answer.refusal(), "invalid_request", "{twice:?}");
    }
    let two = instance
        .ask(&plane, &[("resource", &url), ("resource", CONTROL)])
        .await;
    assert_eq!(two.refusal(), "invalid_target");
    assert_eq!(instance.ask(&plane, &[]).await.refusal(), "invalid_target");
    let scope = instance
        .ask(&plane, &[("resource", &url), ("scope", "mcp tasks")])
        .await;
    assert_eq!(scope.refusal(), "invalid_scope");
    let client = instance
        .ask(&plane, &[("resource", &url), ("client_id", "somebody")])
        .await;
    assert_eq!(client.refusal(), "invalid_client");
    for wrong in [
        "x",
        "{}",
        "[]",
        "[{}]",
        r#"[{"type":"other"}]"#,
        r#"[{"type":"sallyport_task"}]"#,
        r#"[{"type":"sallyport_task","task":"task_x"}]"#,
        r#"[{"type":"sallyport_task","task":"task_x","task":"task_y"}]"#,
    ] {
        let mcp = format!("{GATEWAY}/mcp/files");
        let asked = [("resource", &*mcp), ("authorization_details", wrong)];
        let answer = instance.ask(&plane, &asked).await;
        assert_eq!(answer.refusal(), "invalid_authorization_details", "{wrong}");
    }
    let form = [("grant_type", "authorization_code")];
    assert_eq!(
        plane.ask_token(&form, None).await.refusal(),
        "unsupported_grant_type"
    );
    let json = [("content-type", "application/json")];
    let answer = plane.call("POST", "/oauth/token", &json, "{}").await;
    assert_eq!(answer.refusal(), "invalid_request");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let long = plane
        .call(
            "POST",
            "/oauth/token",
            &form,
            "a=".to_owned() + &"x".repeat(70_000),
        )
        .await;
    assert_eq!(long.status, StatusCode::PAYLOAD_TOO_LARGE);
    let got = plane.call("GET", "/oauth/token", &[], "").await;
    assert_eq!(got.status, StatusCode::METHOD_NOT_ALLOWED);
    instance.ask(&plane, &[("resource", &url)]).await.ok();
}

#[tokio::test]
async fn secrets_do_not_authenticate() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let task = plane.task("support-1", "open").await;
    let mut form = instance.form(&[("resource", &resource(task, "files"))]);
    form.push(("client_secret", "hunter2".to_owned()));
    assert_eq!(
        plane.ask_token(&borrowed(&form), None).await.refusal(),
        "invalid_client"
    );
    let form = instance.form(&[("resource", &resource(task, "files"))]);
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("authorization", "Basic eDp5"),
    ];
    let answer = plane
        .call("POST", "/oauth/token", &headers, encode(&borrowed(&form)))
        .await;
    assert_eq!(answer.refusal(), "invalid_client");
}

#[tokio::test]
async fn bearer_tokens_only_where_the_template_allows_them() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let strict = plane.task("support-1", "ticket").await;
    let lax = plane.task("support-1", "open").await;
    let answer = instance
        .ask_bearer(&plane, &[("resource", &resource(strict, "files"))])
        .await;
    assert_eq!(answer.refusal(), "invalid_dpop_proof");
    let answer = instance.ask_bearer(&plane, &[("resource", CONTROL)]).await;
    assert_eq!(answer.refusal(), "invalid_dpop_proof");
    let answer = instance
        .ask_bearer(&plane, &[("resource", &resource(lax, "files"))])
        .await
        .ok();
    assert_eq!(answer["token_type"], "Bearer");
    let answer = instance
        .ask(&plane, &[("resource", &resource(lax, "files"))])
        .await
        .ok();
    assert_eq!(answer["token_type"], "DPoP", "who proves more gets more");
}

#[tokio::test]
async fn proofs_at_the_token_endpoint_are_checked() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let task = plane.task("support-1", "open").await;
    let url = resource(task, "files");
    let strange = InstanceKey::generate().unwrap();
    let endpoint = format!("{CONTROL}/oauth/token");
    let stolen = strange.sign_dpop("POST", &endpoint, None, None, Timestamp::now(), &unique());
    let used = instance.token_proof();
    let form = instance.form(&[("resource", &url)]);
    plane.ask_token(&borrowed(&form), Some(&used)).await.ok();
    for (attack, proof) in [
        ("another key", stolen.unwrap()),
        ("another method", instance.proof("GET", &endpoint, None)),
        (
            "another URL",
            instance.proof("POST", &format!("{CONTROL}/oauth/revoke"), None),
        ),
        ("a replay", used),
        ("an assertion", instance.assertion(CONTROL)),
        ("nothing", String::new()),
    ] {
        let form = instance.form(&[("resource", &url)]);
        let answer = plane.ask_token(&borrowed(&form), Some(&proof)).await;
        assert_eq!(answer.refusal(), "invalid_dpop_proof", "{attack}");
    }
}

#[tokio::test]
async fn a_stopped_agent_a_disabled_instance_and_an_ended_task_get_nothing() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let twin = plane.instance("support-1").await;
    let task = plane.task("support-1", "open").await;
    let url = resource(task, "files");
    plane
        .operate("POST", "/v1/agents/support-1/quarantine", Value::Null)
        .await
        .ok();
    for target in [&*url, CONTROL] {
        let answer = instance.ask(&plane, &[("resource", target)]).await;
        assert_eq!(answer.refusal(), "unauthorized_client");
    }
    plane
        .operate("POST", "/v1/agents/support-1/release", Value::Null)
        .await
        .ok();
    instance.ask(&plane, &[("resource", &url)]).await.ok();
    let path = format!("/v1/instances/{}/disable", instance.id);
    plane.operate("POST", &path, Value::Null).await.ok();
    assert_eq!(
        instance.ask(&plane, &[("resource", &url)]).await.refusal(),
        "invalid_client"
    );
    twin.ask(&plane, &[("resource", &url)]).await.ok();
    plane
        .operate("POST", &format!("/v1/tasks/{task}/revoke"), Value::Null)
        .await
        .ok();
    let answer = twin.ask(&plane, &[("resource", &url)]).await;
    assert_eq!(answer.refusal(), "invalid_grant");
    assert_eq!(answer.body["error_description"], "the task is revoked");
    plane
        .operate("POST", "/v1/agents/support-1/retire", Value::Null)
        .await
        .ok();
    assert_eq!(
        twin.ask(&plane, &[("resource", CONTROL)]).await.refusal(),
        "unauthorized_client"
    );
}

#[tokio::test]
async fn revocation_holds_before_it_is_answered() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let other = plane.instance("support-2").await;
    let task = plane.task("support-1", "open").await;
    let token = instance.token(&plane, task, "files").await;
    instance
        .attempt(&plane, task, &token, "/x")
        .await
        .ok()
        .unwrap();
    let foreign = other.form(&[("token", &token)]);
    let refused = plane
        .post_form("/oauth/revoke", &borrowed(&foreign), None)
        .await;
    assert_eq!(refused.refusal(), "unauthorized_client");
    instance
        .attempt(&plane, task, &token, "/x")
        .await
        .ok()
        .unwrap();
    let own = instance.form(&[("token", &token)]);
    plane
        .post_form("/oauth/revoke", &borrowed(&own), None)
        .await
        .ok();
    let refused = instance
        .attempt(&plane, task, &token, "/x")
        .await
        .err()
        .unwrap();
    assert!(refused.contains("revoked"), "{refused}");
    let nonsense = instance.form(&[("token", "nonsense")]);
    plane
        .post_form("/oauth/revoke", &borrowed(&nonsense), None)
        .await
        .ok();
    assert_eq!(
        plane
            .post_form("/oauth/revoke", &[("token", "x")], None)
            .await
            .refusal(),
        "invalid_client"
    );
    assert_eq!(plane.changes("token.revoked").len(), 1);
    let plane = plane.restart().await;
    let refused = instance
        .attempt(&plane, task, &token, "/x")
        .await
        .err()
        .unwrap();
    assert!(
        refused.contains("revoked"),
        "after a restart too: {refused}"
    );
}

#[tokio::test]
async fn introspection_tells_the_truth_and_only_to_whom_it_concerns() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let other = plane.instance("support-2").await;
    let task = plane.task("support-1", "open").await;
    let token = instance.token(&plane, task, "files").await;
    let look = async |who: &common::Instance| {
        let form = who.form(&[("token", &token)]);
        plane
            .post_form("/oauth/introspect", &borrowed(&form), None)
            .await
            .ok()
    };
    let own = look(&instance).await;
    assert_eq!(own["active"], true);
    assert_eq!(own["client_id"], instance.id.to_string());
    assert_eq!(own["task"], task.to_string());
    assert_eq!(look(&other).await, json!({ "active": false }));
    let operator = format!("Bearer {}", plane.operator);
    let form = [
        ("authorization", &*operator),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let body = encode(&[("token", &token)]);
    let seen = plane
        .call("POST", "/oauth/introspect", &form, body.clone())
        .await
        .ok();
    assert_eq!(seen["active"], true);
    plane
        .operate("POST", &format!("/v1/tasks/{task}/complete"), Value::Null)
        .await
        .ok();
    assert_eq!(look(&instance).await, json!({ "active": false }));
    assert_eq!(
        plane
            .post_form("/oauth/introspect", &[("token", &token)], None)
            .await
            .refusal(),
        "invalid_client"
    );
}

#[tokio::test]
async fn the_metadata_says_what_is_true() {
    let plane = Plane::new().await;
    let origin = [("origin", "https://page.example")];
    let found = plane
        .call(
            "GET",
            "/.well-known/oauth-authorization-server",
            &origin,
            "",
        )
        .await;
    assert_eq!(found.headers["access-control-allow-origin"], "*");
    let found = found.ok();
    assert_eq!(found["issuer"], CONTROL);
    assert_eq!(found["code_challenge_methods_supported"], json!(["S256"]));
    assert_eq!(
        found["grant_types_supported"],
        json!(["client_credentials"])
    );
    assert_eq!(
        found["token_endpoint_auth_methods_supported"],
        json!(["private_key_jwt"])
    );
    assert_eq!(
        found["authorization_details_types_supported"],
        json!(["sallyport_task"])
    );
    for member in [
        "token_endpoint",
        "revocation_endpoint",
        "introspection_endpoint",
    ] {
        let path = found[member]
            .as_str()
            .unwrap()
            .strip_prefix(CONTROL)
            .unwrap();
        let answer = plane.post_form(path, &[], None).await;
        assert!(
            ["invalid_request", "invalid_client"].contains(&answer.refusal()),
            "{member}"
        );
    }
    let path = found["authorization_endpoint"]
        .as_str()
        .unwrap()
        .strip_prefix(CONTROL)
        .unwrap();
    let answer = plane.call("GET", path, &[], "").await;
    assert_eq!(answer.refusal(), "unsupported_response_type");
    let openid = plane
        .call("GET", "/.well-known/openid-configuration", &[], "")
        .await
        .ok();
    assert_eq!(openid["issuer"], CONTROL);
    let path = found["jwks_uri"]
        .as_str()
        .unwrap()
        .strip_prefix(CONTROL)
        .unwrap();
    let keys = plane.call("GET", path, &[], "").await.ok();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    assert!(keys["keys"][0].get("d").is_none());
}

#[tokio::test]
async fn no_token_without_its_record() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let task = plane.task("support-1", "open").await;
    plane.break_log().await;
    let answer = instance
        .ask(&plane, &[("resource", &resource(task, "files"))])
        .await;
    assert_eq!(answer.refusal(), "temporarily_unavailable");
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
}
