//! Agents that work as usual, and agents that do not; and attacks on what is known of them.

use jiff::Timestamp;
use model::record::Record;
use model::{AgentName, DecisionId, InstanceId, ServerName, TaskId};
use monitor::Finding;
use monitor::behaviour::{Behaviour, Label, Settings};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A log that is being written.
struct Log {
    behaviour: Behaviour,
    second: i64,
    count: u64,
    task: TaskId,
    agent: AgentName,
    found: Vec<Finding>,
}

/// Payroll is sensitive, mail leaves.
fn settings() -> Settings {
    let mut settings = Settings::default();
    for (server, sensitive, external) in [("payroll", true, false), ("mail", false, true)] {
        let label = Label {
            sensitive,
            external,
        };
        settings
            .labels
            .0
            .insert(ServerName::parse(server).expect("a name"), label);
    }
    settings
}

impl Log {
    fn new() -> Self {
        Self {
            behaviour: Behaviour::new(settings()),
            // A Monday at 9 h UTC.
            second: 1_790_000_000 - 1_790_000_000 % 86_400 + 9 * 3_600,
            count: 0,
            task: TaskId::new(Timestamp::UNIX_EPOCH, [0; 10]),
            agent: AgentName::parse("triage").expect("a name"),
            found: Vec::new(),
        }
    }

    fn random(&mut self) -> [u8; 10] {
        self.count += 1;
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.count.to_be_bytes());
        bytes
    }

    /// Takes in a record as it is in the log.
    fn put(&mut self, mut record: Value) {
        let time = Timestamp::from_second(self.second).expect("a time");
        record["time"] = json!(time);
        let record: Record = serde_json::from_value(record).expect("a record");
        self.found.extend(self.behaviour.observe(&record));
    }

    fn open(&mut self) {
        let time = Timestamp::from_second(self.second).expect("a time");
        self.task = TaskId::new(time, self.random());
        let record = Record::change(time, "operator", "task.opened", self.task.to_string())
            .with("agent", self.agent.as_str())
            .with("template", "triage-issues");
        self.found.extend(self.behaviour.observe(&record));
    }

    fn complete(&mut self) {
        let time = Timestamp::from_second(self.second).expect("a time");
        let record = Record::change(time, "operator", "task.completed", self.task.to_string());
        self.found.extend(self.behaviour.observe(&record));
    }

    fn call(&mut self, server: &str, tool: &str, says: u64, bytes: u64) {
        let decision = DecisionId::new(Timestamp::UNIX_EPOCH, self.random());
        self.intent(decision, server, tool, says, true);
        self.put(json!({
            "event": "result", "decision": decision, "task": self.task, "ended": "answered",
            "micros": 1, "bytes": bytes,
        }));
    }

    fn intent(
        &mut self,
        decision: DecisionId,
        server: &str,
        tool: &str,
        says: u64,
        permitted: bool,
    ) {
        let mut intent = json!({
            "event": "intent", "decision": decision, "agent": self.agent,
            "instance": InstanceId::new(Timestamp::UNIX_EPOCH, [7; 10]), "proof": "dpop", "task": self.task,
            "server": server, "method": "tools/call", "target": tool, "arguments": {"id": says},
            "arguments_hash": format!("{says:x}"), "permitted": permitted, "policy_version": "1",
        });
        if !permitted {
            intent["denial"] = json!({"rule": "not_granted", "reason": "no", "remedy": "ask"});
        }
        self.put(intent);
    }

    /// Ten tasks on each of as many days: list, read, read, comment.
    fn usual_days(&mut self, days: i64) {
        for _ in 0..days {
            let morning = self.second;
            for task in 0..10 {
                self.second = morning + task * 600;
                self.open();
                for (at, tool) in ["list", "read", "read", "comment"].iter().enumerate() {
                    self.second += 20;
                    let says = self.count + at as u64;
                    self.call("issues", tool, says, 2_000);
                }
                self.complete();
            }
            self.second = morning + 86_400;
        }
    }

    fn rules(&mut self) -> Vec<String> {
        self.found.drain(..).map(|finding| finding.rule).collect()
    }
}

#[test]
fn usual_work_is_not_odd() {
    let mut log = Log::new();
    log.usual_days(12);
    assert_eq!(log.rules(), Vec::<String>::new());
}

