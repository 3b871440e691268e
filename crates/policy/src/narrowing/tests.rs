use std::sync::Arc;

use jiff::Timestamp;
use model::grant::ServerRequest;
use model::{
    Action, AgentName, DecisionId, InstanceId, Lifecycle, Operation, Proof, Task, TaskId,
    TaskStatus,
};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::*;
use crate::{
    AgentFacts, Attempt, Caller, CompiledGrant, Policies, ServerFacts, Usage, World, decide,
};

fn constraint(written: Value) -> Constraint {
    serde_json::from_value(written).unwrap()
}

fn tool(mut written: Value) -> CallPermission {
    if written.get("name").is_none() {
        written["name"] = json!("t");
    }
    serde_json::from_value(written).unwrap()
}

fn grant(calls: u32, proof: &str, tools: Value) -> Grant {
    serde_json::from_value(json!({
        "permissions": [{"type": "sallyport_mcp", "server": "s", "tools": tools}],
        "budget": {"calls": calls}, "proof": proof,
    }))
    .unwrap()
}

#[test]
fn constraints_are_covered_by_wider_ones() {
    for (wide, narrow) in [
        (json!({}), json!({"below": "/a"})),
        (json!({"below": "/a"}), json!({"below": "/a/b"})),
        (json!({"below": "/a"}), json!({"equals": "/a/x"})),
        (
            json!({"below": "/a"}),
            json!({"one_of": ["/a/x", "/b"], "prefix": "/a"}),
        ),
        (
            json!({"prefix": "a"}),
            json!({"prefix": "ab", "regex": "x"}),
        ),
        (json!({"regex": "[0-9]+"}), json!({"one_of": ["1", "22"]})),
        (json!({"regex": "a+"}), json!({"regex": "a+"})),
        (json!({"min": 1, "max": 9}), json!({"min": 2, "max": 9.0})),
        (json!({"one_of": [1, 2]}), json!({"equals": 2.0})),
        (
            json!({"equals": "a", "optional": true}),
            json!({"equals": "a"}),
        ),
    ] {
        assert!(
            constraint_covered(&constraint(wide.clone()), &constraint(narrow.clone())),
            "{wide} {narrow}"
        );
    }
}

#[test]
fn constraints_are_not_covered_by_others() {
    for (wide, narrow) in [
        (json!({"below": "/a"}), json!({})),
        (json!({"below": "/a"}), json!({"below": "/ab"})),
        (json!({"below": "/a"}), json!({"prefix": "/a/"})),
        (json!({"below": "/a"}), json!({"equals": "/a/../b"})),
        (json!({"below": "/a"}), json!({"equals": ["/a/x", "/b"]})),
        (json!({"prefix": "ab"}), json!({"prefix": "a"})),
        (json!({"regex": "a"}), json!({"regex": "a|b"})),
        (json!({"regex": "("}), json!({"equals": "x"})),
        (json!({"min": 1}), json!({"min": 0.5})),
        (json!({"max": 1}), json!({"min": 0})),
        (json!({"equals": 1}), json!({"one_of": [1, 2]})),
        (json!({"equals": 1}), json!({"equals": 1, "optional": true})),
    ] {
        assert!(
            !constraint_covered(&constraint(wide.clone()), &constraint(narrow.clone())),
            "{wide} {narrow}"
        );
    }
}

#[test]
fn arguments_are_covered() {
    for (wide, narrow, expected) in [
        (json!({}), json!({"arguments": {"p": {}}}), true),
        (json!({"arguments": {"p": {}}}), json!({}), false),
        (
            json!({"arguments": {"p": {"prefix": "a"}}}),
            json!({"arguments": {"/p": {"prefix": "ab"}}}),
            true,
        ),
        (
            json!({"arguments": {"p": {}}}),
            json!({"arguments": {"p": {}}, "other_arguments": "allow"}),
            false,
        ),
        (
            json!({"arguments": {"p": {}}}),
            json!({"arguments": {"p": {}, "q": {}}}),
            false,
        ),
        (
            json!({"arguments": {"p": {}, "q": {"optional": true}}}),
            json!({"arguments": {"p": {}}}),
            true,
        ),
        (
            json!({"arguments": {"p": {}, "q": {}}}),
            json!({"arguments": {"p": {}}}),
            false,
        ),
        (
            json!({"arguments": {"/q/x": {"equals": 1, "optional": true}}, "other_arguments": "allow"}),
            json!({"arguments": {"q": {}}}),
            false,
        ),
        (
            json!({"arguments": {"q": {"equals": 1, "optional": true}}, "other_arguments": "allow"}),
            json!({}),
            false,
        ),
        (
            json!({"arguments": {"p": {}}}),
            json!({"arguments": {"/*": {}}}),
            false,
        ),
        (json!({"name": "a*"}), json!({"name": "ab"}), true),
        (json!({"name": "ab"}), json!({"name": "a*"}), false),
    ] {
        assert_eq!(
            call_covered(&tool(wide.clone()), &tool(narrow.clone())),
            expected,
            "{wide} {narrow}"
        );
    }
}

