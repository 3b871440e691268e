//! Refusals come in the surface's own form, and nothing of what is refused reaches the provider.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answered, Gateway, Provider, chat, grant, json_answer, read, said};

async fn set_up(models: Value, budget: Value, more: &str) -> (Gateway, Provider, String) {
    let usage = json!({ "prompt_tokens": 1, "completion_tokens": 1 });
    let provider = Provider::answering(200, &said(usage)).await;
    let gateway = Gateway::before(&provider, more).await;
    let (_, token) = gateway.task(grant(models, budget));
    (gateway, provider, token)
}

fn check(got: &Answered, status: u16, rule: &str) {
    assert_eq!(got.status, status, "{got:?}");
    let error = got.json()["error"].clone();
    assert_eq!(error["rule"], rule, "{got:?}");
    for member in ["message", "type", "remedy"] {
        assert!(
            error[member].as_str().is_some_and(|text| !text.is_empty()),
            "{got:?}"
        );
    }
}

#[tokio::test]
async fn without_a_token_there_is_a_challenge_that_sdks_understand() {
    let (gateway, provider, token) = set_up(json!([]), json!({ "calls": 9 }), "").await;
    for headers in [
        vec![],
        vec![("authorization", "Bearer sk-not-a-token")],
        vec![("x-api-key", "sk-not-a-token")],
        vec![("x-api-key", token.as_str()), ("x-api-key", token.as_str())],
        vec![("authorization", "Bearer x"), ("x-api-key", token.as_str())],
    ] {
        let body = chat("small").to_string();
        let got = gateway
            .send(Method::POST, "/v1/chat/completions", &headers, body)
            .await;
        let got = read(got).await;
        check(&got, 401, "unauthenticated");
        assert_eq!(got.json()["error"]["type"], "authentication_error");
        let challenge = got.headers["www-authenticate"].to_str().unwrap();
        assert!(challenge.contains("/.well-known/oauth-protected-resource/llm/ai"));
    }
    assert_eq!(provider.asked(), 0);
}

#[tokio::test]
async fn models_and_arguments_are_held_to_the_grant() {
    let models = json!([{ "name": "small", "arguments": {
        "max_tokens": { "max": 100 }, "temperature": { "max": 1, "optional": true },
        "/tools/*/function/name": { "one_of": ["look_up"], "optional": true },
    } }]);
    let (gateway, provider, token) = set_up(models, json!({ "calls": 90 }), "").await;
    let post = async |more: Value| {
        let mut request = chat("small");
        for (name, value) in more.as_object().unwrap() {
            request[name] = value.clone();
        }
        gateway.post(&token, "/v1/chat/completions", &request).await
    };
    let tool = |name: &str| json!([{ "type": "function", "function": { "name": name } }]);
    for good in [
        json!({ "max_tokens": 100 }),
        json!({ "max_completion_tokens": 5, "temperature": 0.5, "stream": false }),
        json!({ "max_tokens": 1, "tools": tool("look_up") }),
    ] {
        assert_eq!(post(good.clone()).await.status, 200, "{good}");
    }
    let asked = provider.asked();
    for bad in [
        json!({}),
        json!({ "max_tokens": 101 }),
        json!({ "max_tokens": 5, "max_completion_tokens": 101 }),
        json!({ "max_tokens": 5, "temperature": 1.5 }),
        json!({ "max_tokens": 5, "logit_bias": {} }),
        json!({ "max_tokens": 5, "tools": tool("send_mail") }),
    ] {
        check(&post(bad).await, 403, "argument_refused");
    }
    check(
        &post(json!({ "model": "large", "max_tokens": 5 })).await,
        403,
        "not_granted",
    );
    assert_eq!(provider.asked(), asked);
    let denied = gateway.records().await;
    let denied = denied
        .iter()
        .rfind(|record| record["permitted"] == false)
        .unwrap();
    assert_eq!(denied["target"], "large");
    assert_eq!(denied["method"], "POST /v1/chat/completions");
}

