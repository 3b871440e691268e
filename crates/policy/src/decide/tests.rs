use std::collections::BTreeMap;
use std::sync::Arc;

use model::grant::ServerRequest;
use model::{Grant, Lifecycle, Rule, TaskId};
use serde_json::{Value, json};

use super::*;
use crate::{AgentFacts, Policies, ServerFacts};

const PERMIT: &str = "@id(\"all\") permit(principal, action, resource);";

fn instance(seed: u8) -> InstanceId {
    InstanceId::new(Timestamp::UNIX_EPOCH, [seed; 10])
}

fn name(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

struct Scene {
    world: World,
    task: Task,
    grant: CompiledGrant,
    usage: Usage,
    agent: AgentName,
    instance: InstanceId,
    proof: Proof,
    risk: u8,
    now: Timestamp,
}

impl Scene {
    fn new(policies: &str) -> Self {
        let grant: Grant = serde_json::from_value(json!({
            "permissions": [
                {"type": "sallyport_mcp", "server": "files", "tools": [
                    {"name": "read", "arguments": {"path": {"below": "/srv/a"}}, "max_calls": 1},
                    {"name": "r*", "arguments": {"path": {"below": "/srv/b"}}},
                    {"name": "write", "max_calls": 2},
                ], "resources": ["file:///srv/*"], "prompts": ["p*"], "server_requests": ["roots"]},
                {"type": "sallyport_mcp", "server": "gone"},
                {"type": "sallyport_mcp", "server": "off"},
            ],
            "budget": {"calls": 3}, "proof": "dpop",
        }))
        .unwrap();
        let policies = Policies::compile(&[("org.cedar".into(), policies.to_owned())]).unwrap();
        let on = ServerFacts {
            segment: Some("core".parse().unwrap()),
            enabled: true,
        };
        let off = ServerFacts {
            segment: None,
            enabled: false,
        };
        let agent: AgentName = "triage".parse().unwrap();
        let facts = AgentFacts {
            lifecycle: Lifecycle::Active,
            segment: Some("support".parse().unwrap()),
            sponsor: "ada@example.org".to_owned(),
        };
        Self {
            world: World::new(Arc::new(policies))
                .with_agent(agent.clone(), facts)
                .with_servers(BTreeMap::from([
                    (name("files"), on.clone()),
                    (name("secret"), on),
                    (name("off"), off),
                ])),
            task: Task {
                id: TaskId::new(Timestamp::UNIX_EPOCH, [0; 10]),
                agent: agent.clone(),
                instance: Some(instance(1)),
                parent: None,
                template: "ticket".parse().unwrap(),
                parameters: BTreeMap::new(),
                purpose: "ticket 1".to_owned(),
                grant: grant.clone(),
                opened_at: Timestamp::UNIX_EPOCH,
                expires_at: Timestamp::from_second(100).unwrap(),
                status: TaskStatus::Open,
                ended_at: None,
                ended_because: None,
            },
            grant: CompiledGrant::new(&grant),
            usage: Usage::default(),
            agent,
            instance: instance(1),
            proof: Proof::Dpop,
            risk: 0,
            now: Timestamp::from_second(1).unwrap(),
        }
    }

    fn caller(&self) -> Caller<'_> {
        Caller {
            agent: &self.agent,
            instance: &self.instance,
            proof: self.proof,
            risk: self.risk,
        }
    }

    fn decide(&self, server: &str, operation: Operation) -> Decision {
        let action = Action {
            server: name(server),
            method: String::new(),
            operation,
            expected: model::Spent::default(),
        };
        decide(
            &self.world,
            &Attempt {
                caller: self.caller(),
                task: &self.task,
                grant: &self.grant,
                usage: &self.usage,
                action: &action,
                caution: crate::Caution::default(),
                now: self.now,
                id: DecisionId::new(self.now, [0; 10]),
            },
        )
    }

    fn denial(&self, server: &str, operation: Operation) -> Denial {
        match self.decide(server, operation).outcome {
            Outcome::Deny(denial) | Outcome::Ask { denial, .. } => denial,
            permit => panic!("{permit:?}"),
        }
    }

    fn rule(&self, server: &str, operation: Operation) -> Rule {
        self.denial(server, operation).rule
    }

    fn lists(&self, server: &str, item: Listed<'_>) -> bool {
        may_list(
            &self.world,
            &self.caller(),
            &self.task,
            &self.grant,
            &name(server),
            item,
            self.now,
        )
    }

    fn permit(&mut self, operation: Operation) -> (usize, Option<usize>) {
        let action = Action {
            server: name("files"),
            method: String::new(),
            operation,
            expected: model::Spent::default(),
        };
        let decision = self.decide("files", action.operation.clone());
        self.usage.charge(&action, &decision.outcome);
        match decision.outcome {
            Outcome::Permit { permission, tool } => (permission, tool),
            Outcome::Deny(denial) | Outcome::Ask { denial, .. } => panic!("{denial:?}"),
        }
    }
}

