//! Decisions about servers that do not speak MCP: endpoints, models, skills and tables, and what they
//! use up.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use model::{
    Action, AgentName, Decision, DecisionId, Denial, Grant, InstanceId, Lifecycle, Operation,
    Outcome, Proof, Rule, ServerName, Spent, Statement, TableAccess, TableOperation, Task, TaskId,
    TaskStatus,
};
use policy::{
    AgentFacts, Attempt, Caller, CompiledGrant, Listed, Policies, ServerFacts, Usage, World,
    covers, decide, may_list,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const POLICIES: &str = r#"
    permit(principal, action, resource);
    forbid(principal, action == Sallyport::Action::"request", resource)
      when { resource.method == "DELETE" && resource.path like "/invoices/*" };
    forbid(principal, action in [Sallyport::Action::"update", Sallyport::Action::"delete"], resource)
      when { resource.schema == "audit" };
    forbid(principal, action == Sallyport::Action::"generate", resource == Sallyport::Model::"ai/huge");
"#;

fn grant() -> Grant {
    serde_json::from_value(json!({
        "permissions": [
            {"type": "sallyport_http", "server": "billing", "endpoints": [
                {"name": "GET /invoices/{id}", "arguments": {"path.id": {"regex": "[0-9]+"}}},
                {"name": "DELETE /invoices/{id}"},
            ]},
            {"type": "sallyport_llm", "server": "ai", "models": [{"name": "small*"}, {"name": "huge"}]},
            {"type": "sallyport_a2a", "server": "helper", "skills": [{"name": "translate", "max_calls": 1}]},
            {"type": "sallyport_postgres", "server": "crm", "tables": [
                {"name": "public.customers", "operations": ["select"], "columns": ["id", "name"]},
                {"name": "audit.*", "operations": ["select", "insert", "update"]},
            ]},
            // What is allowed at a server of another kind allows nothing there.
            {"type": "sallyport_mcp", "server": "billing", "tools": [{"name": "*"}]},
        ],
        "budget": {"calls": 100, "tokens": 1000, "rows": 10}, "proof": "bearer",
    }))
    .unwrap()
}

struct Scene {
    world: World,
    task: Task,
    grant: CompiledGrant,
    usage: Usage,
}

impl Scene {
    fn new() -> Self {
        let policies = Policies::compile(&[("org.cedar".into(), POLICIES.to_owned())]).unwrap();
        let facts = AgentFacts {
            lifecycle: Lifecycle::Active,
            segment: None,
            sponsor: "ada@example.org".to_owned(),
        };
        let on = ServerFacts {
            segment: None,
            enabled: true,
        };
        let servers = ["billing", "ai", "helper", "crm"].map(|name| (server(name), on.clone()));
        Self {
            world: World::new(Arc::new(policies))
                .with_agent(agent(), facts)
                .with_servers(BTreeMap::from(servers)),
            task: Task {
                id: TaskId::new(Timestamp::UNIX_EPOCH, [0; 10]),
                agent: agent(),
                instance: None,
                parent: None,
                template: "t".parse().unwrap(),
                parameters: BTreeMap::new(),
                purpose: String::new(),
                grant: grant(),
                opened_at: Timestamp::UNIX_EPOCH,
                expires_at: Timestamp::MAX,
                status: TaskStatus::Open,
                ended_at: None,
                ended_because: None,
            },
            grant: CompiledGrant::new(&grant()),
            usage: Usage::default(),
        }
    }

    fn decide(&mut self, name: &str, operation: Operation, expected: Spent) -> Decision {
        let action = Action {
            expected,
            ..Action::new(server(name), "", operation)
        };
        let decision = decide(
            &self.world,
            &Attempt {
                caller: caller(&agent(), &instance()),
                task: &self.task,
                grant: &self.grant,
                usage: &self.usage,
                action: &action,
                caution: policy::Caution::default(),
                now: Timestamp::UNIX_EPOCH,
                id: DecisionId::new(Timestamp::UNIX_EPOCH, [0; 10]),
            },
        );
        self.usage.charge(&action, &decision.outcome);
        decision
    }

    fn denial(&mut self, name: &str, operation: Operation) -> Option<Denial> {
        match self.decide(name, operation, Spent::default()).outcome {
            Outcome::Permit { .. } => None,
            Outcome::Deny(denial) | Outcome::Ask { denial, .. } => Some(denial),
        }
    }

    fn rule(&mut self, name: &str, operation: Operation) -> Option<Rule> {
        self.denial(name, operation).map(|denial| denial.rule)
    }
}

fn agent() -> AgentName {
    "triage".parse().unwrap()
}

fn instance() -> InstanceId {
    InstanceId::new(Timestamp::UNIX_EPOCH, [0; 10])
}

fn caller<'a>(agent: &'a AgentName, instance: &'a InstanceId) -> Caller<'a> {
    Caller {
        agent,
        instance,
        proof: Proof::Bearer,
        risk: 0,
    }
}

fn server(name: &str) -> ServerName {
    ServerName::parse(name).unwrap()
}

fn arguments(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn request(endpoint: &str, with: Value) -> Operation {
    Operation::Request {
        endpoint: endpoint.to_owned(),
        arguments: arguments(with),
    }
}

fn generate(model: &str) -> Operation {
    Operation::Generate {
        model: model.to_owned(),
        arguments: Map::new(),
    }
}

fn access(table: &str, operation: TableOperation, columns: Option<&[&str]>) -> TableAccess {
    TableAccess {
        table: table.to_owned(),
        operation,
        columns: columns.map(|names| names.iter().map(|&name| name.to_owned()).collect()),
    }
}

fn query(accesses: Vec<TableAccess>) -> Operation {
    Operation::Query {
        statement: Statement {
            text: String::new(),
            shape: String::new(),
            accesses,
            steering: model::Steering::Unknown,
        },
    }
}

#[test]
fn endpoints_are_granted_with_their_arguments_and_policies_see_method_and_path() {
    let mut scene = Scene::new();
    let get = "GET /invoices/{id}";
    let rule = scene.rule("billing", request(get, json!({"path.id": "47"})));
    assert_eq!(rule, None);
    for with in [
        json!({"path.id": "4/../7"}),
        json!({"path.id": "47", "query.all": "1"}),
        json!({}),
    ] {
        let rule = scene.rule("billing", request(get, with));
        assert_eq!(rule, Some(Rule::ArgumentRefused));
    }
    assert_eq!(
        scene.rule("billing", request("GET /payroll", json!({}))),
        Some(Rule::NotGranted)
    );
    assert_eq!(
        scene.rule("billing", request("DELETE /invoices/{id}", json!({}))),
        Some(Rule::PolicyForbids)
    );
}

fn connect(authority: &str) -> Operation {
    Operation::Connect {
        authority: authority.to_owned(),
    }
}

#[test]
fn a_tunnel_needs_leave_of_its_own_whatever_is_granted_of_endpoints() {
    let mut scene = Scene::new();
    let tunnel = || connect("billing.example:443");
    let denial = scene.denial("billing", tunnel()).unwrap();
    assert_eq!(denial.rule, Rule::NotGranted);
    assert!(denial.remedy.contains("inspect"), "{}", denial.remedy);
    let granted = |permission: Value| {
        let grant = json!({"permissions": [permission], "budget": {"calls": 2}, "proof": "bearer"});
        let mut scene = Scene::new();
        scene.grant = CompiledGrant::new(&serde_json::from_value(grant).unwrap());
        scene
    };
    let wildcards = json!({"type": "sallyport_http", "server": "billing",
        "endpoints": [{"name": "*"}, {"name": "CONNECT *"}, {"name": "billing.example:443"}]});
    let mut scene = granted(wildcards);
    assert_eq!(scene.rule("billing", tunnel()), Some(Rule::NotGranted));
    let other = json!({"type": "sallyport_mcp", "server": "billing", "connect": true});
    assert_eq!(
        granted(other).rule("billing", tunnel()),
        Some(Rule::NotGranted)
    );
    let mut scene =
        granted(json!({"type": "sallyport_http", "server": "billing", "connect": true}));
    assert_eq!(
        scene.rule("billing", request("GET /invoices/{id}", json!({}))),
        Some(Rule::NotGranted),
        "and it is no leave for endpoints"
    );
    assert_eq!(scene.rule("billing", connect("")), Some(Rule::NotGranted));
    assert_eq!(scene.rule("billing", tunnel()), None);
    assert_eq!(scene.rule("billing", tunnel()), None);
    assert_eq!(
        scene.rule("billing", tunnel()),
        Some(Rule::BudgetExhausted),
        "each one counts"
    );
}

#[test]
fn a_part_of_a_task_opens_tunnels_only_where_the_whole_may() {
    let of = |connect: bool| -> Grant {
        serde_json::from_value(json!({
            "permissions": [{"type": "sallyport_http", "server": "billing", "connect": connect,
                "endpoints": [{"name": "*"}]}],
            "budget": {"calls": 1}, "proof": "dpop",
        }))
        .unwrap()
    };
    assert!(covers(&of(true), &of(true)) && covers(&of(true), &of(false)));
    assert!(!covers(&of(false), &of(true)));
}

#[test]
fn a_permission_of_another_kind_covers_nothing() {
    let mut scene = Scene::new();
    // The wildcard is about tools; endpoints and models are none.
    assert_eq!(
        scene.rule("billing", request("anything", json!({}))),
        Some(Rule::NotGranted)
    );
    assert_eq!(
        scene.rule("ai", request("small", json!({}))),
        Some(Rule::NotGranted)
    );
    let tool = Operation::CallTool {
        tool: "small".to_owned(),
        arguments: Map::new(),
    };
    assert_eq!(scene.rule("ai", tool), Some(Rule::NotGranted));
}

#[test]
fn models_and_skills_are_called_like_tools() {
    let mut scene = Scene::new();
    assert_eq!(scene.rule("ai", generate("small-1")), None);
    assert_eq!(scene.rule("ai", generate("large")), Some(Rule::NotGranted));
    assert_eq!(
        scene.rule("ai", generate("huge")),
        Some(Rule::PolicyForbids)
    );
    let translate = || Operation::Message {
        skill: "translate".to_owned(),
        arguments: Map::new(),
    };
    assert_eq!(scene.rule("helper", translate()), None);
    let again = scene.denial("helper", translate()).unwrap();
    assert_eq!(again.rule, Rule::BudgetExhausted);
    assert!(
        again.reason.contains("the skill `translate`"),
        "{}",
        again.reason
    );
}

#[test]
fn every_table_of_a_statement_must_be_granted_in_its_way_with_its_columns() {
    use TableOperation::{Delete, Insert, Select, Update};
    let mut scene = Scene::new();
    let customers = |columns| access("public.customers", Select, columns);
    let granted = query(vec![customers(Some(&["id", "name"]))]);
    assert_eq!(scene.rule("crm", granted), None);
    for refused in [
        vec![customers(None)],
        vec![customers(Some(&["id", "salary"]))],
        vec![access("public.customers", Update, Some(&["id"]))],
        vec![access("public.customers", Delete, None)],
        vec![
            customers(Some(&["id"])),
            access("public.salaries", Select, Some(&["id"])),
        ],
        vec![access("", Select, None)],
        vec![],
    ] {
        let shown = format!("{refused:?}");
        let rule = scene.rule("crm", query(refused));
        assert_eq!(rule, Some(Rule::NotGranted), "{shown}");
    }
    let both = vec![customers(Some(&["id"])), access("audit.log", Insert, None)];
    assert_eq!(scene.rule("crm", query(both)), None);
    // Policies are asked for each table: one that forbids the second forbids the statement.
    let one = vec![customers(Some(&["id"])), access("audit.log", Update, None)];
    assert_eq!(scene.rule("crm", query(one)), Some(Rule::PolicyForbids));
}

#[test]
fn amounts_are_held_back_while_they_may_be_used() {
    let mut scene = Scene::new();
    let tokens = |tokens| Spent {
        tokens,
        ..Spent::default()
    };
    let permitted = |scene: &mut Scene| {
        scene
            .decide("ai", generate("small"), tokens(600))
            .is_permit()
    };
    assert!(permitted(&mut scene));
    assert!(
        !permitted(&mut scene),
        "both together could go beyond the budget"
    );
    // The first one ended with less than it might have used.
    scene.usage.release(tokens(600));
    scene.usage.spend(tokens(300));
    assert!(permitted(&mut scene));
    scene.usage.release(tokens(600));
    scene.usage.spend(tokens(700));
    let last = scene.denial("ai", generate("small")).unwrap();
    assert_eq!(last.rule, Rule::BudgetExhausted);
    assert!(last.reason.contains("1000 tokens"), "{}", last.reason);
}

#[test]
fn a_restart_keeps_what_was_held_back() {
    let mut scene = Scene::new();
    let expected = Spent {
        tokens: 5,
        ..Spent::default()
    };
    assert!(scene.decide("ai", generate("small"), expected).is_permit());
    let stored = serde_json::to_string(&scene.usage).unwrap();
    let restored: Usage = serde_json::from_str(&stored).unwrap();
    assert_eq!(restored.spent(), expected);
}

#[test]
fn listings_show_what_is_granted_and_permitted() {
    let scene = Scene::new();
    let (agent, instance) = (agent(), instance());
    let lists = |name: &str, item| {
        may_list(
            &scene.world,
            &caller(&agent, &instance),
            &scene.task,
            &scene.grant,
            &server(name),
            item,
            Timestamp::UNIX_EPOCH,
        )
    };
    assert!(lists("ai", Listed::Model("small-2")));
    assert!(!lists("ai", Listed::Model("huge")), "a policy forbids it");
    assert!(!lists("ai", Listed::Model("large")));
    assert!(lists("helper", Listed::Skill("translate")));
    assert!(lists("billing", Listed::Endpoint("GET /invoices/{id}")));
    assert!(!lists("billing", Listed::Endpoint("DELETE /invoices/{id}")));
}

fn any_table_grant() -> impl Strategy<Value = Grant> {
    let table = (
        proptest::sample::select(vec!["a.x", "a.y", "a.*", "b.x"]),
        proptest::sample::subsequence(vec!["select", "insert", "update", "delete"], 1..4),
        proptest::option::of(proptest::sample::subsequence(vec!["p", "q", "r"], 0..3)),
    );
    let tokens = proptest::option::of(0_u64..5);
    (proptest::collection::vec(table, 0..4), tokens).prop_map(|(tables, tokens)| {
        let tables: Vec<Value> = tables
            .into_iter()
            .map(|(name, operations, columns)| {
                let mut table = json!({"name": name, "operations": operations});
                if let Some(columns) = columns {
                    table["columns"] = json!(columns);
                }
                table
            })
            .collect();
        let mut grant = json!({
            "permissions": [{"type": "sallyport_postgres", "server": "crm", "tables": tables}],
            "budget": {"calls": 3}, "proof": "bearer",
        });
        if let Some(tokens) = tokens {
            grant["budget"]["tokens"] = json!(tokens);
        }
        serde_json::from_value(grant).unwrap()
    })
}

fn any_access() -> impl Strategy<Value = TableAccess> {
    use TableOperation::{Delete, Insert, Select, Update};
    (
        proptest::sample::select(vec!["a.x", "a.y", "b.x", "c"]),
        proptest::sample::select(vec![Select, Insert, Update, Delete]),
        proptest::option::of(proptest::sample::subsequence(vec!["p", "q", "r"], 0..3)),
    )
        .prop_map(|(table, operation, columns)| TableAccess {
            table: table.to_owned(),
            operation,
            columns: columns.map(|all| all.into_iter().map(str::to_owned).collect::<BTreeSet<_>>()),
        })
}

/// A grant, and one that is a part of it.
fn related() -> impl Strategy<Value = (Grant, Grant)> {
    (any_table_grant(), any::<u8>(), 0_u64..5).prop_map(|(wide, parts, tokens)| {
        let mut narrow = wide.clone();
        let tables = std::mem::take(&mut narrow.permissions[0].tables);
        let kept = tables.into_iter().enumerate();
        narrow.permissions[0].tables = kept
            .filter(|(at, _)| parts & (1 << at) != 0)
            .map(|(_, mut table)| {
                if parts & 16 != 0 && table.operations.len() > 1 {
                    table.operations.pop_last();
                }
                if parts & 32 != 0 {
                    table.columns.get_or_insert_default().pop_first();
                }
                table
            })
            .collect();
        narrow.budget.tokens = Some(wide.budget.tokens.map_or(tokens, |most| most.min(tokens)));
        (wide, narrow)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn narrowing_tables_never_widens(
        (wide, narrow) in prop_oneof![related(), (any_table_grant(), any_table_grant())],
        statements in proptest::collection::vec((proptest::collection::vec(any_access(), 1..3), 0_u64..3), 1..6),
    ) {
        if covers(&wide, &narrow) {
            let scene = |grant: &Grant| Scene { grant: CompiledGrant::new(grant), ..Scene::new() };
            let (mut wider, mut narrower) = (scene(&wide), scene(&narrow));
            for (accesses, tokens) in statements {
                let expected = Spent { tokens, ..Spent::default() };
                if narrower.decide("crm", query(accesses.clone()), expected).is_permit() {
                    prop_assert!(wider.decide("crm", query(accesses), expected).is_permit());
                }
            }
        }
    }

    #[test]
    fn a_part_of_a_grant_is_covered_by_it((wide, narrow) in related()) {
        prop_assert!(covers(&wide, &narrow));
    }
}
