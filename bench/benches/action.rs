//! What of an action's cost is inspection and what is labels, at results of 4 KiB of several kinds: the decision alone,
//! the look at what is asked and at what comes back, and noting where values came from, each by itself and all of them
//! one after the other. Each result differs from the one before, as they do in life, and a task's ledger begins anew
//! before it is full. What else an action costs (parsing, durable records, the network) `bench/assume-breach` measures.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use audit::{AuditLog, Options};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gateway::caller::{Authenticator, Caller, Principal};
use gateway::inspection::{About, Inspection, Verdict, What};
use gateway::live::Live;
use gateway::metrics::Metrics;
use gateway::pipeline::Pipeline;
use gateway::redaction::Redactor;
use identity::{KeyRing, dpop};
use jiff::Timestamp;
use model::{
    Action, AgentName, DecisionId, Grant, InstanceId, Lifecycle, Operation, Proof, ServerName,
    Task, TaskId, TaskStatus,
};
use policy::{AgentFacts, Attempt, Policies, ServerFacts, Usage, World, decide};
use provenance::{Annotations, Called, Ledger};
use sallyport_bench::contents::Kind;
use serde_json::{Map, Value, json};

/// The allocator of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BYTES: usize = 4 << 10;
/// Results before they come again.
const RESULTS: u64 = 64;
const NOTES: &str = r#"
    [tools.read_text_file]
    reads = true
    queries = { path = "path" }
    [tools.send_email]
    sinks = { to = "address" }
"#;

fn server() -> ServerName {
    ServerName::parse("files").expect("a label")
}

fn agent() -> AgentName {
    AgentName::parse("support-1").expect("a label")
}

/// A pipeline with one agent and one open task, and who calls.
struct Scene {
    pipeline: Pipeline,
    caller: Caller,
    action: Action,
    annotations: Annotations,
    _home: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let options = Options::new("example.org/bench", home.path().join("log.key"));
        let (audit, _) = AuditLog::open(&home.path().join("log"), options).expect("a log");
        let text = "permit(principal in Sallyport::Segment::\"support\", action, resource);";
        let policies =
            Policies::compile(&[("bench.cedar".into(), text.to_owned())]).expect("valid");
        let facts = AgentFacts {
            lifecycle: Lifecycle::Active,
            segment: Some("support".parse().expect("a label")),
            sponsor: "ada@example.org".to_owned(),
        };
        let facts_of_server = ServerFacts {
            segment: None,
            enabled: true,
        };
        let world = World::new(Arc::new(policies))
            .with_servers(BTreeMap::from([(server(), facts_of_server)]))
            .with_agents([(agent(), facts)]);
        let live = Arc::new(Live::new(world, audit));
        let task = task();
        let principal = Principal {
            instance: InstanceId::new(Timestamp::UNIX_EPOCH, [0; 10]),
            task: task.id,
        };
        live.open(task, &[7; 32], Usage::default());
        let keys = KeyRing::open(&home.path().join("keys"), Timestamp::now()).expect("keys");
        let issuer = "http://127.0.0.1:8600".to_owned();
        let authenticator = Authenticator::new(Arc::new(keys), issuer, dpop::Proofs::new(1_000));
        let redactor =
            Redactor::new(&model::config::Redaction::default()).expect("its patterns are sound");
        let pipeline = Pipeline::new(live, authenticator, redactor, Arc::new(Metrics::default()));
        Self {
            caller: pipeline
                .expecting(principal, Proof::Bearer)
                .expect("the task is open"),
            pipeline,
            action: action(),
            annotations: Annotations::parse(Path::new("annotations/files.toml"), NOTES)
                .expect("constant"),
            _home: home,
        }
    }

    fn decide(&self) {
        let live = self.pipeline.live();
        let (world, usage) = (live.world(), Usage::default());
        let attempt = Attempt {
            caller: self.caller.facts(),
            task: self.caller.task.task(),
            grant: self.caller.task.grant(),
            usage: &usage,
            action: &self.action,
            caution: policy::Caution::default(),
            now: Timestamp::UNIX_EPOCH,
            id: id(),
        };
        let decision = decide(&world, &attempt);
        assert!(decision.is_permit());
        black_box(decision);
    }

    fn inspect(&self, result: &[u8]) {
        let inspection: &Inspection = self.pipeline.inspection();
        assert!(
            inspection
                .action(&self.caller, &self.action, id())
                .is_none()
        );
        let about = About {
            what: What::ToolResult,
            caller: &self.caller,
            server: &self.action.server,
            target: "read_text_file",
            decision: Some(id()),
        };
        let verdict = inspection.json(&about, black_box(result));
        assert_eq!(verdict, Verdict::Pass);
    }

    fn label(&self, ledger: &mut Ledger, result: &[u8]) {
        let Operation::CallTool { tool, arguments } = &self.action.operation else {
            return;
        };
        black_box(ledger.check(&self.annotations, tool, arguments));
        let result: Value = serde_json::from_slice(black_box(result)).expect("JSON");
        let called = Called::new(self.action.server.as_str(), tool, arguments);
        ledger.note_result(Some(&self.annotations), &called, &result);
    }
}