#[test]
fn budgets_and_proof_only_get_tighter() {
    let wide = grant(10, "bearer", json!([{"name": "a*", "max_calls": 4}]));
    assert!(covers(&wide, &wide));
    assert!(covers(
        &wide,
        &grant(
            10,
            "dpop",
            json!([{"name": "ab", "max_calls": 2}, {"name": "ac", "max_calls": 2}])
        )
    ));
    assert!(!covers(
        &wide,
        &grant(
            10,
            "dpop",
            json!([{"name": "ab", "max_calls": 3}, {"name": "ac", "max_calls": 2}])
        )
    ));
    assert!(covers(&wide, &grant(4, "dpop", json!([{"name": "ab"}]))));
    assert!(!covers(&wide, &grant(5, "dpop", json!([{"name": "ab"}]))));
    let certified = grant(4, "certificate", json!([{"name": "ab"}]));
    assert!(covers(&wide, &certified), "a stronger proof is narrower");
    for weaker in ["dpop", "bearer"] {
        assert!(!covers(
            &certified,
            &grant(4, weaker, json!([{"name": "ab"}]))
        ));
    }
    assert!(!covers(
        &grant(10, "dpop", json!([])),
        &grant(10, "bearer", json!([]))
    ));
    assert!(!covers(
        &grant(10, "dpop", json!([])),
        &grant(11, "dpop", json!([]))
    ));
}

#[test]
fn resources_are_covered_with_their_spelling() {
    let with = |pattern: &str| -> Grant {
        serde_json::from_value(json!({
            "permissions": [{"type": "sallyport_mcp", "server": "s", "resources": [pattern]}],
            "budget": {"calls": 1}, "proof": "dpop",
        }))
        .unwrap()
    };
    assert!(covers(&with("file:///a/*"), &with("file:///a/b*")));
    assert!(covers(&with("file:///a/*"), &with("file:///a/b")));
    assert!(!covers(&with("file:///a/*"), &with("file:///a/../b")));
    assert!(!covers(&with("file:///a/b"), &with("file:///a/*")));
}

fn any_value() -> impl Strategy<Value = Value> {
    select(vec![
        json!("/a"),
        json!("/a/b"),
        json!("/b"),
        json!("/a/../b"),
        json!("x"),
        json!(1),
        json!(2.0),
        json!(5),
        json!([]),
        json!(["/a/b", "/b"]),
        json!(["/a"]),
        json!(null),
        json!({"k": "/a"}),
        json!({"k": 5}),
        json!({}),
    ])
}

fn any_constraint() -> impl Strategy<Value = Value> {
    let part = select(vec![
        json!({}),
        json!({"below": "/a"}),
        json!({"below": "/a/b"}),
        json!({"below": "/"}),
        json!({"prefix": "/a"}),
        json!({"prefix": "/"}),
        json!({"regex": "/a.*"}),
        json!({"regex": "("}),
        json!({"min": 1}),
        json!({"min": 2}),
        json!({"max": 2}),
        json!({"max": 1.5, "min": 1}),
        json!({"equals": "/a"}),
        json!({"equals": ["/a"]}),
        json!({"one_of": ["/a/b", "/a"]}),
        json!({"one_of": [1, "/b"]}),
        json!({"equals": 1}),
        json!({"below": "/a/.."}),
    ]);
    (part, any::<bool>()).prop_map(|(mut part, optional)| {
        part["optional"] = json!(optional);
        part
    })
}

fn any_tool() -> impl Strategy<Value = Value> {
    let key = select(vec!["p", "q", "/p", "/p/k", "/p/*", "/*", "/p~2"]);
    (
        select(vec!["a", "ab", "a*", "*", "b"]),
        prop_oneof![
            Just(BTreeMap::new()),
            proptest::collection::btree_map(key, any_constraint(), 1..3),
        ],
        select(vec![json!(null), json!(null), json!("allow"), json!("refuse")]),
        select(vec![json!(null), json!(null), json!(0), json!(1), json!(2)]),
    )
        .prop_map(|(name, arguments, others, max)| {
            json!({"name": name, "arguments": arguments, "other_arguments": others, "max_calls": max})
        })
}