#[tokio::test]
async fn what_reaches_beyond_the_gateway_must_be_granted_by_name() {
    let (gateway, provider, token) =
        set_up(json!([{ "name": "small" }]), json!({ "calls": 90 }), "").await;
    let content = |part: Value| json!({ "messages": [{ "role": "user", "content": [part] }] });
    for (path, more) in [
        (
            "/v1/responses",
            json!({ "tools": [{ "type": "web_search" }] }),
        ),
        (
            "/v1/responses",
            json!({ "tools": [{ "type": "mcp", "server_url": "https://evil.example" }] }),
        ),
        ("/v1/responses", json!({ "background": true })),
        (
            "/v1/responses",
            json!({ "conversation": "conv_of_another" }),
        ),
        ("/v1/responses", json!({ "prompt": { "id": "pmpt_1" } })),
        (
            "/v1/responses",
            json!({ "previous_response_id": "resp_of_another" }),
        ),
        (
            "/v1/responses",
            json!({ "previous_response_id": ["resp_1"] }),
        ),
        ("/v1/chat/completions", json!({ "web_search_options": {} })),
        ("/v1/chat/completions", json!({ "models": ["large"] })),
        (
            "/v1/chat/completions",
            json!({ "service_tier": "priority" }),
        ),
        (
            "/v1/chat/completions",
            content(json!({ "type": "image_url",
            "image_url": { "url": "https://evil.example/?all-i-know" } })),
        ),
        (
            "/v1/chat/completions",
            content(json!({ "type": "file", "file": { "file_id": "file-1" } })),
        ),
    ] {
        let mut request = json!({ "model": "small", "input": "hi" });
        for (name, value) in more.as_object().unwrap() {
            request[name] = value.clone();
        }
        check(
            &gateway.post(&token, path, &request).await,
            403,
            "not_granted",
        );
    }
    assert_eq!(provider.asked(), 0);
    let named = json!([{ "name": "small", "other_arguments": "allow",
        "arguments": { "/tools/*/type": { "one_of": ["web_search"] } } }]);
    let (_, token) = gateway.task(grant(named, json!({ "calls": 9 })));
    let request = json!({ "model": "small", "input": "hi", "tools": [{ "type": "web_search" }] });
    assert_eq!(
        gateway.post(&token, "/v1/responses", &request).await.status,
        200
    );
}

#[tokio::test]
async fn a_stored_answer_is_gone_on_with_by_its_own_task_only() {
    let answer = json!({ "id": "resp_1", "object": "response", "output": [],
        "usage": { "input_tokens": 400, "output_tokens": 100 } });
    let provider = Provider::answering(200, &answer).await;
    let gateway = Gateway::before(&provider, "").await;
    let models = || json!([{ "name": "small" }]);
    let (task, own) = gateway.task(grant(models(), json!({ "tokens": 10_000 })));
    let (_, other) = gateway.task(grant(models(), json!({ "tokens": 10_000 })));
    let first = json!({ "model": "small", "input": "hi", "max_output_tokens": 9 });
    assert_eq!(
        gateway.post(&own, "/v1/responses", &first).await.status,
        200
    );
    let next = json!({ "model": "small", "input": "hi", "max_output_tokens": 9,
        "previous_response_id": "resp_1" });
    check(
        &gateway.post(&other, "/v1/responses", &next).await,
        403,
        "not_granted",
    );
    assert_eq!(gateway.post(&own, "/v1/responses", &next).await.status, 200);
    assert_eq!(gateway.spent(&task).tokens, 1_000);
    let intents = gateway.records().await;
    let last = intents
        .iter()
        .rfind(|record| record["event"] == "intent")
        .unwrap();
    let expected = last["expected"]["tokens"].as_u64().unwrap();
    assert!(
        expected >= 509,
        "what is read again is expected: {expected}"
    );
}

