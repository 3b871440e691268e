//! What following one record costs: reading it, and feeding it to the detectors of behaviour.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use model::record::Record;
use model::{DecisionId, InstanceId, TaskId};
use monitor::behaviour::{Behaviour, Settings};
use serde_json::json;

/// Agents that work at the same time.
const AGENTS: u32 = 200;

fn bytes(number: u32) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The records of a day's work of many agents, as they stand in the log: intents and results in turn.
fn records(count: u32) -> Vec<Vec<u8>> {
    let begin = 1_790_000_000;
    let tools = ["list", "read", "read", "comment", "search", "close"];
    (0..count)
        .map(|n| {
            let (action, agent) = (n / 2, n / 2 % AGENTS);
            let time = Timestamp::from_second(begin + i64::from(n / 100)).expect("a time");
            let decision = DecisionId::new(Timestamp::UNIX_EPOCH, bytes(action));
            let task = TaskId::new(Timestamp::UNIX_EPOCH, bytes(agent));
            let record = if n % 2 == 0 {
                json!({
                    "time": time, "event": "intent", "decision": decision,
                    "agent": format!("agent-{agent}"),
                    "instance": InstanceId::new(Timestamp::UNIX_EPOCH, bytes(agent)),
                    "proof": "dpop", "task": task, "server": "issues", "method": "tools/call",
                    "target": tools[(action / AGENTS) as usize % tools.len()],
                    "arguments": {"id": {"kind": "number"}, "text": {"kind": "text", "bytes": 120}},
                    "arguments_hash": format!("{action:064x}"), "permitted": true,
                    "policies": ["baseline/granted-actions"],
                    "policy_version": "0123456789abcdef0123456789abcdef", "permission": [0, 0],
                })
            } else {
                json!({
                    "time": time, "event": "result", "decision": decision, "task": task,
                    "ended": "answered", "micros": 1_234, "bytes": 2_048,
                    "hash": format!("{action:064x}"),
                })
            };
            serde_json::to_vec(&record).expect("a record")
        })
        .collect()
}

fn read(bytes: &[u8]) -> Record {
    serde_json::from_slice(bytes).expect("a record")
}

fn following(c: &mut Criterion) {
    let records = records(20_000);
    let mut group = c.benchmark_group("follow");
    group.throughput(Throughput::Elements(1));
    let mut next = 0;
    group.bench_function("read one record", |b| {
        b.iter(|| {
            next = (next + 1) % records.len();
            black_box(read(&records[next]))
        });
    });
    let mut behaviour = Behaviour::new(Settings::default());
    for record in &records {
        behaviour.observe(&read(record));
    }
    let parsed: Vec<Record> = records.iter().map(|record| read(record)).collect();
    group.bench_function("observe one record", |b| {
        b.iter(|| {
            next = (next + 1) % parsed.len();
            black_box(behaviour.observe(&parsed[next]))
        });
    });
    group.bench_function("read and observe one record", |b| {
        b.iter(|| {
            next = (next + 1) % records.len();
            black_box(behaviour.observe(&read(&records[next])))
        });
    });
    group.finish();
}

fn keeping(c: &mut Criterion) {
    let records = records(20_000);
    let mut behaviour = Behaviour::new(Settings::default());
    for record in &records {
        behaviour.observe(&read(record));
    }
    let changed = behaviour.changed();
    let mut group = c.benchmark_group("keep");
    group.throughput(Throughput::Elements(64));
    group.bench_function("write 64 parts", |b| {
        b.iter_batched(
            || changed.iter().take(64),
            |parts| {
                let texts = parts.filter_map(|part| behaviour.part(part));
                black_box(texts.map(|text| text.len()).sum::<usize>())
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, following, keeping);
criterion_main!(benches);
