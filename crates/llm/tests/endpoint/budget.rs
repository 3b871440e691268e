//! Tokens and money: held back before, counted after, and never more than the task has.

use serde_json::json;

use crate::support::{Gateway, Provider, Step, chat, chunk, grant, read, said, stream_head};

const PRICES: &str =
    "prices.\"small*\" = { input_usd_per_million = 0.15, output_usd_per_million = 0.6 }";

#[tokio::test]
async fn money_is_counted_by_the_price_of_the_model() {
    let usage = json!({ "prompt_tokens": 1_000, "completion_tokens": 500 });
    let provider = Provider::answering(200, &said(usage)).await;
    let gateway = Gateway::before(&provider, PRICES).await;
    let models = || json!([{ "name": "*" }]);
    let (task, token) = gateway.task(grant(models(), json!({ "micro_usd": 100_000 })));
    let mut request = chat("small-1");
    request["max_tokens"] = 500.into();
    assert_eq!(
        gateway
            .post(&token, "/v1/chat/completions", &request)
            .await
            .status,
        200
    );
    assert_eq!(gateway.spent(&task).micro_usd, 150 + 300);
    request["model"] = "unpriced".into();
    let got = gateway.post(&token, "/v1/chat/completions", &request).await;
    assert_eq!(
        (got.status.as_u16(), got.rule().as_str()),
        (403, "not_granted")
    );
    assert_eq!(provider.asked(), 1);
}

#[tokio::test]
async fn concurrent_requests_cannot_overshoot() {
    let provider = Provider::new(vec![Step::Hang]).await;
    let gateway = Gateway::before(&provider, "").await;
    let (_, token) = gateway.task(grant(json!([{ "name": "*" }]), json!({ "tokens": 1_000 })));
    let mut request = chat("small");
    request["max_tokens"] = 600.into();
    let first = gateway.post(&token, "/v1/chat/completions", &request);
    let second = async {
        while provider.asked() == 0 {
            tokio::task::yield_now().await;
        }
        gateway.post(&token, "/v1/chat/completions", &request).await
    };
    tokio::select! {
        _ = first => panic!("the provider hangs"),
        got = second => {
            assert_eq!((got.status.as_u16(), got.rule().as_str()), (429, "budget_exhausted"));
            assert_eq!(got.headers["x-should-retry"], "false");
        }
    }
    assert_eq!(provider.asked(), 1);
}

#[tokio::test]
async fn who_leaves_before_the_answer_pays_all_that_it_may_have_cost() {
    let provider = Provider::new(vec![Step::Hang]).await;
    let gateway = Gateway::before(&provider, "").await;
    let (task, token) = gateway.task(grant(json!([{ "name": "*" }]), json!({ "tokens": 1_000 })));
    let mut request = chat("small");
    request["max_tokens"] = 600.into();
    let post = gateway.post(&token, "/v1/chat/completions", &request);
    tokio::select! {
        _ = post => panic!("the provider hangs"),
        () = async { while provider.asked() == 0 { tokio::task::yield_now().await } } => {}
    }
    let result = gateway.result().await;
    assert_eq!(result["ended"], "cancelled");
    let spent = gateway.spent(&task).tokens;
    assert!(spent > 600 && spent < 800, "{spent}");
    assert_eq!(result["spent"]["tokens"], spent);
}

#[tokio::test]
async fn without_a_report_the_bytes_count() {
    let text = "four".repeat(10);
    let event = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let provider = Provider::streaming(&[&event, "data: [DONE]\n\n"]).await;
    let gateway = Gateway::before(&provider, "").await;
    let (task, token) = gateway.task(grant(json!([{ "name": "*" }]), json!({ "tokens": 9_000 })));
    let mut request = chat("small");
    request["stream"] = true.into();
    let length = request.to_string().len() as u64;
    let got = gateway.post(&token, "/v1/chat/completions", &request).await;
    assert_eq!(got.status, 200);
    assert_eq!(gateway.spent(&task).tokens, length + 40);
}

#[tokio::test]
async fn a_stream_that_runs_past_the_budget_is_cut_in_the_form_of_the_surface() {
    let event = "data: {\"choices\":[{\"delta\":{\"content\":\"on and on \"}}]}\n\n";
    let Step::Write(event) = chunk(event) else {
        unreachable!()
    };
    let provider = Provider::new(vec![stream_head(), Step::Forever(event)]).await;
    let gateway = Gateway::before(&provider, "").await;
    let (task, token) = gateway.task(grant(json!([{ "name": "*" }]), json!({ "tokens": 2_000 })));
    let mut request = chat("small");
    request["stream"] = true.into();
    request["max_tokens"] = 100.into();
    let response = gateway
        .begin(&token, "/v1/chat/completions", &request)
        .await;
    assert_eq!(response.status(), 200);
    let text = read(response).await.text();
    let (_, last) = text.trim_end().rsplit_once("data: ").unwrap();
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["error"]["rule"], "budget_exhausted");
    assert_eq!(last["error"]["type"], "insufficient_quota");
    let result = gateway.result().await;
    assert_eq!(result["ended"], "cut");
    assert!(gateway.spent(&task).tokens > 2_000);
    let next = gateway.post(&token, "/v1/chat/completions", &request).await;
    assert_eq!(next.rule(), "budget_exhausted");
    while *provider.abandoned.lock() == 0 {
        tokio::task::yield_now().await;
    }
}