fn any_permission() -> impl Strategy<Value = Value> {
    let uris = || select(vec!["u:/a/*", "u:/a/b", "u:/a/../b", "*", "u:/b*"]);
    (
        select(vec!["s", "s", "u"]),
        proptest::collection::vec(any_tool(), 0..3),
        proptest::collection::vec(uris(), 0..2),
        proptest::collection::vec(select(vec!["roots", "sampling"]), 0..2),
    )
        .prop_map(|(server, tools, uris, requests)| {
            json!({"type": "sallyport_mcp", "server": server, "tools": tools, "resources": uris,
                "prompts": uris, "server_requests": requests})
        })
}

fn any_grant() -> impl Strategy<Value = Grant> {
    (
        proptest::collection::vec(any_permission(), 0..4),
        0..7_u32,
        select(vec!["dpop", "bearer"]),
    )
        .prop_map(|(permissions, calls, proof)| {
            serde_json::from_value(
                json!({"permissions": permissions, "budget": {"calls": calls}, "proof": proof}),
            )
            .unwrap()
        })
}

/// A grant, and one made of it by changes of which many narrow it.
fn related() -> impl Strategy<Value = (Grant, Grant)> {
    let change = (
        0..9_u8,
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        any_constraint(),
    );
    (any_grant(), proptest::collection::vec(change, 0..4)).prop_map(|(wide, changes)| {
        let mut narrow = wide.clone();
        for (kind, which, inner, constraint) in changes {
            apply(&mut narrow, kind, which, inner, &constraint);
        }
        (wide, narrow)
    })
}

fn apply(
    grant: &mut Grant,
    kind: u8,
    which: prop::sample::Index,
    inner: prop::sample::Index,
    with: &Value,
) {
    match kind {
        0 => grant.budget.calls = grant.budget.calls.saturating_sub(1),
        1 => grant.proof = Proof::Dpop,
        _ if grant.permissions.is_empty() => {}
        2 => drop(
            grant
                .permissions
                .remove(which.index(grant.permissions.len())),
        ),
        3 => {
            let copy = grant.permissions[which.index(grant.permissions.len())].clone();
            grant.permissions.push(copy);
        }
        4 => grant.permissions.reverse(),
        _ => {
            let at = which.index(grant.permissions.len());
            let tools = &mut grant.permissions[at].tools;
            if tools.is_empty() {
                return;
            }
            let at = inner.index(tools.len());
            let tool = &mut tools[at];
            match kind {
                5 => tool.name = Pattern::parse("ab").unwrap(),
                6 => tool.max_calls = Some(tool.max_calls.map_or(1, |max| max.saturating_sub(1))),
                7 => {
                    tool.arguments.insert(
                        "p".to_owned(),
                        serde_json::from_value(with.clone()).unwrap(),
                    );
                }
                _ => {
                    let copy = tool.clone();
                    tools.push(copy);
                }
            }
        }
    }
}

fn any_action() -> impl Strategy<Value = Action> {
    let arguments = proptest::collection::btree_map(select(vec!["p", "q", "r"]), any_value(), 0..3);
    let call = (select(vec!["a", "ab", "b", "c"]), arguments).prop_map(|(tool, arguments)| {
        Operation::CallTool {
            tool: tool.to_owned(),
            arguments: arguments
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        }
    });
    let uri = || select(vec!["u:/a/b", "u:/a/c", "u:/a/../b", "u:/b"]);
    let operation = prop_oneof![
        6 => call,
        1 => uri().prop_map(|uri| Operation::ReadResource { uri: uri.to_owned() }),
        1 => uri().prop_map(|name| Operation::GetPrompt { name: name.to_owned() }),
        1 => Just(Operation::Converse),
        1 => Just(Operation::Answer { request: ServerRequest::Roots }),
    ];
    (select(vec!["s", "s", "s", "u"]), operation).prop_map(|(server, operation)| Action {
        server: ServerName::parse(server).unwrap(),
        method: String::new(),
        operation,
        expected: model::Spent::default(),
    })
}