fn call(tool: &str, arguments: Value) -> Operation {
    let Value::Object(arguments) = arguments else {
        panic!("arguments are objects")
    };
    Operation::CallTool {
        tool: tool.to_owned(),
        arguments,
    }
}

fn read(uri: &str) -> Operation {
    Operation::ReadResource {
        uri: uri.to_owned(),
    }
}

#[test]
fn what_everything_agrees_on_is_permitted_and_told_why() {
    let scene = Scene::new(PERMIT);
    let decision = scene.decide("files", call("read", json!({"path": "/srv/a/x"})));
    assert_eq!(
        decision.outcome,
        Outcome::Permit {
            permission: 0,
            tool: Some(0)
        }
    );
    assert_eq!(decision.policies, ["org/all"]);
    assert_eq!(decision.policy_version, scene.world.policies().version());
    assert!(scene.decide("files", Operation::Converse).is_permit());
    assert!(scene.decide("files", read("file:///srv/x")).is_permit());
    assert!(
        scene
            .decide(
                "files",
                Operation::GetPrompt {
                    name: "p1".to_owned()
                }
            )
            .is_permit()
    );
    assert!(
        scene
            .decide(
                "files",
                Operation::Answer {
                    request: ServerRequest::Roots
                }
            )
            .is_permit()
    );
}

#[test]
fn the_first_rule_that_refuses_answers() {
    let scene = || Scene::new("");
    let mut all_wrong = scene();
    // Everything is wrong at once; one thing after the other is put right.
    all_wrong.world = all_wrong.world.with_agent(
        all_wrong.agent.clone(),
        AgentFacts {
            lifecycle: Lifecycle::Quarantined,
            segment: None,
            sponsor: String::new(),
        },
    );
    all_wrong.task.status = TaskStatus::Revoked;
    all_wrong.task.instance = Some(instance(2));
    all_wrong.proof = Proof::Bearer;
    all_wrong.usage = serde_json::from_value(json!({"calls": 99})).unwrap();
    let mut rules = Vec::new();
    rules.push(all_wrong.rule("secret", Operation::Converse));
    all_wrong.world = scene().world;
    rules.push(all_wrong.rule("secret", Operation::Converse));
    all_wrong.task.instance = None;
    rules.push(all_wrong.rule("secret", Operation::Converse));
    all_wrong.task.status = TaskStatus::Open;
    rules.push(all_wrong.rule("secret", Operation::Converse));
    all_wrong.proof = Proof::Dpop;
    rules.push(all_wrong.rule("secret", Operation::Converse));
    rules.push(all_wrong.rule("files", call("delete", json!({}))));
    rules.push(all_wrong.rule("files", call("read", json!({"path": "/etc"}))));
    rules.push(all_wrong.rule("files", call("read", json!({"path": "/srv/a"}))));
    all_wrong.usage = Usage::default();
    rules.push(all_wrong.rule("files", call("read", json!({"path": "/srv/a"}))));
    assert_eq!(
        rules,
        [
            Rule::AgentNotActive,
            Rule::TaskNotOpen,
            Rule::TaskNotOpen,
            Rule::ProofTooWeak,
            Rule::ServerNotGranted,
            Rule::NotGranted,
            Rule::ArgumentRefused,
            Rule::BudgetExhausted,
            Rule::NoPolicyPermits,
        ]
    );
}