#[test]
fn a_new_agent_only_learns() {
    let mut log = Log::new();
    log.open();
    for n in 0..40 {
        log.call(&format!("server-{n}"), "anything", n, 1_000_000);
    }
    assert_eq!(log.rules(), Vec::<String>::new());
}

#[test]
fn what_was_never_done_is_told_in_words() {
    let mut log = Log::new();
    log.usual_days(3);
    log.open();
    log.call("payroll", "salaries", 1, 100);
    assert_eq!(log.found.len(), 1, "{:?}", log.found);
    assert_eq!(log.found[0].rule, "first-seen-server");
    let says = &log.found[0].explanation;
    assert!(
        says.starts_with("First time that agent triage reaches payroll for `triage-issues`"),
        "{says}"
    );
}

#[test]
fn volume_and_flow_are_told() {
    let mut log = Log::new();
    log.usual_days(3);
    log.open();
    log.call("issues", "list", 1, 43 * 16_000 + 400_000);
    assert!(log.rules().contains(&"volume-burst".to_owned()));
    log.call("payroll", "salaries", 2, 10);
    log.second += 12;
    log.call("mail", "send", 3, 10);
    let flow = log
        .found
        .iter()
        .find(|finding| finding.rule == "sensitive-data-leaves");
    let says = &flow.expect("the flow is seen").explanation;
    assert!(
        says.contains("`salaries` of payroll") && says.contains("12 seconds later"),
        "{says}"
    );
}

#[test]
fn hours_loops_and_denials_are_told() {
    let mut log = Log::new();
    log.usual_days(8);
    log.second += 16 * 3_600;
    log.open();
    for _ in 0..10 {
        log.call("issues", "read", 5, 100);
    }
    let rules = log.rules();
    assert!(
        rules.contains(&"unusual-hour".to_owned()) && rules.contains(&"loop".to_owned()),
        "{rules:?}"
    );
    for n in 0..40 {
        let decision = DecisionId::new(Timestamp::UNIX_EPOCH, log.random());
        log.intent(decision, "issues", "delete", n, false);
    }
    let rules = log.rules();
    assert_eq!(
        rules
            .iter()
            .filter(|rule| *rule == "denial-pressure")
            .count(),
        1,
        "{rules:?}"
    );
}

#[test]
fn refusals_and_spreading_are_told() {
    let mut log = Log::new();
    for _ in 0..200 {
        log.put(json!({
            "event": "refusal", "endpoint": "/oauth/token",
            "denial": {"rule": "unauthenticated", "reason": "no", "remedy": "no"},
        }));
    }
    assert_eq!(log.rules(), ["refusal-pressure"]);
    // As many in one record, since they came too fast for one each.
    log.put(json!({
        "event": "refusal", "endpoint": "/mcp/files", "times": 200, "since": "2026-01-01T00:00:00Z",
        "denial": {"rule": "unauthenticated", "reason": "no", "remedy": "no"},
    }));
    assert_eq!(log.rules(), ["refusal-pressure"]);
    log.put(json!({
        "event": "refusal", "endpoint": "/mcp/files", "times": 200, "agent": "triage",
        "denial": {"rule": "rate_limited", "reason": "too fast", "remedy": "wait"},
    }));
    assert_eq!(log.rules(), ["rate-pressure"]);
    for agent in ["a", "b", "c", "d"] {
        log.agent = AgentName::parse(agent).expect("a name");
        log.open();
        log.second += 30;
        log.call("wiki", "edit", 1, 10);
    }
    assert_eq!(log.rules(), ["fan-out"]);
}

#[test]
fn creeping_scope_is_a_trend() {
    let mut log = Log::new();
    log.usual_days(3);
    for n in 0..10 {
        log.open();
        log.call("issues", "list", n, 100);
        log.call("issues", &format!("new-tool-{n}"), n, 100);
        log.complete();
        log.second += 600;
    }
    let rules = log.rules();
    assert_eq!(
        rules.iter().filter(|rule| *rule == "scope-creep").count(),
        1,
        "{rules:?}"
    );
}