fn world() -> World {
    let text = "permit(principal, action, resource);".to_owned();
    let policies = Policies::compile(&[("p.cedar".into(), text)]).unwrap();
    let facts = AgentFacts {
        lifecycle: Lifecycle::Active,
        segment: None,
        sponsor: String::new(),
    };
    let servers = ["s", "u"].map(|name| {
        (
            ServerName::parse(name).unwrap(),
            ServerFacts {
                segment: None,
                enabled: true,
            },
        )
    });
    World::new(Arc::new(policies))
        .with_agent(AgentName::parse("a").unwrap(), facts)
        .with_servers(BTreeMap::from(servers))
}

/// One task at work: decides, charges, and tells whether the action was permitted.
struct Working {
    task: Task,
    grant: CompiledGrant,
    usage: Usage,
}

impl Working {
    fn new(grant: &Grant) -> Self {
        let task = Task {
            id: TaskId::new(Timestamp::UNIX_EPOCH, [0; 10]),
            agent: AgentName::parse("a").unwrap(),
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
        };
        Self {
            grant: CompiledGrant::new(grant),
            task,
            usage: Usage::default(),
        }
    }

    fn attempt(&mut self, world: &World, action: &Action, proof: Proof) -> bool {
        let instance = InstanceId::new(Timestamp::UNIX_EPOCH, [0; 10]);
        let attempt = Attempt {
            caller: Caller {
                agent: &self.task.agent,
                instance: &instance,
                proof,
                risk: 0,
            },
            task: &self.task,
            grant: &self.grant,
            usage: &self.usage,
            action,
            caution: crate::Caution::default(),
            now: Timestamp::UNIX_EPOCH,
            id: DecisionId::new(Timestamp::UNIX_EPOCH, [0; 10]),
        };
        let decision = decide(world, &attempt);
        assert_eq!(decision, decide(world, &attempt), "the same twice");
        self.usage.charge(action, &decision.outcome);
        decision.is_permit()
    }
}

fn never_widens(
    wide: &Grant,
    narrow: &Grant,
    actions: &[(Action, bool)],
) -> Result<(), TestCaseError> {
    if !covers(wide, narrow) {
        return Ok(());
    }
    let world = world();
    let mut wider = Working::new(wide);
    let mut narrower = Working::new(narrow);
    for (action, bearer) in actions {
        let proof = if *bearer { Proof::Bearer } else { Proof::Dpop };
        if narrower.attempt(&world, action, proof) {
            // Only what was done under the narrow grant counts against the wide one.
            prop_assert!(wider.attempt(&world, action, proof), "{action:?}");
        }
    }
    prop_assert!(narrower.usage.calls() <= narrow.budget.calls);
    Ok(())
}

/// A few different actions, each several times in a row, so that budgets do run out.
fn any_actions() -> impl Strategy<Value = Vec<(Action, bool)>> {
    let repeated = (any_action(), 1..4_usize, proptest::bool::weighted(0.2));
    proptest::collection::vec(repeated, 1..8).prop_map(|runs| {
        let repeat = |(action, times, bearer)| std::iter::repeat_n((action, bearer), times);
        runs.into_iter().flat_map(repeat).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn narrowing_never_widens((wide, narrow) in related(), actions in any_actions()) {
        never_widens(&wide, &narrow, &actions)?;
    }

    #[test]
    fn neither_do_grants_that_have_nothing_in_common(wide in any_grant(), narrow in any_grant(), actions in any_actions()) {
        never_widens(&wide, &narrow, &actions)?;
    }

    #[test]
    fn covered_constraints_accept_no_more(wide in any_constraint(), narrow in any_constraint(), value in any_value()) {
        let (wide, narrow) = (constraint(wide), constraint(narrow));
        if constraint_covered(&wide, &narrow) && CompiledConstraint::new(&narrow).check(&value).is_ok() {
            prop_assert!(CompiledConstraint::new(&wide).check(&value).is_ok());
        }
    }

    #[test]
    fn budgets_are_never_exceeded(grant in any_grant(), actions in any_actions()) {
        let world = world();
        let mut working = Working::new(&grant);
        let permitted = actions.iter()
            .filter(|(action, _)| working.attempt(&world, action, Proof::Dpop) && action.operation.is_charged())
            .count();
        prop_assert_eq!(permitted, working.usage.calls() as usize);
        prop_assert!(working.usage.calls() <= grant.budget.calls);
        for (p, permission) in grant.permissions.iter().enumerate() {
            for (t, tool) in permission.tools.iter().enumerate() {
                prop_assert!(tool.max_calls.is_none_or(|max| working.usage.of_call(p, t) <= max));
            }
        }
    }
}
