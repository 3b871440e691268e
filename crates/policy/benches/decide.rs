//! What a decision costs, and what it does not depend on: the number of policies, of permissions in
//! the grant, and of agents.
//!
//! `decide/policies` beside `authorizer/policies` gives the ratio against Cedar's own authorizer over
//! the whole set, on the same request in the same run. `new-agent` decides for an agent that was not
//! seen before, so nothing of the request is prepared.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use cedar_policy::{Authorizer, Context, Entities, EntityUid, PolicySet, Request};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use model::{
    Action, AgentName, DecisionId, Grant, InstanceId, Lifecycle, Operation, Proof, ServerName,
    Task, TaskId, TaskStatus,
};
use policy::{
    AgentFacts, Attempt, Caller, CompiledGrant, Listed, Policies, ServerFacts, Usage, World,
    decide, may_list,
};
use serde_json::json;

/// The allocator of the binary. With the system's, a decision takes longer after many policies were
/// compiled, though it does nothing more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [usize; 3] = [1, 100, 10_000];

/// One policy that permits the request, and the rest about other agents and servers.
fn policy_text(count: usize) -> String {
    let mut text = String::from(
        "permit(principal == Sallyport::Agent::\"agent-0\", action, resource in Sallyport::Server::\"files\");\n",
    );
    for at in 1..count {
        let effect = if at % 10 == 0 { "forbid" } else { "permit" };
        writeln!(
            text,
            "{effect}(principal == Sallyport::Agent::\"agent-{at}\", action, resource in Sallyport::Segment::\"zone-{at}\");",
        )
        .expect("writing to text does not fail");
    }
    text
}

fn agent(at: usize) -> AgentName {
    AgentName::parse(&format!("agent-{at}")).expect("a label")
}

fn server(text: &str) -> ServerName {
    ServerName::parse(text).expect("a label")
}

fn world(policies: &str, agents: usize) -> World {
    let policies =
        Policies::compile(&[("bench.cedar".into(), policies.to_owned())]).expect("valid");
    let facts = AgentFacts {
        lifecycle: Lifecycle::Active,
        segment: Some("support".parse().expect("a label")),
        sponsor: "ada@example.org".to_owned(),
    };
    let servers = BTreeMap::from([(
        server("files"),
        ServerFacts {
            segment: Some("core".parse().expect("a label")),
            enabled: true,
        },
    )]);
    World::new(Arc::new(policies))
        .with_servers(servers)
        .with_agents((0..agents).map(|at| (agent(at), facts.clone())))
}

/// A grant with this many permissions; the one that is used comes last.
fn grant(permissions: usize, one_server: bool) -> Grant {
    let mut all: Vec<_> = (1..permissions)
        .map(|at| {
            let server = if one_server { "files".to_owned() } else { format!("other-{at}") };
            json!({"type": "sallyport_mcp", "server": server,
                "tools": [{"name": format!("tool_{at}"), "arguments": {"path": {"below": format!("/srv/{at}")}}}]})
        })
        .collect();
    all.push(json!({"type": "sallyport_mcp", "server": "files",
        "tools": [{"name": "read_text_file", "arguments": {"path": {"below": "/srv/tickets/4711"}}}]}));
    let grant = json!({"permissions": all, "budget": {"calls": 1_000_000}, "proof": "dpop"});
    serde_json::from_value(grant).expect("a grant")
}

/// A task at work.
struct Work {
    task: Task,
    grant: CompiledGrant,
    usage: Usage,
    instance: InstanceId,
    action: Action,
    risk: u8,
}

impl Work {
    fn new(agent: AgentName, grant: Grant) -> Self {
        let arguments = json!({"path": "/srv/tickets/4711/notes/today.txt"});
        Self {
            grant: CompiledGrant::new(&grant),
            usage: Usage::default(),
            risk: 0,
            instance: InstanceId::new(Timestamp::UNIX_EPOCH, [0; 10]),
            action: Action {
                server: server("files"),
                method: "tools/call".to_owned(),
                operation: Operation::CallTool {
                    tool: "read_text_file".to_owned(),
                    arguments: arguments.as_object().expect("an object").clone(),
                },
                expected: model::Spent::default(),
            },
            task: Task {
                id: TaskId::new(Timestamp::UNIX_EPOCH, [0; 10]),
                agent,
                instance: None,
                parent: None,
                template: "ticket".parse().expect("a label"),
                parameters: BTreeMap::new(),
                purpose: "Answer ticket 4711 about a lost parcel".to_owned(),
                grant,
                opened_at: Timestamp::UNIX_EPOCH,
                expires_at: Timestamp::MAX,
                status: TaskStatus::Open,
                ended_at: None,
                ended_because: None,
            },
        }
    }