#[test]
fn only_active_agents_get_anything() {
    for lifecycle in [
        Lifecycle::Registered,
        Lifecycle::Quarantined,
        Lifecycle::Retired,
    ] {
        let mut scene = Scene::new(PERMIT);
        let facts = AgentFacts {
            lifecycle,
            segment: None,
            sponsor: String::new(),
        };
        scene.world = scene.world.with_agent(scene.agent.clone(), facts);
        assert_eq!(
            scene.rule("files", Operation::Converse),
            Rule::AgentNotActive
        );
        assert!(!scene.lists("files", Listed::Tool("read")));
    }
    let mut scene = Scene::new(PERMIT);
    scene.world = scene.world.without_agent(&scene.agent);
    assert_eq!(
        scene.rule("files", Operation::Converse),
        Rule::AgentNotActive
    );
}

#[test]
fn tasks_bind_agent_instance_and_time() {
    let mut scene = Scene::new(PERMIT);
    scene.now = scene.task.expires_at;
    assert_eq!(scene.rule("files", Operation::Converse), Rule::TaskNotOpen);
    let mut scene = Scene::new(PERMIT);
    scene.instance = instance(2);
    assert_eq!(scene.rule("files", Operation::Converse), Rule::TaskNotOpen);
    scene.task.instance = None;
    assert!(scene.decide("files", Operation::Converse).is_permit());
    scene.task.agent = "other".parse().unwrap();
    assert_eq!(scene.rule("files", Operation::Converse), Rule::TaskNotOpen);
}

#[test]
fn what_the_caller_may_not_know_reads_the_same() {
    let scene = Scene::new(PERMIT);
    let words = |server: &str, operation: Operation| {
        let denial = scene.denial(server, operation);
        (
            denial.rule,
            denial.reason.replace(server, "X"),
            denial.remedy,
        )
    };
    let converse = || Operation::Converse;
    let unknown = words("nowhere", converse());
    assert_eq!(unknown, words("secret", converse()));
    assert_eq!(unknown, words("secret", call("read", json!({}))));
    // Granted once, and no longer there.
    assert_eq!(unknown, words("gone", converse()));
    let mut disabled = Scene::new(PERMIT);
    disabled.world = disabled.world.with_server_enabled(&name("secret"), false);
    let denial = disabled.denial("secret", converse());
    assert_eq!(
        unknown,
        (
            denial.rule,
            denial.reason.replace("secret", "X"),
            denial.remedy
        )
    );
}

#[test]
fn a_disabled_server_refuses_even_what_is_granted() {
    let mut scene = Scene::new(PERMIT);
    assert_eq!(
        scene.rule("off", Operation::Converse),
        Rule::ServerNotGranted
    );
    scene.world = scene.world.with_server_enabled(&name("files"), false);
    assert_eq!(
        scene.rule("files", Operation::Converse),
        Rule::ServerNotGranted
    );
    assert!(!scene.lists("files", Listed::Tool("read")));
}

#[test]
fn operations_outside_the_grant_are_refused() {
    let scene = Scene::new(PERMIT);
    for operation in [
        call("Read", json!({"path": "/srv/a"})),
        call("", json!({})),
        read("file:///etc/x"),
        read(""),
        read("file:///srv/../etc/x"),
        Operation::GetPrompt {
            name: "q".to_owned(),
        },
        Operation::Answer {
            request: ServerRequest::Sampling,
        },
    ] {
        assert_eq!(
            scene.rule("files", operation.clone()),
            Rule::NotGranted,
            "{operation:?}"
        );
    }
}

