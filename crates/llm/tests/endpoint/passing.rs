//! What an honest agent and an honest provider say to each other passes as it is.

use http::Method;
use serde_json::json;

use crate::support::{Gateway, KEY, Provider, Step, chat, grant, json_answer, read, said};

#[tokio::test]
async fn an_answer_passes_as_it_came_and_only_the_provider_sees_its_key() {
    let answer = said(json!({ "prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13 }));
    let head = "x-ratelimit-remaining-tokens: 7\r\nopenai-organization: org-secret\r\n\
                set-cookie: a=b\r\nx-request-id: req_1\r\n";
    let provider = Provider::new(vec![json_answer(200, head, &answer)]).await;
    let gateway = Gateway::before(&provider, "").await;
    let (task, token) = gateway.task(grant(json!([{ "name": "small" }]), json!({ "calls": 9 })));
    let got = gateway
        .post(&token, "/v1/chat/completions", &chat("small"))
        .await;
    assert_eq!(got.status, 200, "{got:?}");
    assert_eq!(got.text(), answer.to_string());
    assert_eq!(got.headers["x-ratelimit-remaining-tokens"], "7");
    assert_eq!(got.headers["x-request-id"], "req_1");
    for hidden in ["openai-organization", "set-cookie"] {
        assert!(!got.headers.contains_key(hidden));
    }
    let request = provider.requests.lock()[0].clone();
    assert!(
        request.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(request.contains(&format!("authorization: Bearer {KEY}\r\n")));
    for hidden in [token.as_str(), "org-of-the-agent", "cookie"] {
        assert!(!request.contains(hidden), "{hidden} reached the provider");
    }
    assert_eq!(provider.body(), chat("small").to_string());
    assert_eq!(gateway.spent(&task).tokens, 13);
}

#[tokio::test]
async fn a_stream_passes_byte_for_byte_with_its_usage_counted() {
    let events = [
        ": ping\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"del",
        "ta\":{\"content\":\"a secret\"}}]}\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"!\"}}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":3}}\n\n",
        "data: [DONE]\n\n",
    ];
    let provider = Provider::streaming(&events).await;
    let gateway = Gateway::before(&provider, "").await;
    let (task, token) = gateway.task(grant(json!([{ "name": "*" }]), json!({ "tokens": 9_000 })));
    let mut request = chat("small");
    request["stream"] = true.into();
    let got = gateway.post(&token, "/v1/chat/completions", &request).await;
    assert_eq!(got.headers["content-type"], "text/event-stream");
    assert_eq!(got.text(), events.concat());
    assert_eq!(gateway.spent(&task).tokens, 23);
    let sent: serde_json::Value = serde_json::from_str(&provider.body()).unwrap();
    assert_eq!(sent["stream_options"], json!({ "include_usage": true }));
    assert_eq!(
        sent["max_completion_tokens"], 4_096,
        "no answer is of any length"
    );
    let result = gateway.result().await;
    assert_eq!(result["ended"], "answered");
    assert_eq!(result["spent"]["tokens"], 23);
    assert_eq!(result["bytes"], events.concat().len());
}

#[tokio::test]
async fn records_tell_what_passed_but_not_what_it_said() {
    let call = json!({ "id": "call_1", "type": "function",
        "function": { "name": "look_up", "arguments": "{\"q\":\"a secret query\"}" } });
    let mut answer = said(json!({ "prompt_tokens": 9, "completion_tokens": 4 }));
    answer["choices"][0]["message"]["tool_calls"] = json!([call]);
    let provider = Provider::answering(200, &answer).await;
    let gateway = Gateway::before(&provider, "").await;
    let mut request = chat("small");
    request["tools"] = json!([{ "type": "function",
        "function": { "name": "look_up", "description": "a secret description" } }]);
    let result = json!({ "role": "tool", "tool_call_id": "call_0", "content": "a secret result" });
    request["messages"].as_array_mut().unwrap().push(result);
    let got = gateway
        .post(&gateway.free(), "/v1/chat/completions", &request)
        .await;
    assert_eq!(got.status, 200);
    let notes = gateway.result().await["notes"].clone();
    assert_eq!(notes["tools"][0]["name"], "look_up");
    assert_eq!(notes["tools"][0]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(notes["tool_results"][0]["call"], "call_0");
    assert_eq!(notes["tool_calls"][0]["name"], "look_up");
    assert_eq!(notes["tool_calls"][0]["bytes"], 22);
    assert_eq!(notes["reported_tokens"]["output"], 4);
    let all = format!("{:?}", gateway.records().await);
    assert!(!all.contains("secret"), "{all}");
    assert!(!all.contains(KEY));
}

#[tokio::test]
async fn the_surface_of_anthropic_with_its_own_key_header() {
    let answer = json!({ "id": "msg_1", "type": "message", "role": "assistant",
        "content": [{ "type": "text", "text": "hello" }],
        "usage": { "input_tokens": 8, "output_tokens": 2 } });
    let provider = Provider::answering(200, &answer).await;
    let gateway = Gateway::with("anthropic", &provider, "", "").await;
    let (task, token) = gateway.task(grant(
        json!([{ "name": "claude*" }]),
        json!({ "tokens": 9_000 }),
    ));
    let body = json!({ "model": "claude-x", "max_tokens": 9,
        "messages": [{ "role": "user", "content": "hi" }] });
    let headers = [
        ("x-api-key", token.as_str()),
        ("content-type", "application/json"),
        ("anthropic-version", "2023-06-01"),
    ];
    for query in ["", "?beta=true"] {
        let path = format!("/v1/messages{query}");
        let got = gateway
            .send(Method::POST, &path, &headers, body.to_string())
            .await;
        let got = read(got).await;
        assert_eq!(got.text(), answer.to_string());
    }
    assert_eq!(gateway.spent(&task).tokens, 20);
    let request = provider.requests.lock()[0].clone();
    assert!(request.starts_with("POST /v1/messages HTTP/1.1\r\n"));
    assert!(request.contains(&format!("x-api-key: {KEY}\r\n")));
    assert!(request.contains("anthropic-version: 2023-06-01\r\n") && !request.contains(&token));
    let other = gateway
        .send(Method::POST, "/v1/messages?x=1", &headers, body.to_string())
        .await;
    assert_eq!(other.status(), 404);
}

#[tokio::test]
async fn the_list_of_models_is_cut_to_what_the_task_may_use() {
    let models = json!({ "object": "list", "models": [{ "name": "internal" }], "data": [
        { "id": "small-1", "object": "model" }, { "id": "large-1", "object": "model" },
        { "object": "model" }, 7,
    ] });
    let provider = Provider::answering(200, &models).await;
    let gateway = Gateway::before(
        &provider,
        "aliases = { fast = \"small-1\", secret = \"large-1\" }",
    )
    .await;
    let models = json!([{ "name": "small*" }, { "name": "fast" }]);
    let (_, token) = gateway.task(grant(models, json!({ "calls": 9 })));
    let got = gateway.get(&token, "/v1/models").await;
    let expected = json!({ "object": "list", "data": [
        { "id": "fast", "object": "model" }, { "id": "small-1", "object": "model" },
    ] });
    assert_eq!(got.json(), expected);
}

#[tokio::test]
async fn an_alias_is_what_the_agent_says_and_the_provider_never_hears() {
    let provider = Provider::answering(200, &said(json!({}))).await;
    let gateway = Gateway::before(&provider, "aliases = { fast = \"small-1\" }").await;
    let (_, token) = gateway.task(grant(json!([{ "name": "fast" }]), json!({ "calls": 9 })));
    let got = gateway
        .post(&token, "/v1/chat/completions", &chat("fast"))
        .await;
    assert_eq!(got.status, 200);
    let sent: serde_json::Value = serde_json::from_str(&provider.body()).unwrap();
    assert_eq!(sent["model"], "small-1");
    let direct = gateway
        .post(&token, "/v1/chat/completions", &chat("small-1"))
        .await;
    assert_eq!(
        (direct.status.as_u16(), direct.rule().as_str()),
        (403, "not_granted")
    );
}

#[tokio::test]
async fn another_address_is_asked_when_the_first_fails_before_its_answer() {
    let overloaded = json!({ "error": { "message": "busy" } });
    let answer = said(json!({ "prompt_tokens": 1, "completion_tokens": 1 }));
    let second = Provider::answering(200, &answer).await;
    for failing in [
        vec![json_answer(429, "", &overloaded)],
        vec![json_answer(503, "", &overloaded)],
        vec![json_answer(401, "", &overloaded)],
        vec![Step::Write(
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\n\r\n".into(),
        )],
        vec![Step::Write("nonsense\r\n\r\n".into())],
        vec![],
    ] {
        let first = Provider::new(failing).await;
        let more = format!(
            "failures = 2\nfallbacks = [{{ url = \"{}/v1\", aliases = {{ small = \"tiny\" }} }}]",
            second.url
        );
        let gateway = Gateway::before(&first, &more).await;
        let token = gateway.free();
        for _ in 0..3 {
            let got = gateway
                .post(&token, "/v1/chat/completions", &chat("small"))
                .await;
            assert_eq!(got.text(), answer.to_string());
        }
        assert_eq!(first.asked(), 2, "then it is left alone");
        assert!(second.body().contains("\"model\":\"tiny\""));
        let key = format!("Bearer {KEY}");
        let seen = second.requests.lock().last().unwrap().clone();
        assert!(
            !seen.contains(&key),
            "each address has a credential of its own"
        );
    }
}