#[test]
fn an_agent_that_is_slowly_led_to_do_more_is_told_of() {
    // Somebody who knows the baseline, and has the agent do a little more each day than the day before, so
    // that nothing is ever unusual.
    let mut log = Log::new();
    log.usual_days(10);
    log.rules();
    let mut bytes = 2_000.0;
    let mut told = Vec::new();
    for _ in 0..60 {
        let morning = log.second;
        for task in 0..10 {
            log.second = morning + task * 600;
            log.open();
            for (at, tool) in ["list", "read", "read", "comment"].iter().enumerate() {
                log.second += 20;
                let says = log.count + at as u64;
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                log.call("issues", tool, says, bytes as u64);
            }
            log.complete();
        }
        log.second = morning + 86_400;
        bytes *= 1.12;
        told.extend(log.rules());
        if bytes > 2_000.0 * 50.0 {
            break;
        }
    }
    assert!(
        !told.is_empty(),
        "fifty times the volume, and nobody was told"
    );
}

#[test]
fn one_new_thing_a_day_is_told_of_each_time() {
    // Nothing that is new becomes usual by being done once.
    let mut log = Log::new();
    log.usual_days(10);
    log.rules();
    for n in 0..5 {
        log.open();
        log.second += 20;
        log.call("issues", "list", n, 2_000);
        log.second += 20;
        log.call("payroll", &format!("salaries-{n}"), n, 2_000);
        log.complete();
        log.second += 86_400;
        let rules = log.rules();
        assert!(
            rules.iter().any(|rule| rule.starts_with("first-seen")),
            "day {n}: {rules:?}"
        );
    }
}

#[test]
fn a_flood_of_names_does_not_make_it_grow_or_forget() {
    let mut log = Log::new();
    log.usual_days(3);
    log.open();
    for n in 0..5_000 {
        log.call("issues", &format!("t{n}"), n, 10);
    }
    assert!(
        log.found.len() <= 64,
        "{} findings of one task",
        log.found.len()
    );
    let kept = serde_json::to_vec(&log.behaviour).expect("it can be kept");
    assert!(kept.len() < 1 << 20, "{} bytes", kept.len());
    log.rules();
    log.complete();
    log.second += 600;
    log.rules();
    log.open();
    log.call("issues", "list", 1, 100);
    let rules = log.rules();
    assert!(
        !rules.contains(&"first-seen-target".to_owned()),
        "what is usual was forgotten: {rules:?}"
    );
}

#[test]
fn what_is_known_can_be_kept_and_read_back() {
    let mut log = Log::new();
    log.usual_days(2);
    let kept = serde_json::to_string(&log.behaviour).expect("it can be kept");
    let read: Behaviour = serde_json::from_str(&kept).expect("it can be read");
    assert_eq!(read, log.behaviour);
}

#[test]
fn a_flood_of_odd_things_leaves_room_for_what_is_bad() {
    let mut log = Log::new();
    log.usual_days(3);
    log.open();
    // An agent that first makes noise, so that later nobody is told what it does then.
    for n in 0..500 {
        log.call("issues", &format!("noise-{n}"), n, 10);
    }
    log.rules();
    log.call("payroll", "salaries", 1, 10);
    log.call("mail", "send", 2, 10);
    let rules = log.rules();
    assert!(
        rules.contains(&"sensitive-data-leaves".to_owned()),
        "{rules:?}"
    );
}

#[test]
fn delegating_does_not_part_reading_from_sending() {
    let mut log = Log::new();
    let whole = {
        log.open();
        log.task
    };
    let part_of = |log: &mut Log, tool: (&str, &str), says: u64| {
        let decision = DecisionId::new(Timestamp::UNIX_EPOCH, log.random());
        log.put(json!({
            "event": "intent", "decision": decision, "agent": log.agent,
            "instance": InstanceId::new(Timestamp::UNIX_EPOCH, [7; 10]), "proof": "dpop", "task": log.task,
            "server": tool.0, "method": "tools/call", "target": tool.1,
            "arguments_hash": format!("{says:x}"), "permitted": true, "policy_version": "1",
            "within": [{"task": whole, "permission": [0, null]}],
        }));
    };
    log.agent = AgentName::parse("reader").expect("a name");
    log.open();
    part_of(&mut log, ("payroll", "salaries"), 1);
    log.agent = AgentName::parse("sender").expect("a name");
    log.open();
    part_of(&mut log, ("mail", "send"), 2);
    let found: Vec<(String, String)> = log
        .found
        .drain(..)
        .map(|finding| {
            let agent = finding.subject.agent.expect("an agent");
            (finding.rule, agent.to_string())
        })
        .collect();
    assert_eq!(
        found,
        [("sensitive-data-leaves".to_owned(), "sender".to_owned())]
    );
}