#[test]
fn the_first_permission_that_covers_and_has_budget_permits() {
    let mut scene = Scene::new(PERMIT);
    assert_eq!(
        scene.permit(call("read", json!({"path": "/srv/b/x"}))),
        (0, Some(1))
    );
    assert_eq!(
        scene.permit(call("read", json!({"path": "/srv/a/x"}))),
        (0, Some(0))
    );
    let again = scene.denial("files", call("read", json!({"path": "/srv/a/x"})));
    assert_eq!(again.rule, Rule::BudgetExhausted);
    assert_eq!(
        scene.permit(call("read", json!({"path": "/srv/b/x"}))),
        (0, Some(1))
    );
    assert_eq!(
        scene.rule("files", call("write", json!({}))),
        Rule::BudgetExhausted
    );
    assert!(scene.decide("files", Operation::Converse).is_permit());
}

#[test]
fn refusals_of_arguments_do_not_repeat_them() {
    let scene = Scene::new(PERMIT);
    let denial = scene.denial("files", call("read", json!({"path": "/etc/hunter2"})));
    assert!(
        denial.reason.contains("`path`") && denial.remedy.contains("/srv/a"),
        "{denial:?}"
    );
    assert!(!format!("{denial:?}").contains("hunter2"));
    let odd = "x\u{1b}[2J".repeat(1_000);
    let denial = scene.denial("files", call("read", json!({"path": "/srv/a", odd: 1})));
    assert!(
        denial.reason.len() < 1_000 && !denial.reason.contains('\u{1b}'),
        "{denial:?}"
    );
}

#[test]
fn policies_have_the_last_word() {
    let forbid = "@id(\"no\") forbid(principal in Sallyport::Segment::\"support\", action, resource in Sallyport::Segment::\"core\");";
    let scene = Scene::new(&format!("{PERMIT}{forbid}"));
    let decision = scene.decide("files", call("write", json!({})));
    assert_eq!(decision.policies, ["org/no"]);
    assert!(
        matches!(decision.outcome, Outcome::Deny(denial) if denial.rule == Rule::PolicyForbids)
    );
    assert_eq!(
        Scene::new("").rule("files", Operation::Converse),
        Rule::NoPolicyPermits
    );
}

#[test]
fn a_policy_that_fails_denies() {
    // Overflows when it is evaluated; the schema cannot tell.
    let broken = "@id(\"broken\") permit(principal, action, resource) when { 9223372036854775807 + 1 == 0 };";
    for policies in [
        format!("{PERMIT}{broken}"),
        format!("{PERMIT}{}", broken.replace("permit", "forbid")),
    ] {
        let scene = Scene::new(&policies);
        let decision = scene.decide("files", Operation::Converse);
        assert_eq!(decision.policies, ["org/broken"]);
        assert!(
            matches!(decision.outcome, Outcome::Deny(denial) if denial.rule == Rule::PolicyError)
        );
        assert!(!scene.lists("files", Listed::Tool("read")));
    }
    // One that is about something else does not matter.
    let elsewhere = broken.replace("principal,", "principal == Sallyport::Agent::\"other\",");
    assert!(
        Scene::new(&format!("{PERMIT}{elsewhere}"))
            .decide("files", Operation::Converse)
            .is_permit()
    );
}

#[test]
fn listings_show_what_could_be_used() {
    let policies = "permit(principal, action, resource) when { !(resource has name) || resource.name != \"rm\" };";
    let mut scene = Scene::new(policies);
    scene.usage = serde_json::from_value(json!({"calls": 99})).unwrap();
    for item in [
        Listed::Tool("read"),
        Listed::Tool("rx"),
        Listed::Prompt("p"),
        Listed::Resource("file:///srv/x"),
        Listed::ResourceTemplate("file:///srv/{name}"),
        Listed::ResourceTemplate("file:///{+path}"),
    ] {
        assert!(scene.lists("files", item), "{item:?}");
        assert!(!scene.lists("secret", item), "{item:?}");
    }
    for item in [
        Listed::Tool("rm"),
        Listed::Tool("delete"),
        Listed::Tool(""),
        Listed::Prompt("q"),
        Listed::Resource("file:///etc/x"),
        Listed::Resource("file:///srv/../etc"),
        Listed::ResourceTemplate("memo://{x}"),
    ] {
        assert!(!scene.lists("files", item), "{item:?}");
    }
    scene.proof = Proof::Bearer;
    assert!(!scene.lists("files", Listed::Tool("read")));
}

