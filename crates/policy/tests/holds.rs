//! What is held back by hand stops actions before anything else about them is asked, and nothing more.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use model::{
    Action, AgentName, DecisionId, Denial, Grant, InstanceId, Lifecycle, Operation, Outcome, Proof,
    ServerName, Task, TaskId, TaskStatus,
};
use policy::{
    AgentFacts, Attempt, Caller, CompiledGrant, Holds, Listed, Policies, ServerFacts, Usage, World,
    decide, may_list,
};
use serde_json::json;

struct Scene {
    world: World,
    task: Task,
    grant: CompiledGrant,
    agent: AgentName,
    instance: InstanceId,
}

fn scene() -> Scene {
    let grant: Grant = serde_json::from_value(json!({
        "permissions": [{
            "type": "sallyport_mcp", "server": "files", "tools": [{ "name": "read" }, { "name": "write" }],
            "resources": ["file:///a"],
        }],
        "budget": { "calls": 10 }, "proof": "bearer",
    }))
    .unwrap();
    let policies = Policies::compile(&[(
        "p".into(),
        "permit(principal, action, resource);".to_owned(),
    )]);
    let agent: AgentName = "triage".parse().unwrap();
    let instance = InstanceId::new(Timestamp::UNIX_EPOCH, [1; 10]);
    let facts = AgentFacts {
        lifecycle: Lifecycle::Active,
        segment: Some("support".parse().unwrap()),
        sponsor: "ada@example.org".to_owned(),
    };
    let server = ServerFacts {
        segment: Some("core".parse().unwrap()),
        enabled: true,
    };
    Scene {
        world: World::new(Arc::new(policies.unwrap()))
            .with_agent(agent.clone(), facts)
            .with_servers(BTreeMap::from([("files".parse().unwrap(), server)])),
        task: Task {
            id: TaskId::new(Timestamp::UNIX_EPOCH, [0; 10]),
            agent: agent.clone(),
            instance: None,
            parent: None,
            template: "t".parse().unwrap(),
            parameters: BTreeMap::new(),
            purpose: String::new(),
            grant: grant.clone(),
            opened_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::from_second(100).unwrap(),
            status: TaskStatus::Open,
            ended_at: None,
            ended_because: None,
        },
        grant: CompiledGrant::new(&grant),
        agent,
        instance,
    }
}

impl Scene {
    fn caller(&self) -> Caller<'_> {
        Caller {
            agent: &self.agent,
            instance: &self.instance,
            proof: Proof::Bearer,
            risk: 0,
        }
    }

    /// Whether these may be done, and the tool be listed: calling `read`, reading a resource, and talking.
    fn may(&self, holds: &Holds) -> [bool; 4] {
        let world = self.world.with_holds(holds.clone());
        let usage = Usage::default();
        let now = Timestamp::from_second(1).unwrap();
        let ask = |operation| {
            let action = Action::new("files".parse().unwrap(), "m", operation);
            let decision = decide(
                &world,
                &Attempt {
                    caller: self.caller(),
                    task: &self.task,
                    grant: &self.grant,
                    usage: &usage,
                    action: &action,
                    caution: policy::Caution::default(),
                    now,
                    id: DecisionId::new(now, [0; 10]),
                },
            );
            if let Outcome::Deny(Denial { remedy, .. }) = &decision.outcome {
                assert!(remedy.contains("operator"), "{remedy}");
            }
            decision.is_permit()
        };
        let server: ServerName = "files".parse().unwrap();
        let item = Listed::Tool("read");
        [
            ask(Operation::CallTool {
                tool: "read".to_owned(),
                arguments: serde_json::Map::new(),
            }),
            ask(Operation::ReadResource {
                uri: "file:///a".to_owned(),
            }),
            ask(Operation::Converse),
            may_list(
                &world,
                &self.caller(),
                &self.task,
                &self.grant,
                &server,
                item,
                now,
            ),
        ]
    }
}

#[test]
fn each_hold_stops_what_it_names() {
    let scene = scene();
    assert_eq!(scene.may(&Holds::default()), [true; 4]);
    let all = Holds {
        all: true,
        ..Holds::default()
    };
    assert_eq!(scene.may(&all), [false; 4]);
    for (segment, may) in [("support", false), ("core", false), ("other", true)] {
        let mut holds = Holds::default();
        holds.set_segment(&segment.parse().unwrap(), true);
        assert_eq!(scene.may(&holds), [may; 4], "{segment}");
    }
    let files: ServerName = "files".parse().unwrap();
    for (tool, may) in [
        ("read", [false, true, true, false]),
        ("file:///a", [true, false, true, true]),
        ("rea", [true; 4]),
        ("", [true; 4]),
    ] {
        let mut holds = Holds::default();
        holds.set_tool(&files, tool, true);
        assert_eq!(scene.may(&holds), may, "{tool}");
        holds.set_tool(&files, tool, false);
        assert_eq!(scene.may(&holds), [true; 4], "{tool}");
    }
}
