//! Calls that come faster than they may: refused in the protocol's form, recorded, and nobody else's loss.

use model::Rule;
use model::config::Limits;
use model::rate::{Per, Rate, RateLimit};
use model::record::{Event, Refusal};
use serde_json::json;

use crate::support::{Agent, Answered, Double, Gateway, grant, records};

async fn before() -> (Double, Gateway) {
    let double = Double::with_result(json!({ "content": [], "resultType": "complete" })).await;
    let gateway = Gateway::before(&double).await;
    (double, gateway)
}

/// So many at once, and next to none after that.
fn slow(burst: u32) -> Rate {
    Rate::new(1, Per::Minute, burst).unwrap()
}

async fn call(gateway: &Gateway, agent: &Agent) -> Answered {
    gateway.tool(agent, "echo", json!({})).await
}

async fn passes(gateway: &Gateway, agent: &Agent) -> bool {
    call(gateway, agent).await.json().get("result").is_some()
}

/// The refusals in the log, once everything is written.
async fn refusals(gateway: &Gateway) -> Vec<Refusal> {
    gateway.pipeline.write_counts();
    gateway.audit.close().await;
    let records = records(&gateway.log_dir).into_iter();
    let refusals = records.filter_map(|record| match record.event {
        Event::Refusal(refusal) => Some(*refusal),
        _ => None,
    });
    refusals.collect()
}

#[tokio::test]
async fn a_task_that_runs_away_is_told_to_wait_and_recorded() {
    let (double, gateway) = before().await;
    let mut limited = grant();
    limited.rate = Some(slow(3));
    let agent = gateway.agent_with(limited, std::time::Duration::from_secs(600));
    for _ in 0..3 {
        assert!(passes(&gateway, &agent).await);
    }
    let forwarded = double.seen().len();
    let refused = call(&gateway, &agent).await;
    assert_eq!(refused.status, 200, "clients take others for trouble");
    let wait: u64 = refused.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let error = &refused.json()["error"];
    assert_eq!(error["code"], 429);
    let data = &error["data"];
    assert_eq!(data["rule"], "rate_limited");
    assert!(data["retry_after"].as_f64().unwrap() > 0.0);
    let reason = data["reason"].as_str().unwrap();
    assert!(reason.contains("1 call a minute, 3 at once"), "{reason}");
    let remedy = data["remedy"].as_str().unwrap();
    assert!(
        remedy.contains("wait") && remedy.contains("template"),
        "{remedy}"
    );
    for _ in 0..200 {
        assert!(!passes(&gateway, &agent).await);
    }
    assert_eq!(double.seen().len(), forwarded, "nothing reaches the server");
    // A task of its own goes on, of the same agent too.
    assert!(passes(&gateway, &gateway.agent()).await);
    let going = gateway.live.task_pace(&agent.task).unwrap();
    assert_eq!((going.rate, going.refused), (Some(slow(3)), 201));
    let metrics = gateway.pipeline.metrics().text();
    let counted = "sallyport_rate_limited_total{of=\"task\"} 201";
    assert!(metrics.contains(counted), "{metrics}");

    let told = data["decision"].as_str().unwrap().to_owned();
    let written = refusals(&gateway).await;
    let times: u64 = written.iter().map(|refusal| refusal.times).sum();
    assert_eq!(times, 201, "every one is on record");
    assert!(
        written.len() < 120,
        "not as fast as it came: {}",
        written.len()
    );
    assert!(
        written
            .iter()
            .any(|refusal| refusal.decision.unwrap().to_string() == told)
    );
    for refusal in &written {
        assert_eq!(refusal.denial.rule, Rule::RateLimited);
        assert_eq!(refusal.task, Some(agent.task));
        assert_eq!(refusal.agent.as_ref().unwrap().as_str(), "triage");
        assert_eq!(refusal.endpoint, "/mcp/files");
    }
}

#[tokio::test]
async fn an_agents_tasks_share_what_it_may_and_one_task_cannot_use_it_up() {
    let (_double, gateway) = before().await;
    gateway.live.set_rates(&Limits {
        agent_rate: RateLimit::At(slow(6)),
        task_rate: RateLimit::At(slow(4)),
        ..Limits::default()
    });
    let (one, other, third) = (gateway.agent(), gateway.agent(), gateway.agent());
    let mut passed = 0;
    for _ in 0..50 {
        passed += u32::from(passes(&gateway, &one).await);
    }
    assert_eq!(
        passed, 4,
        "what its own rate refuses takes nothing from the agent's"
    );
    assert!(passes(&gateway, &other).await);
    assert!(passes(&gateway, &third).await);
    let refused = call(&gateway, &third).await.json();
    let reason = refused["error"]["data"]["reason"].as_str().unwrap();
    assert!(reason.contains("with all its tasks together"), "{reason}");
    // For the very next call.
    gateway.live.set_rates(&Limits::default());
    assert!(passes(&gateway, &one).await);
    assert!(passes(&gateway, &third).await);
}

#[tokio::test]
async fn parts_of_a_task_are_no_way_round_its_rate() {
    let (_double, gateway) = before().await;
    let mut limited = grant();
    limited.rate = Some(slow(3));
    let whole = gateway.agent_with(limited, std::time::Duration::from_secs(600));
    let parts = [(); 3].map(|()| gateway.part_of(&whole, grant()));
    let mut passed = 0;
    for part in parts.iter().chain(&parts) {
        passed += u32::from(passes(&gateway, part).await);
    }
    assert_eq!(passed, 3);
    assert!(!passes(&gateway, &whole).await);
}

#[tokio::test]
async fn what_an_agent_gets_wrong_counts_too() {
    let (_double, gateway) = before().await;
    let mut limited = grant();
    limited.rate = Some(slow(3));
    let agent = gateway.agent_with(limited, std::time::Duration::from_secs(600));
    for _ in 0..5 {
        let headers = gateway.signed(&agent, "POST", &[]);
        assert!(!gateway.raw(headers, "not JSON").await.status.is_success());
    }
    assert!(!passes(&gateway, &agent).await);
}