#[tokio::test]
async fn nothing_else_of_the_api_is_there() {
    let (gateway, provider, token) =
        set_up(json!([{ "name": "*" }]), json!({ "calls": 90 }), "").await;
    for path in [
        "/v1/files",
        "/v1/chat/completions/",
        "/v1/../v1/chat/completions",
        "/v1/messages",
        "/v1/chat/completions/chatcmpl-1",
        "/v1/fine_tuning/jobs",
        "",
        "/v1/chat/completions?key=1",
    ] {
        let got = gateway.post(&token, path, &chat("small")).await;
        check(&got, 404, "protocol_violation");
    }
    for body in [
        "",
        "[]",
        "{\"model\":\"a\",\"model\":\"b\"}",
        "{\"model\":\"a\",\"Model\":\"b\"}",
    ] {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let got = gateway
            .send(Method::POST, "/v1/chat/completions", &headers, body)
            .await;
        check(&read(got).await, 400, "protocol_violation");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "text/plain"),
        ];
        let got = gateway
            .send(Method::POST, "/v1/chat/completions", &headers, body)
            .await;
        check(&read(got).await, 415, "protocol_violation");
    }
    assert_eq!(provider.asked(), 0);
}

#[tokio::test]
async fn errors_of_the_provider_pass_without_what_is_between_it_and_the_payer() {
    let message =
        "Rate limit reached in organization org-AbCdEfGh for key sk-provider-key-0123456789abcdef";
    let error = json!({ "error": { "message": message, "type": "tokens", "code": "rate_limit_exceeded",
        "param": null, "internal": "x" } });
    let head =
        "retry-after: 7\r\nx-ratelimit-limit-tokens: 5\r\nopenai-organization: org-AbCdEfGh\r\n";
    let provider = Provider::new(vec![json_answer(429, head, &error)]).await;
    let gateway = Gateway::before(&provider, "").await;
    let (task, token) = gateway.task(grant(json!([{ "name": "*" }]), json!({ "tokens": 9_000 })));
    let got = gateway
        .post(&token, "/v1/chat/completions", &chat("small"))
        .await;
    assert_eq!(got.status, 429);
    assert_eq!(got.headers["retry-after"], "7");
    assert_eq!(got.headers["x-ratelimit-limit-tokens"], "5");
    let all = format!("{got:?}");
    for secret in ["AbCdEfGh", "sk-provider", "internal"] {
        assert!(!all.contains(secret), "{all}");
    }
    assert_eq!(got.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(gateway.spent(&task).tokens, 0);
    assert_eq!(gateway.result().await["ended"], "upstream_error");
    for status in [401, 403] {
        let provider = Provider::answering(status, &error).await;
        let gateway = Gateway::before(&provider, "").await;
        let got = gateway
            .post(&gateway.free(), "/v1/chat/completions", &chat("small"))
            .await;
        check(&got, 502, "upstream_failed");
    }
}

#[tokio::test]
async fn an_address_without_the_model_says_so_only_to_who_may_use_it() {
    let (gateway, provider, token) = set_up(
        json!([{ "name": "large" }]),
        json!({ "calls": 9 }),
        "models = [\"small\"]",
    )
    .await;
    let got = gateway
        .post(&token, "/v1/chat/completions", &chat("large"))
        .await;
    check(&got, 502, "upstream_failed");
    let got = gateway
        .post(&token, "/v1/chat/completions", &chat("other"))
        .await;
    check(&got, 403, "not_granted");
    assert_eq!(provider.asked(), 0);
}

#[tokio::test]
async fn a_server_that_the_task_does_not_have_reads_like_one_that_does_not_exist() {
    let provider = Provider::answering(200, &said(json!({}))).await;
    let gateway = Gateway::with("anthropic", &provider, "", "").await;
    let mut other = grant(json!([{ "name": "*" }]), json!({ "calls": 90 }));
    other.permissions[0].server = "other".parse().unwrap();
    let (_, token) = gateway.task(other);
    for (path, body) in [
        ("/v1/chat/completions", chat("small").to_string()),
        ("/v1/messages", "not json".to_owned()),
        ("/v1/models", String::new()),
    ] {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let method = if path == "/v1/models" {
            Method::GET
        } else {
            Method::POST
        };
        let got = read(gateway.send(method, path, &headers, body).await).await;
        check(&got, 403, "server_not_granted");
        let is_anthropic = got.json()["type"] == "error";
        assert_eq!(
            is_anthropic,
            path == "/v1/messages",
            "the form tells nothing"
        );
    }
    assert_eq!(provider.asked(), 0);
}