fn id() -> DecisionId {
    DecisionId::new(Timestamp::UNIX_EPOCH, [0; 10])
}

fn task() -> Task {
    let grant: Grant = serde_json::from_value(json!({
        "permissions": [{ "type": "sallyport_mcp", "server": "files", "tools": [{
            "name": "read_text_file",
            "arguments": { "path": { "below": "/srv/tickets/4711" } } }] }],
        "budget": { "calls": 1_000_000 },
        "proof": "bearer",
    }))
    .expect("a grant");
    Task {
        id: TaskId::new(Timestamp::UNIX_EPOCH, [0; 10]),
        agent: agent(),
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
    }
}

fn action() -> Action {
    let arguments: Map<String, Value> =
        serde_json::from_value(json!({ "path": "/srv/tickets/4711/notes.txt" }))
            .expect("an object");
    let operation = Operation::CallTool {
        tool: "read_text_file".to_owned(),
        arguments,
    };
    Action::new(server(), "tools/call".to_owned(), operation)
}

/// Results of a tool as they come.
fn results(kind: Kind) -> Vec<Vec<u8>> {
    let result =
        |number| json!({ "content": [{ "type": "text", "text": kind.text(number, BYTES) }] });
    (0..RESULTS)
        .map(|number| result(number).to_string().into_bytes())
        .collect()
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::new();
    ledger.note_input(
        "Answer ticket 4711 about a lost parcel",
        &BTreeMap::new(),
        None,
    );
    ledger
}

fn of_an_action(criterion: &mut Criterion) {
    let scene = Scene::new();
    for kind in Kind::ALL {
        let results = results(kind);
        let mut group = criterion.benchmark_group(format!("4 KiB of {}", kind.as_str()));
        group.throughput(Throughput::Bytes(BYTES as u64));
        let mut turn = results.iter().cycle();
        let mut next = || turn.next().expect("a cycle does not end");
        group.bench_function("decide", |bench| bench.iter(|| scene.decide()));
        group.bench_function("inspect", |bench| bench.iter(|| scene.inspect(next())));
        let mut known = ledger();
        let mut noted = 0;
        let mut label = |result: &[u8]| {
            noted += 1;
            if noted % RESULTS == 0 {
                known = ledger();
            }
            scene.label(&mut known, result);
        };
        group.bench_function("label", |bench| bench.iter(|| label(next())));
        group.bench_function("decide, inspect and label", |bench| {
            bench.iter(|| {
                let result = next();
                scene.decide();
                scene.inspect(result);
                label(result);
            });
        });
        group.finish();
    }
}

criterion_group!(benches, of_an_action);
criterion_main!(benches);
