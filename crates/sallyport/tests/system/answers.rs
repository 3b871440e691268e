//! Answers that a provider keeps belong to the task that they were given to, over a restart too.

use serde_json::json;

use crate::support::Setup;
use crate::support::agent::Agent;
use crate::support::http::{Answer, Call};
use crate::support::provider::{TALK, answering};

async fn ask(agent: &Agent, task: &str, after: Option<&str>) -> Answer {
    let token = agent.token_of_kind("llm", "ai", task, false).await;
    let mut body = json!({ "model": "m", "input": "and then?" });
    if let Some(after) = after {
        body["previous_response_id"] = after.into();
    }
    Call::post(&format!("{}/v1/responses", token.resource))
        .header("authorization", &format!("Bearer {}", token.text))
        .json(&body)
        .send()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_after_a_restart_and_for_its_task_alone() {
    let url = answering(&json!({
        "id": "resp_1", "object": "response", "status": "completed", "output": [],
        "usage": { "input_tokens": 5, "output_tokens": 2, "total_tokens": 7 },
    }))
    .await;
    let setup = Setup::new().server("ai", "llm", &format!("{url}/v1"));
    let mut gateway = setup.template("talk", TALK).start().await;
    let agent = gateway.agent("writer").await;
    let own = agent.open_task("talk", json!({})).await;
    let other = agent.open_task("talk", json!({})).await;
    assert_eq!(ask(&agent, &own, None).await.status, 200);
    for restarted in [false, true] {
        if restarted {
            gateway.terminate();
            gateway.restart().await;
        }
        let gone_on = ask(&agent, &own, Some("resp_1")).await;
        assert_eq!(gone_on.status, 200, "{restarted}: {gone_on:?}");
        for (task, id) in [(&other, "resp_1"), (&own, "resp_2")] {
            let refused = ask(&agent, task, Some(id)).await;
            assert_eq!(refused.status, 403, "{restarted}: {refused:?}");
            assert_eq!(refused.json()["error"]["rule"], "not_granted");
        }
    }
}
