//! Decisions that a person must approve: by the template, by a policy, by a level that was raised.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use model::grant::ServerRequest;
use model::{
    Action, ApprovalLevel, DecisionId, Grant, InstanceId, Lifecycle, Operation, Outcome, Proof,
    Rule, Statement, TableAccess, TableOperation, Task, TaskId, TaskStatus,
};
use policy::{
    AgentFacts, Attempt, Caller, Caution, CompiledGrant, Listed, Policies, ServerFacts, Usage,
    World, covers, decide, may_list,
};
use serde_json::{Value, json};

const PERMIT: &str = "permit(principal, action, resource);";

fn task(grant: &Grant) -> Task {
    Task {
        id: TaskId::new(Timestamp::UNIX_EPOCH, [0; 10]),
        agent: "triage".parse().unwrap(),
        instance: None,
        parent: None,
        template: "t".parse().unwrap(),
        parameters: BTreeMap::new(),
        purpose: String::new(),
        grant: grant.clone(),
        opened_at: Timestamp::UNIX_EPOCH,
        expires_at: Timestamp::MAX,
        status: TaskStatus::Open,
        ended_at: None,
        ended_because: None,
    }
}

fn grant(permissions: Value) -> Grant {
    serde_json::from_value(
        json!({"permissions": permissions, "budget": {"calls": 100}, "proof": "dpop"}),
    )
    .unwrap()
}

fn mcp(tools: Value, approval: Option<&str>) -> Value {
    let mut permission = json!({"type": "sallyport_mcp", "server": "mail", "tools": tools,
        "resources": ["mail:*"], "server_requests": ["roots"]});
    if let Some(approval) = approval {
        permission["approval"] = json!(approval);
    }
    permission
}

fn world(policies: &str) -> World {
    let policies = Policies::compile(&[("org.cedar".into(), policies.to_owned())]).unwrap();
    let facts = AgentFacts {
        lifecycle: Lifecycle::Active,
        segment: None,
        sponsor: "ada@example.org".to_owned(),
    };
    let on = ServerFacts {
        segment: None,
        enabled: true,
    };
    World::new(Arc::new(policies))
        .with_agent("triage".parse().unwrap(), facts)
        .with_servers(BTreeMap::from([("mail".parse().unwrap(), on)]))
}

/// What is decided: `None` to go on, else whether a person could approve it, and the rule.
fn decided(
    policies: &str,
    grant: &Grant,
    operation: Operation,
    caution: Caution,
) -> Option<(bool, Rule)> {
    let (world, task) = (world(policies), task(grant));
    let compiled = CompiledGrant::new(grant);
    let instance = InstanceId::new(Timestamp::UNIX_EPOCH, [0; 10]);
    let action = Action::new("mail".parse().unwrap(), "", operation);
    let decision = decide(
        &world,
        &Attempt {
            caller: Caller {
                agent: &task.agent,
                instance: &instance,
                proof: Proof::Dpop,
                risk: 0,
            },
            task: &task,
            grant: &compiled,
            usage: &Usage::default(),
            action: &action,
            caution,
            now: Timestamp::UNIX_EPOCH,
            id: DecisionId::new(Timestamp::UNIX_EPOCH, [0; 10]),
        },
    );
    match decision.outcome {
        Outcome::Permit { .. } => None,
        Outcome::Ask { denial, .. } => Some((true, denial.rule)),
        Outcome::Deny(denial) => Some((false, denial.rule)),
    }
}

fn call(tool: &str, arguments: Value) -> Operation {
    Operation::CallTool {
        tool: tool.to_owned(),
        arguments: arguments.as_object().unwrap().clone(),
    }
}

const ASKS: Option<(bool, Rule)> = Some((true, Rule::ApprovalNeeded));

#[test]
fn a_permission_may_need_a_person_and_another_that_does_not_comes_first() {
    let usual = Caution::default();
    let asking = mcp(json!([{"name": "send"}]), Some("always"));
    let inside = mcp(
        json!([{"name": "send", "arguments": {"to": {"equals": "ann"}}}]),
        None,
    );
    for order in [
        json!([asking.clone(), inside.clone()]),
        json!([inside, asking.clone()]),
    ] {
        let grant = grant(order);
        let send = |to: &str| decided(PERMIT, &grant, call("send", json!({"to": to})), usual);
        assert_eq!(send("ann"), None);
        assert_eq!(send("bob"), ASKS);
    }
    let grant = grant(json!([asking]));
    let resource = Operation::ReadResource {
        uri: "mail:1".to_owned(),
    };
    assert_eq!(decided(PERMIT, &grant, resource, usual), ASKS);
    // Talking is nothing that a person could approve, and what is not granted nobody can.
    assert_eq!(decided(PERMIT, &grant, Operation::Converse, usual), None);
    let answer = Operation::Answer {
        request: ServerRequest::Roots,
    };
    assert_eq!(decided(PERMIT, &grant, answer, usual), None);
    assert_eq!(
        decided(PERMIT, &grant, call("delete", json!({})), usual),
        Some((false, Rule::NotGranted))
    );
    assert_eq!(
        decided("", &grant, call("send", json!({})), usual),
        Some((false, Rule::NoPolicyPermits)),
        "no person can approve what no policy permits"
    );
}

