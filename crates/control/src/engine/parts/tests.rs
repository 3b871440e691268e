use super::*;
use model::{InstanceId, Task};
use policy::{CompiledGrant, Usage};
use proptest::prelude::*;
use serde_json::{Value, json};

fn instance() -> Actor {
    Actor::Instance {
        id: InstanceId::new(Timestamp::UNIX_EPOCH, [1; 10]),
        agent: model::AgentName::parse("front").unwrap(),
    }
}

fn grant(permissions: Value, calls: u32) -> Grant {
    serde_json::from_value(json!({
        "permissions": permissions, "budget": { "calls": calls }, "proof": "dpop",
    }))
    .unwrap()
}

fn skills(server: &str, names: &[&str]) -> Value {
    let skills: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
    json!({ "type": "sallyport_a2a", "server": server, "skills": skills })
}

#[test]
fn what_is_wider_is_said_without_naming_what_the_caller_does_not_know() {
    let wide = grant(json!([skills("desk", &["refund"])]), 10);
    let more = grant(
        json!([skills("desk", &["delete"]), skills("vault", &["open"])]),
        5,
    );
    let told = wider(&instance(), &wide, &more);
    assert!(told.contains("`desk`") && !told.contains("vault"), "{told}");
    assert!(wider(&Actor::Operator, &wide, &more).contains("`vault`"));
    let mut weak = grant(json!([]), 5);
    weak.proof = model::Proof::Bearer;
    assert!(wider(&instance(), &wide, &weak).contains("proof"));
}

#[test]
fn budgets_are_cut_to_the_parents() {
    let mut wide = Budget::of_calls(10);
    wide.tokens = Some(100);
    let mut narrow = Budget::of_calls(1_000);
    narrow.rows = Some(5);
    let cut = smaller(wide, narrow);
    assert_eq!((cut.calls, cut.tokens, cut.rows), (10, Some(100), Some(5)));
}

const SERVERS: [&str; 2] = ["desk", "vault"];
const SKILLS: [&str; 4] = ["refund", "lookup", "re*", "*"];

prop_compose! {
    fn permission()(
        server in 0..2usize,
        skill in 0..4usize,
        limited in proptest::option::of(1u32..4),
        prefix in proptest::option::of("[ab]{0,2}"),
    ) -> Value {
        let mut skill = json!({ "name": SKILLS[skill] });
        if let Some(limit) = limited {
            skill["max_calls"] = json!(limit);
        }
        if let Some(prefix) = prefix {
            skill["arguments"] = json!({ "text": { "prefix": prefix } });
        }
        json!({ "type": "sallyport_a2a", "server": SERVERS[server], "skills": [skill] })
    }
}

prop_compose! {
    fn any_grant()(permissions in proptest::collection::vec(permission(), 0..4), calls in 1u32..6) -> Grant {
        grant(permissions.into(), calls)
    }
}

fn task(grant: Grant) -> Task {
    serde_json::from_value(json!({
        "id": model::TaskId::new(Timestamp::UNIX_EPOCH, [7; 10]),
        "agent": "front", "instance": null, "template": "t", "parameters": {}, "purpose": "",
        "grant": grant, "opened_at": "2026-01-01T00:00:00Z", "expires_at": "2027-01-01T00:00:00Z",
        "status": "open", "ended_at": null, "ended_because": null,
    }))
    .unwrap()
}

/// How many of these messages a task would let through by itself.
fn permitted(world: &policy::World, task: &Task, messages: &[(usize, usize, String)]) -> Vec<bool> {
    let compiled = CompiledGrant::new(&task.grant);
    let mut usage = Usage::default();
    let instance = InstanceId::new(Timestamp::UNIX_EPOCH, [1; 10]);
    messages
        .iter()
        .map(|(server, skill, text)| {
            let action = model::Action::new(
                model::ServerName::parse(SERVERS[*server]).unwrap(),
                "SendMessage",
                model::Operation::Message {
                    skill: SKILLS[*skill].to_owned(),
                    arguments: json!({ "text": text }).as_object().unwrap().clone(),
                },
            );
            let decision = policy::decide(
                world,
                &policy::Attempt {
                    caller: policy::Caller {
                        agent: &task.agent,
                        instance: &instance,
                        proof: model::Proof::Dpop,
                        risk: 0,
                    },
                    task,
                    grant: &compiled,
                    usage: &usage,
                    action: &action,
                    caution: policy::Caution::default(),
                    now: "2026-06-01T00:00:00Z".parse().unwrap(),
                    id: model::DecisionId::new(Timestamp::UNIX_EPOCH, [1; 10]),
                },
            );
            usage.charge(&action, &decision.outcome);
            decision.is_permit()
        })
        .collect()
}

fn world() -> policy::World {
    let all = "permit(principal, action, resource);".to_owned();
    let policies = policy::Policies::compile(&[("all.cedar".into(), all)]).unwrap();
    let servers = SERVERS.map(|name| {
        let facts = policy::ServerFacts {
            segment: None,
            enabled: true,
        };
        (model::ServerName::parse(name).unwrap(), facts)
    });
    policy::World::new(Arc::new(policies))
        .with_agent(
            model::AgentName::parse("front").unwrap(),
            policy::AgentFacts {
                lifecycle: model::Lifecycle::Active,
                segment: None,
                sponsor: "ada@example.org".to_owned(),
            },
        )
        .with_servers(servers.into_iter().collect())
}

proptest! {
    /// A chain of parts, each opened as the engine opens it: what the last one permits in any sequence
    /// of messages, the first one would have permitted too.
    #[test]
    fn no_chain_permits_what_its_first_task_did_not(
        root in any_grant(),
        wanted in proptest::collection::vec(any_grant(), 1..4),
        messages in proptest::collection::vec((0..2usize, 0..2usize, "[ab]{0,3}"), 1..12),
    ) {
        let world = world();
        let mut above = root.clone();
        let mut depth = 0;
        for narrower in wanted {
            let mut grant = narrower;
            grant.budget = smaller(above.budget, grant.budget);
            if policy::covers(&above, &grant) {
                above = grant;
                depth += 1;
            }
        }
        prop_assume!(depth > 0);
        let last = permitted(&world, &task(above), &messages);
        // Only what the last one lets through reaches the first one, which is charged for it too.
        let passed: Vec<_> = messages.into_iter().zip(&last).filter(|(_, ok)| **ok).map(|(m, _)| m).collect();
        let first = permitted(&world, &task(root), &passed);
        prop_assert!(first.into_iter().all(|ok| ok));
    }
}