    fn caller<'a>(&'a self, agent: &'a AgentName) -> Caller<'a> {
        Caller {
            agent,
            instance: &self.instance,
            proof: Proof::Dpop,
            risk: self.risk,
        }
    }

    fn permitted(&self, world: &World) -> bool {
        decide(
            world,
            &Attempt {
                caller: self.caller(&self.task.agent),
                task: &self.task,
                grant: &self.grant,
                usage: &self.usage,
                action: &self.action,
                caution: policy::Caution::default(),
                now: Timestamp::UNIX_EPOCH,
                id: DecisionId::new(Timestamp::UNIX_EPOCH, [0; 10]),
            },
        )
        .is_permit()
    }
}

fn policies(c: &mut Criterion) {
    let work = Work::new(agent(0), grant(1, false));
    let mut group = c.benchmark_group("decide/policies");
    for size in SIZES {
        let world = world(&policy_text(size), 1);
        assert!(work.permitted(&world));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| black_box(work.permitted(black_box(&world))));
        });
    }
    group.finish();
}

/// Cedar alone, over all policies, with everything of the request made beforehand.
fn authorizer(c: &mut Criterion) {
    let uid = |text: &str| text.parse::<EntityUid>().expect("an entity");
    let entity = |kind: &str, id: &str, attrs, parent: &str, parent_id: &str| {
        json!({"uid": {"type": format!("Sallyport::{kind}"), "id": id}, "attrs": attrs,
            "parents": [{"type": format!("Sallyport::{parent}"), "id": parent_id}]})
    };
    let entities = json!([
        entity(
            "Agent",
            "agent-0",
            json!({"name": "agent-0", "sponsor": "ada@example.org"}),
            "Segment",
            "support"
        ),
        entity("Server", "files", json!({}), "Segment", "core"),
        entity(
            "Tool",
            "files/read_text_file",
            json!({"name": "read_text_file"}),
            "Server",
            "files"
        ),
    ]);
    let entities = Entities::from_json_value(entities, None).expect("entities");
    let request = Request::new(
        uid("Sallyport::Agent::\"agent-0\""),
        uid("Sallyport::Action::\"call_tool\""),
        uid("Sallyport::Tool::\"files/read_text_file\""),
        Context::empty(),
        None,
    )
    .expect("a request");
    let authorizer = Authorizer::new();
    let mut group = c.benchmark_group("authorizer/policies");
    for size in SIZES {
        let set: PolicySet = policy_text(size).parse().expect("policies");
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| black_box(authorizer.is_authorized(&request, black_box(&set), &entities)));
        });
    }
    group.finish();
}

fn permissions(c: &mut Criterion) {
    let world = world(&policy_text(1), 1);
    for (name, one_server) in [
        ("decide/permissions", false),
        ("decide/permissions-at-one-server", true),
    ] {
        let mut group = c.benchmark_group(name);
        for size in [1, 100, 1_000] {
            let work = Work::new(agent(0), grant(size, one_server));
            assert!(work.permitted(&world));
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter(|| black_box(work.permitted(black_box(&world))));
            });
        }
        group.finish();
    }
}

fn agents(c: &mut Criterion) {
    const AGENTS: usize = 20_000;
    let world = world("permit(principal, action, resource);", AGENTS);
    let works: Vec<Work> = (0..AGENTS)
        .map(|at| Work::new(agent(at), grant(1, false)))
        .collect();
    let mut next = 0;
    c.bench_function("decide/new-agent", |b| {
        b.iter(|| {
            next = (next + 1) % AGENTS;
            black_box(works[next].permitted(&world))
        });
    });
}

/// One whose agent looks bad: its context is made anew for each decision.
fn risky(c: &mut Criterion) {
    let world = world(&policy_text(100), 1);
    let mut work = Work::new(agent(0), grant(1, false));
    let mut group = c.benchmark_group("decide/risk");
    for risk in [0, 42] {
        work.risk = risk;
        assert!(work.permitted(&world));
        group.bench_function(BenchmarkId::from_parameter(risk), |b| {
            b.iter(|| black_box(work.permitted(black_box(&world))));
        });
    }
    group.finish();
}

fn listing(c: &mut Criterion) {
    let world = world(&policy_text(100), 1);
    let work = Work::new(agent(0), grant(1, false));
    let files = server("files");
    c.bench_function("may_list", |b| {
        b.iter(|| {
            let caller = work.caller(&work.task.agent);
            let item = Listed::Tool(black_box("read_text_file"));
            black_box(may_list(
                &world,
                &caller,
                &work.task,
                &work.grant,
                &files,
                item,
                Timestamp::UNIX_EPOCH,
            ))
        });
    });
}

criterion_group!(
    benches,
    policies,
    authorizer,
    permissions,
    agents,
    risky,
    listing
);
criterion_main!(benches);
