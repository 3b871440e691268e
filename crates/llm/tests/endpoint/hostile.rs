//! A provider that lies, floods or stalls, and agents that are stopped in the middle.

use http_body_util::BodyExt;
use model::TaskStatus;
use serde_json::json;

use crate::support::{
    Gateway, Provider, Step, chat, chunk, grant, json_answer, read, said, stream_head,
};

fn streamed() -> serde_json::Value {
    let mut request = chat("small");
    request["stream"] = true.into();
    request
}

#[tokio::test]
async fn ending_the_task_cuts_a_running_stream_at_once() {
    let first = chunk("data: {\"choices\":[{\"delta\":{\"content\":\"hello\"}}]}\n\n");
    let provider = Provider::new(vec![stream_head(), first, Step::Hang]).await;
    let gateway = Gateway::before(&provider, "").await;
    let (task, token) = gateway.task(grant(json!([{ "name": "*" }]), json!({ "calls": 9 })));
    let mut response = gateway
        .begin(&token, "/v1/chat/completions", &streamed())
        .await;
    let frame = response.body_mut().frame().await.unwrap().unwrap();
    assert!(frame.into_data().unwrap().starts_with(b"data: "));
    let now = jiff::Timestamp::now();
    gateway
        .live
        .end(&task, TaskStatus::Revoked, now, "test")
        .await;
    let text = read(response).await.text();
    assert!(text.starts_with("data: {\"error\""), "{text}");
    assert!(text.contains("task_not_open"));
    assert_eq!(gateway.result().await["ended"], "cut");
    while *provider.abandoned.lock() == 0 {
        tokio::task::yield_now().await;
    }
    let next = gateway
        .post(&token, "/v1/chat/completions", &chat("small"))
        .await;
    assert_eq!(next.rule(), "task_not_open");
}

#[tokio::test]
async fn ending_the_task_ends_a_request_that_waits_for_its_answer() {
    let provider = Provider::new(vec![Step::Hang]).await;
    let gateway = Gateway::before(&provider, "").await;
    let (task, token) = gateway.task(grant(json!([{ "name": "*" }]), json!({ "calls": 9 })));
    let request = chat("small");
    let waiting = gateway.post(&token, "/v1/chat/completions", &request);
    let end = async {
        while provider.asked() == 0 {
            tokio::task::yield_now().await;
        }
        let now = jiff::Timestamp::now();
        gateway
            .live
            .end(&task, TaskStatus::Completed, now, "test")
            .await
    };
    let (got, ended) = tokio::join!(waiting, end);
    assert!(ended);
    assert_eq!(
        (got.status.as_u16(), got.rule().as_str()),
        (403, "task_not_open")
    );
    assert_eq!(gateway.result().await["ended"], "cut");
}

#[tokio::test]
async fn answers_that_are_none_are_not_passed_on() {
    let head = |kind: &str, body: &str| {
        let text = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        vec![Step::Write(text.into())]
    };
    for script in [
        head("text/html", "<script>"),
        head("application/json", "not json"),
        head("application/json", "[]"),
        head("text/event-stream", "data: {}\n\n"),
        head("application/json\r\ncontent-encoding: gzip", "{}"),
        vec![Step::Write(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"
                .into(),
        )],
    ] {
        let provider = Provider::new(script.clone()).await;
        let gateway = Gateway::before(&provider, "").await;
        let got = gateway
            .post(&gateway.free(), "/v1/chat/completions", &chat("small"))
            .await;
        assert_eq!(
            (got.status.as_u16(), got.rule().as_str()),
            (502, "upstream_failed"),
            "{got:?}"
        );
        assert_eq!(gateway.result().await["ended"], "upstream_failed");
    }
}

#[tokio::test]
async fn an_endless_event_or_answer_ends_at_the_limit() {
    let limits = "request_bytes = 65536\nresponse_bytes = 65536";
    let event = vec![
        stream_head(),
        chunk("data: "),
        Step::Forever(b"4\r\nxxxx\r\n"[..].into()),
    ];
    let provider = Provider::new(event).await;
    let gateway = Gateway::with("openai", &provider, "", limits).await;
    let token = gateway.free();
    let got = gateway
        .post(&token, "/v1/chat/completions", &streamed())
        .await;
    assert!(got.text().contains("upstream_failed"), "{got:?}");
    let body =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let script = vec![
        Step::Write(body.into()),
        Step::Forever(b"4\r\n    \r\n"[..].into()),
    ];
    let provider = Provider::new(script).await;
    let gateway = Gateway::with("openai", &provider, "", limits).await;
    let got = gateway
        .post(&gateway.free(), "/v1/chat/completions", &chat("small"))
        .await;
    assert_eq!(got.rule(), "upstream_failed");
    let mut long = chat("small");
    long["messages"][0]["content"] = "x".repeat(70_000).into();
    let got = gateway
        .post(&gateway.free(), "/v1/chat/completions", &long)
        .await;
    assert_eq!(
        (got.status.as_u16(), got.rule().as_str()),
        (413, "protocol_violation")
    );
}