#[test]
fn a_compiled_grant_keeps_nothing_of_another_task() {
    let mut scene =
        Scene::new("permit(principal, action, resource) when { context.purpose == \"ticket 1\" };");
    assert!(scene.decide("files", Operation::Converse).is_permit());
    scene.task.purpose = "ticket 2".to_owned();
    assert_eq!(
        scene.rule("files", Operation::Converse),
        Rule::NoPolicyPermits
    );
    scene.task.purpose = "ticket 1".to_owned();
    assert!(scene.decide("files", Operation::Converse).is_permit());
}

#[test]
fn policies_see_how_bad_the_caller_looks_on_each_call() {
    let mut scene = Scene::new(
        "permit(principal, action, resource);\n\
         @id(\"risky\") forbid(principal, action, resource in Sallyport::Segment::\"core\") \
         when { context.risk > 70 };",
    );
    let read = || call("write", json!({}));
    for (risk, permitted) in [(0, true), (70, true), (71, false), (100, false), (1, true)] {
        scene.risk = risk;
        let decision = scene.decide("files", read());
        assert_eq!(decision.is_permit(), permitted, "with a risk of {risk}");
        let again = scene.decide("files", read());
        assert_eq!(again.outcome, decision.outcome, "it is reproducible");
        if !permitted {
            assert_eq!(decision.policies, ["org/risky"]);
        }
        let listed = may_list(
            &scene.world,
            &scene.caller(),
            &scene.task,
            &scene.grant,
            &name("files"),
            Listed::Tool("write"),
            scene.now,
        );
        assert_eq!(listed, permitted, "listings say the same");
    }
}

#[test]
fn a_stronger_proof_than_is_demanded_will_do_and_a_weaker_one_will_not() {
    let all = [Proof::Bearer, Proof::Dpop, Proof::Certificate];
    for (demanded, given) in all
        .into_iter()
        .flat_map(|one| all.map(|other| (one, other)))
    {
        let mut scene = Scene::new(PERMIT);
        scene.task.grant.proof = demanded;
        scene.grant = CompiledGrant::new(&scene.task.grant);
        scene.proof = given;
        let strength = |proof| all.iter().position(|one| *one == proof);
        let enough = strength(given) >= strength(demanded);
        let permitted = scene.decide("files", Operation::Converse).is_permit();
        assert_eq!(
            permitted, enough,
            "{demanded:?} is demanded, {given:?} given"
        );
    }
}

#[test]
fn policies_see_the_proof_of_each_call() {
    let mut scene =
        Scene::new("permit(principal, action, resource) when { context.proof == \"dpop\" };");
    scene.task.grant.proof = Proof::Bearer;
    scene.grant = CompiledGrant::new(&scene.task.grant);
    assert!(scene.decide("files", Operation::Converse).is_permit());
    scene.proof = Proof::Bearer;
    assert_eq!(
        scene.rule("files", Operation::Converse),
        Rule::NoPolicyPermits
    );
}

#[test]
fn policies_see_what_a_server_asks_for() {
    let policies = "permit(principal, action == Sallyport::Action::\"answer\", resource) when { context.request == \"roots\" };";
    let scene = Scene::new(policies);
    assert!(
        scene
            .decide(
                "files",
                Operation::Answer {
                    request: ServerRequest::Roots
                }
            )
            .is_permit()
    );
    assert_eq!(
        scene.rule("files", Operation::Converse),
        Rule::NoPolicyPermits
    );
}