#[test]
fn what_was_read_in_one_task_and_is_sent_in_another_is_told_once_a_day() {
    let mut log = Log::new();
    for _ in 0..20 {
        log.open();
        log.call("payroll", "salaries", 1, 10);
        log.complete();
        log.open();
        log.call("mail", "send", 2, 10);
        log.complete();
        log.second += 60;
    }
    assert_eq!(log.rules(), ["sensitive-data-may-leave"]);
}

#[test]
fn denials_are_not_excused_by_what_is_permitted_in_between() {
    let mut log = Log::new();
    log.open();
    for n in 0..60 {
        let decision = DecisionId::new(Timestamp::UNIX_EPOCH, log.random());
        log.intent(decision, "issues", "delete", n, false);
        for _ in 0..8 {
            log.call("issues", "list", n, 10);
        }
        log.second += 1;
    }
    let rules = log.rules();
    assert!(rules.contains(&"denial-pressure".to_owned()), "{rules:?}");
}

#[test]
fn parts_that_are_kept_one_by_one_make_the_whole() {
    let mut log = Log::new();
    let mut kept = std::collections::BTreeMap::new();
    let keep = |log: &mut Log, kept: &mut std::collections::BTreeMap<String, String>| {
        for part in log.behaviour.changed() {
            match log.behaviour.part(&part) {
                Some(text) => kept.insert(part.name(), text),
                None => kept.remove(&part.name()),
            };
        }
    };
    for _ in 0..3 {
        log.usual_days(1);
        log.open();
        log.call("payroll", "salaries", 1, 10);
        keep(&mut log, &mut kept);
    }
    assert!(log.behaviour.changed().is_empty(), "nothing is kept twice");
    assert!(kept.keys().all(|name| log.behaviour.has(name)));
    let parts = kept.clone();
    let (mut read, wrong) = Behaviour::restored(settings(), parts);
    assert!(wrong.is_empty(), "{wrong:?}");
    for name in kept.keys() {
        assert!(read.has(name), "{name}");
    }
    let (agent, template) = (log.agent.clone(), "triage-issues");
    assert_eq!(
        read.baseline(&agent, template),
        log.behaviour.baseline(&agent, template)
    );
    // What is known makes a difference: the same thing is no first time after a restart.
    std::mem::swap(&mut log.behaviour, &mut read);
    log.rules();
    log.complete();
    log.second += 600;
    log.open();
    log.call("issues", "list", 1, 100);
    assert_eq!(log.rules(), Vec::<String>::new());
}

#[test]
fn requests_for_approval_without_end_are_pressure() {
    let mut log = Log::new();
    for n in 0..8 {
        let time = Timestamp::from_second(log.second).expect("a time");
        let record = Record::change(time, "sallyport", "approval.requested", format!("apr_{n}"))
            .with("agent", "triage");
        log.found.extend(log.behaviour.observe(&record));
    }
    assert_eq!(log.rules(), ["approval-pressure"]);
}

#[test]
fn findings_lead_to_no_findings() {
    let mut log = Log::new();
    for n in 0..1_000 {
        log.put(json!({
            "event": "finding", "finding": n, "rule": "x", "severity": "critical", "agent": "triage",
            "explanation": "x", "origin": "done",
        }));
        log.put(json!({
            "event": "incident", "incident": n, "change": "opened", "severity": "critical",
            "agents": ["triage"], "findings": 1,
        }));
    }
    assert_eq!(log.rules(), Vec::<String>::new());
    assert!(log.behaviour.changed().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_is_logged_is_bounded(calls in proptest::collection::vec((0u8..4, 0u8..200, any::<u64>(), 0u32..100_000), 0..300)) {
        let mut log = Log::new();
        for (server, tool, bytes, seconds) in calls {
            if tool < 20 {
                log.open();
            }
            log.second += i64::from(seconds);
            log.call(["issues", "payroll", "mail", "x"][usize::from(server)], &format!("t{tool}"), u64::from(tool), bytes);
        }
        for finding in &log.found {
            prop_assert!(finding.explanation.len() < 700);
        }
    }
}