#[tokio::test]
async fn lying_usage_gives_no_room_in_the_budget() {
    for (usage, least) in [
        (
            json!({ "prompt_tokens": -900, "completion_tokens": -900 }),
            20,
        ),
        (json!({ "prompt_tokens": 0, "completion_tokens": 0 }), 20),
        (json!("none"), 20),
        (
            json!({ "prompt_tokens": u64::MAX, "completion_tokens": u64::MAX }),
            u64::MAX,
        ),
    ] {
        let provider = Provider::answering(200, &said(usage.clone())).await;
        let gateway = Gateway::before(&provider, "").await;
        let (task, token) =
            gateway.task(grant(json!([{ "name": "*" }]), json!({ "tokens": 9_000 })));
        let got = gateway
            .post(&token, "/v1/chat/completions", &chat("small"))
            .await;
        assert_eq!(got.status, 200);
        assert!(gateway.spent(&task).tokens >= least, "{usage}");
    }
}

#[tokio::test]
async fn a_stream_with_what_is_no_event_is_given_up() {
    let provider = Provider::streaming(&["data: {\"choices\":[]}\n\n", "data: <html>\n\n"]).await;
    let gateway = Gateway::before(&provider, "").await;
    let got = gateway
        .post(&gateway.free(), "/v1/chat/completions", &streamed())
        .await;
    let text = got.text();
    assert!(
        text.starts_with("data: {\"choices\":[]}\n\ndata: {\"error\""),
        "{text}"
    );
    assert!(!text.contains("<html>"));
}

#[tokio::test]
async fn a_silent_provider_is_given_up() {
    let provider = Provider::new(vec![stream_head(), Step::Hang]).await;
    let gateway = Gateway::before(&provider, "idle_seconds = 1").await;
    let got = gateway
        .post(&gateway.free(), "/v1/chat/completions", &streamed())
        .await;
    assert!(got.text().contains("silent"), "{got:?}");
    assert_eq!(gateway.result().await["ended"], "upstream_failed");
}

#[tokio::test]
async fn a_task_has_only_so_many_requests_under_way() {
    let provider = Provider::new(vec![stream_head(), chunk(": hi\n\n"), Step::Hang]).await;
    let gateway = Gateway::with("openai", &provider, "", "streams_per_task = 1").await;
    let (_, token) = gateway.task(grant(json!([{ "name": "*" }]), json!({ "calls": 9 })));
    let open = gateway
        .begin(&token, "/v1/chat/completions", &streamed())
        .await;
    let got = gateway
        .post(&token, "/v1/chat/completions", &chat("small"))
        .await;
    assert_eq!(
        (got.status.as_u16(), got.rule().as_str()),
        (429, "protocol_violation")
    );
    drop(open);
    // The place comes back when the gateway sees that the agent is gone.
    loop {
        let again = gateway
            .begin(&token, "/v1/chat/completions", &streamed())
            .await;
        if again.status() == 200 {
            break;
        }
    }
}

#[tokio::test]
async fn names_that_agents_and_models_choose_do_not_carry_secrets_into_records() {
    let secret = "sk-abcdefghijklmnopqrstuvwx";
    let mut answer = said(json!({ "prompt_tokens": 1, "completion_tokens": 1 }));
    answer["choices"][0]["message"]["tool_calls"] =
        json!([{ "id": "c", "function": { "name": secret, "arguments": secret } }]);
    let provider = Provider::new(vec![json_answer(200, "", &answer)]).await;
    let gateway = Gateway::before(&provider, "").await;
    let mut request = chat("small");
    request["tools"] = json!([{ "type": "function", "function": { "name": secret } }]);
    request["user"] = secret.into();
    let got = gateway
        .post(&gateway.free(), "/v1/chat/completions", &request)
        .await;
    assert_eq!(got.status, 200);
    let all = format!("{:?}", gateway.records().await);
    assert!(!all.contains("abcdefghijklmnop"), "{all}");
}
