//! What an action costs does not depend on how many tasks are open: finding the caller's task and
//! deciding an action of it, among 1, 1,000 and 1,000,000 open tasks. The first is the baseline.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use audit::{AuditLog, Options};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use gateway::live::Live;
use jiff::Timestamp;
use model::{
    Action, AgentName, DecisionId, Grant, InstanceId, Lifecycle, Operation, Proof, Task, TaskId,
    TaskStatus,
};
use policy::{AgentFacts, Attempt, Caller, Policies, ServerFacts, Usage, World, decide};
use serde_json::json;

/// The allocator of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const OPEN: [u32; 3] = [1, 1_000, 1_000_000];
/// Tasks whose actions are decided in turn, so that the processor's caches do not hold only one.
const ACTIVE: u32 = 64;

fn agent() -> AgentName {
    AgentName::parse("support-1").expect("a label")
}

fn world() -> World {
    let text = "permit(principal in Sallyport::Segment::\"support\", action, resource);";
    let policies = Policies::compile(&[("bench.cedar".into(), text.to_owned())]).expect("valid");
    let facts = AgentFacts {
        lifecycle: Lifecycle::Active,
        segment: Some("support".parse().expect("a label")),
        sponsor: "ada@example.org".to_owned(),
    };
    let server = ServerFacts {
        segment: None,
        enabled: true,
    };
    World::new(Arc::new(policies))
        .with_servers(BTreeMap::from([(
            "files".parse().expect("a label"),
            server,
        )]))
        .with_agents([(agent(), facts)])
}

fn id(number: u32) -> TaskId {
    let mut random = [0; 10];
    // Spread, as random ids are.
    let spread = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    random[..8].copy_from_slice(&spread.to_be_bytes());
    TaskId::new(Timestamp::UNIX_EPOCH, random)
}

fn task(number: u32) -> Task {
    let grant: Grant = serde_json::from_value(json!({
        "permissions": [{ "type": "sallyport_mcp", "server": "files", "tools": [{
            "name": "read_text_file",
            "arguments": { "path": { "below": format!("/srv/tickets/{number}") } } }] }],
        "budget": { "calls": 1_000_000 },
        "proof": "dpop",
    }))
    .expect("a grant");
    Task {
        id: id(number),
        agent: agent(),
        instance: None,
        parent: None,
        template: "ticket".parse().expect("a label"),
        parameters: BTreeMap::new(),
        purpose: format!("Answer ticket {number}"),
        grant,
        opened_at: Timestamp::UNIX_EPOCH,
        expires_at: Timestamp::MAX,
        status: TaskStatus::Open,
        ended_at: None,
        ended_because: None,
    }
}

fn action(number: u32) -> Action {
    let arguments = json!({ "path": format!("/srv/tickets/{number}/notes.txt") });
    Action {
        server: "files".parse().expect("a label"),
        method: "tools/call".to_owned(),
        operation: Operation::CallTool {
            tool: "read_text_file".to_owned(),
            arguments: arguments.as_object().expect("an object").clone(),
        },
        expected: model::Spent::default(),
    }
}

fn among_open_tasks(criterion: &mut Criterion) {
    let home = tempfile::tempdir().expect("a folder");
    let options = Options::new("example.org/bench", home.path().join("log.key"));
    let (audit, _) = AuditLog::open(&home.path().join("log"), options).expect("a log");
    let instance = InstanceId::new(Timestamp::UNIX_EPOCH, [0; 10]);
    let mut group = criterion.benchmark_group("decide-among-open-tasks");
    for open in OPEN {
        let live = Live::new(world(), Arc::clone(&audit));
        for number in 0..open {
            live.open(task(number), &[7; 32], Usage::default());
        }
        let active: Vec<(TaskId, Action)> = (0..open.min(ACTIVE))
            .map(|at| at * (open / open.min(ACTIVE)))
            .map(|number| (id(number), action(number)))
            .collect();
        let mut turn = active.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(open), |bench| {
            bench.iter(|| {
                let (id, action) = turn.next().expect("a cycle does not end");
                let task = live.task(id).expect("it is open");
                let world = live.world();
                let usage = task.usage();
                let attempt = Attempt {
                    caller: Caller {
                        agent: &task.task().agent,
                        instance: &instance,
                        proof: Proof::Dpop,
                        risk: task.risk(),
                    },
                    task: task.task(),
                    grant: task.grant(),
                    usage: &usage,
                    action,
                    caution: policy::Caution::default(),
                    now: Timestamp::UNIX_EPOCH,
                    id: DecisionId::new(Timestamp::UNIX_EPOCH, [0; 10]),
                };
                let decision = decide(&world, &attempt);
                assert!(decision.is_permit());
                black_box(decision)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, among_open_tasks);
criterion_main!(benches);