#[test]
fn a_policy_may_want_a_person() {
    let grant = grant(json!([mcp(json!([{"name": "*"}]), None)]));
    let of = |policies: &str| {
        decided(
            policies,
            &grant,
            call("send", json!({})),
            Caution::default(),
        )
    };
    let unless = "@approval(\"always\") forbid(principal, action, resource);";
    let only = "@approval(\"always\") permit(principal, action, resource);";
    let never = "forbid(principal, action, resource);";
    assert_eq!(of(&format!("{PERMIT}{unless}")), ASKS);
    assert_eq!(of(only), ASKS);
    assert_eq!(of(&format!("{only}{unless}")), ASKS);
    assert_eq!(
        of(&format!("{PERMIT}{only}")),
        None,
        "one permits it without"
    );
    assert_eq!(of(unless), Some((false, Rule::NoPolicyPermits)));
    assert_eq!(
        of(&format!("{PERMIT}{unless}{never}")),
        Some((false, Rule::PolicyForbids))
    );
    let broken = "@approval(\"always\") forbid(principal, action, resource) when { context.risk + 9223372036854775807 > 1 && context.risk - 9223372036854775807 - 2 < 0 };";
    assert_eq!(
        of(&format!("{PERMIT}{unless}{broken}")),
        Some((false, Rule::PolicyError)),
        "one that cannot be evaluated is not lifted either"
    );
}

#[test]
fn a_policy_that_wants_a_person_lets_agents_talk_and_answers_nothing() {
    let grant = grant(json!([mcp(json!([{"name": "*"}]), None)]));
    let policies = format!("{PERMIT}@approval(\"always\") forbid(principal, action, resource);");
    let of = |operation| decided(&policies, &grant, operation, Caution::default());
    assert_eq!(of(Operation::Converse), None);
    let answer = Operation::Answer {
        request: ServerRequest::Roots,
    };
    assert_eq!(of(answer), Some((false, Rule::PolicyForbids)));
    let (world, task) = (world(&policies), task(&grant));
    let instance = InstanceId::new(Timestamp::UNIX_EPOCH, [0; 10]);
    let caller = Caller {
        agent: &task.agent,
        instance: &instance,
        proof: Proof::Dpop,
        risk: 0,
    };
    assert!(may_list(
        &world,
        &caller,
        &task,
        &CompiledGrant::new(&grant),
        &"mail".parse().unwrap(),
        Listed::Tool("send"),
        Timestamp::UNIX_EPOCH,
    ));
}

#[test]
fn an_annotation_that_says_something_else_is_a_mistake() {
    for wrong in ["", "never", "Always", "manager"] {
        let text = format!("@approval(\"{wrong}\") permit(principal, action, resource);");
        let mistakes = Policies::compile(&[("p.cedar".into(), text)]).unwrap_err();
        assert!(mistakes[0].message.contains("@approval"), "{mistakes:?}");
        assert!(mistakes[0].span.is_some() && mistakes[0].hint.is_some());
    }
}

#[test]
fn a_level_that_was_raised_asks_for_more() {
    let grant = grant(json!([mcp(json!([{"name": "*"}]), None)]));
    let of =
        |level, changes, operation| decided(PERMIT, &grant, operation, Caution { level, changes });
    let send = || call("send", json!({}));
    assert_eq!(of(ApprovalLevel::Usual, true, send()), None);
    assert_eq!(of(ApprovalLevel::Changes, true, send()), ASKS);
    assert_eq!(of(ApprovalLevel::Changes, false, send()), None);
    assert_eq!(of(ApprovalLevel::All, false, send()), ASKS);
    assert_eq!(of(ApprovalLevel::All, true, Operation::Converse), None);
}

#[test]
fn a_statement_asks_if_any_table_does() {
    let tables = |name: &str, approval: Option<&str>| {
        let mut permission = json!({"type": "sallyport_postgres", "server": "mail",
            "tables": [{"name": name, "operations": ["select", "update"]}]});
        if let Some(approval) = approval {
            permission["approval"] = json!(approval);
        }
        permission
    };
    let grant = grant(json!([
        tables("public.a", None),
        tables("public.b", Some("always"))
    ]));
    let access = |table: &str| TableAccess {
        table: table.to_owned(),
        operation: TableOperation::Select,
        columns: None,
    };
    let of = |named: &[&str]| {
        let statement = Statement {
            text: "SELECT".to_owned(),
            shape: "SELECT".to_owned(),
            accesses: named.iter().map(|table| access(table)).collect(),
            steering: model::Steering::Unknown,
        };
        decided(
            PERMIT,
            &grant,
            Operation::Query { statement },
            Caution::default(),
        )
    };
    assert_eq!(of(&["public.a"]), None);
    assert_eq!(of(&["public.a", "public.b"]), ASKS);
    assert_eq!(of(&["public.b"]), ASKS);
}

#[test]
fn what_needs_a_person_is_not_delegated_without() {
    let of = |approval| grant(json!([mcp(json!([{"name": "send"}]), approval)]));
    assert!(covers(&of(Some("always")), &of(Some("always"))));
    assert!(covers(&of(None), &of(Some("always"))));
    assert!(!covers(&of(Some("always")), &of(None)));
}
