use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::playbook::START_LINE;
use crate::run::{About, Answer, NotWaiting};

const UUID: &str = "00000000-0000-4000-8000-00000000000";

fn id(kind: &str, n: u8) -> String {
    format!("{kind}--{UUID}{n}")
}

/// A step that tells what it is called, and goes on.
fn tell(name: &str, next: String) -> Value {
    let content = json!({ "action": "notify", "channel": "soc", "text": name }).to_string();
    act(name, &content, next)
}

fn act(name: &str, content: &str, next: String) -> Value {
    json!({
        "type": "action", "name": name, "agent": id("security-category", 9), "on_completion": next,
        "commands": [{ "type": "http-api", "command": START_LINE, "content": content }],
    })
}

fn playbook(steps: Value, exception: Option<String>) -> Playbook {
    let mut document = json!({
        "type": "playbook", "spec_version": "cacao-2.0", "id": id("playbook", 0), "name": "Test",
        "created_by": id("identity", 0), "created": "2026-11-24T12:00:00.000Z",
        "modified": "2026-11-24T12:00:00.000Z",
        "playbook_variables": {
            "__agent__": { "type": "string", "external": true },
            "__severity__": { "type": "string", "external": true },
            "__evidence__": { "type": "string" },
        },
        "workflow_start": id("start", 1), "workflow": steps,
        "agent_definitions": {
            id("security-category", 9): { "type": "security-category", "name": "Sallyport" },
            id("individual", 8): { "type": "individual", "name": "Analyst" },
        },
    });
    if let Some(exception) = exception {
        document["workflow_exception"] = exception.into();
    }
    Playbook::parse(&document.to_string()).unwrap_or_else(|wrong| panic!("{wrong:?}"))
}

fn begin(playbook: &Playbook, severity: &str) -> Run {
    let about = About {
        agent: Some("triage".parse().unwrap()),
        severity: Some(severity.to_owned()),
        ..About::default()
    };
    let now = Timestamp::UNIX_EPOCH;
    Run::begin(
        "run".to_owned(),
        "test",
        playbook,
        about,
        "operator".to_owned(),
        false,
        now,
    )
}

fn automatic() -> Modes {
    Modes {
        default: Mode::Automatic,
        by_act: BTreeMap::new(),
    }
}

/// Carries out all that can be, each step well but for those that are named, from the text and back
/// between any two; returns the names of what was done.
fn carry(run: &mut Run, playbook: &Playbook, modes: &Modes, failing: &[&str]) -> Vec<String> {
    let now = Timestamp::UNIX_EPOCH;
    let mut done = Vec::new();
    loop {
        run.go_on(playbook, modes, now);
        *run = serde_json::from_str(&serde_json::to_string(run).unwrap()).unwrap();
        let Some(number) = run.due(now) else {
            return done;
        };
        run.set_begun(number);
        let name = run.visits[number].name.clone();
        let outcome = match failing.contains(&name.as_str()) {
            true => Err("it broke".to_owned()),
            false => Ok(format!("{name} is done")),
        };
        run.carried_out(number, outcome);
        done.push(name);
    }
}

#[test]
fn branches_are_gone_through_and_come_back() {
    let steps = json!({
        id("start", 1): { "type": "start", "on_completion": id("parallel", 2) },
        id("parallel", 2): {
            "type": "parallel", "next_steps": [id("action", 3), id("if-condition", 4)],
            "on_completion": id("action", 8),
        },
        id("action", 3): tell("one", id("end", 3)),
        id("end", 3): { "type": "end" },
        id("if-condition", 4): {
            "type": "if-condition", "condition": "__severity__:value IN ('high')",
            "on_true": id("action", 5), "on_false": id("action", 6), "on_completion": id("end", 4),
        },
        id("end", 4): { "type": "end" },
        id("action", 5): tell("high", id("end", 5)),
        id("end", 5): { "type": "end" },
        id("action", 6): tell("other", id("end", 6)),
        id("end", 6): { "type": "end" },
        id("action", 8): tell("last", id("end", 8)),
        id("end", 8): { "type": "end" },
    });
    let playbook = playbook(steps, None);
    for (severity, branch) in [("high", "high"), ("low", "other")] {
        let mut run = begin(&playbook, severity);
        let done = carry(&mut run, &playbook, &automatic(), &[]);
        assert_eq!(done, ["one", branch, "last"]);
        assert_eq!(run.state, State::Done);
    }
}

#[test]
fn failing_goes_where_the_playbook_says() {
    let mut risky = tell("risky", String::new());
    risky.as_object_mut().unwrap().remove("on_completion");
    risky["on_success"] = id("end", 4).into();
    let with = |on_failure: bool, exception: bool| {
        let mut risky = risky.clone();
        let mut steps = json!({
            id("start", 1): { "type": "start", "on_completion": id("action", 2) },
            id("end", 4): { "type": "end" },
        });
        if on_failure {
            risky["on_failure"] = id("action", 3).into();
            steps[id("action", 3)] = tell("instead", id("end", 5));
            steps[id("end", 5)] = json!({ "type": "end" });
        }
        if exception {
            steps[id("action", 6)] = tell("sorry", id("end", 6));
            steps[id("end", 6)] = json!({ "type": "end" });
        }
        steps[id("action", 2)] = risky;
        let playbook = playbook(steps, exception.then(|| id("action", 6)));
        let mut run = begin(&playbook, "high");
        let done = carry(&mut run, &playbook, &automatic(), &["risky"]);
        (done.join(" "), run.state)
    };
    assert_eq!(with(false, false), ("risky".to_owned(), State::Failed));
    assert_eq!(with(true, false), ("risky instead".to_owned(), State::Done));
    assert_eq!(with(false, true), ("risky sorry".to_owned(), State::Failed));
    assert_eq!(with(true, true), ("risky instead".to_owned(), State::Done));
}

#[test]
fn a_loop_is_bounded() {
    let steps = json!({
        id("start", 1): { "type": "start", "on_completion": id("while-condition", 2) },
        id("while-condition", 2): {
            "type": "while-condition", "condition": "__agent__:value != ''",
            "on_true": id("action", 3), "on_completion": id("end", 2),
        },
        id("end", 2): { "type": "end" },
        id("action", 3): tell("again", id("end", 3)),
        id("end", 3): { "type": "end" },
    });
    let playbook = playbook(steps, None);
    let mut run = begin(&playbook, "high");
    let done = carry(&mut run, &playbook, &automatic(), &[]);
    assert_eq!(done.len(), ROUNDS as usize);
    // `on_completion` is gone to however it went.
    assert_eq!(run.state, State::Done);
}

#[test]
fn a_loop_ends_when_what_it_waits_for_is_known() {
    let content = json!({ "action": "evidence.collect", "agent": "__agent__:value" }).to_string();
    let mut collect = act("collect", &content, id("end", 3));
    collect["out_args"] = json!(["__evidence__"]);
    let steps = json!({
        id("start", 1): { "type": "start", "on_completion": id("while-condition", 2) },
        id("while-condition", 2): {
            "type": "while-condition", "condition": "__evidence__:value = ''",
            "on_true": id("action", 3), "on_completion": id("end", 2),
        },
        id("end", 2): { "type": "end" },
        id("action", 3): collect,
        id("end", 3): { "type": "end" },
    });
    let playbook = playbook(steps, None);
    let mut run = begin(&playbook, "high");
    assert_eq!(carry(&mut run, &playbook, &automatic(), &[]), ["collect"]);
    assert_eq!(run.state, State::Done);
}

#[test]
fn what_takes_away_waits_for_a_person_and_people_are_waited_for() {
    let quarantine =
        json!({ "action": "agent.quarantine", "agent": "__agent__:value" }).to_string();
    let steps = json!({
        id("start", 1): { "type": "start", "on_completion": id("action", 2) },
        id("action", 2): act("stop", &quarantine, id("action", 3)),
        id("action", 3): {
            "type": "action", "name": "look", "agent": id("individual", 8), "on_success": id("end", 4),
            "timeout": 60_000,
            "commands": [{ "type": "manual", "command": "Ask about __agent__:value" }],
        },
        id("end", 4): { "type": "end" },
    });
    let playbook = playbook(steps, None);
    let modes = Modes::default();
    let start = |modes: &Modes| {
        let mut run = begin(&playbook, "high");
        carry(&mut run, &playbook, modes, &[]);
        run
    };
    let mut run = start(&modes);
    assert_eq!(run.state, State::Waiting);
    assert_eq!(run.visits[0].state, Progress::AwaitsApproval);
    assert_eq!(
        run.answer(0, Answer::Done, None, ""),
        Err(NotWaiting::Otherwise)
    );
    assert_eq!(
        run.answer(1, Answer::Done, None, ""),
        Err(NotWaiting::Unknown)
    );
    run.answer(0, Answer::Approve, Some("ada"), "go").unwrap();
    assert_eq!(carry(&mut run, &playbook, &modes, &[]), ["stop"]);
    assert_eq!(run.visits[1].checklist, ["Ask about triage"]);
    let mut late = run.clone();
    run.answer(1, Answer::Done, Some("ada"), "all well")
        .unwrap();
    assert!(carry(&mut run, &playbook, &modes, &[]).is_empty());
    assert_eq!(run.state, State::Done);
    assert_eq!(run.answer(1, Answer::Done, None, ""), Err(NotWaiting::Over));
    // Nobody answers.
    late.go_on(&playbook, &modes, Timestamp::from_second(61).unwrap());
    assert_eq!(late.state, State::Failed);
    // Rejected: it goes on without.
    let mut rejected = start(&modes);
    rejected
        .answer(0, Answer::Reject, Some("ada"), "known")
        .unwrap();
    assert!(carry(&mut rejected, &playbook, &modes, &[]).is_empty());
    assert_eq!(rejected.visits[0].state, Progress::Rejected);
    assert_eq!(rejected.visits[1].state, Progress::AwaitsPerson);
    // Only noted.
    let observing = Modes {
        default: Mode::ObserveOnly,
        ..Modes::default()
    };
    assert_eq!(start(&observing).visits[0].state, Progress::Observed);
}

#[test]
fn a_dry_run_does_nothing_and_sees_all() {
    let steps = json!({
        id("start", 1): { "type": "start", "on_completion": id("action", 2) },
        id("action", 2): tell("one", id("action", 3)),
        id("action", 3): tell("two", id("end", 3)),
        id("end", 3): { "type": "end" },
    });
    let playbook = playbook(steps, None);
    let mut run = begin(&playbook, "high");
    run.dry = true;
    assert!(carry(&mut run, &playbook, &automatic(), &[]).is_empty());
    assert_eq!(run.state, State::Done);
    let all = |visit: &Visit| visit.state == Progress::Observed;
    assert!(run.visits.len() == 2 && run.visits.iter().all(all));
}

#[test]
fn a_value_that_is_missing_fails_the_step_before_anything_is_done() {
    let content = json!({ "action": "tasks.end", "agent": "__evidence__:value" }).to_string();
    let mut step = act("end", &content, String::new());
    step.as_object_mut().unwrap().remove("on_completion");
    step["on_success"] = id("end", 3).into();
    let steps = json!({
        id("start", 1): { "type": "start", "on_completion": id("action", 2) },
        id("action", 2): step,
        id("end", 3): { "type": "end" },
    });
    let playbook = playbook(steps, None);
    let mut run = begin(&playbook, "high");
    assert!(carry(&mut run, &playbook, &automatic(), &[]).is_empty());
    assert_eq!(run.state, State::Failed);
    assert!(run.visits[0].note.contains("__evidence__"), "{run:?}");
}

#[test]
fn loops_within_loops_end() {
    let mut steps = json!({
        id("start", 1): { "type": "start", "on_completion": id("while-condition", 2) },
        id("end", 9): { "type": "end" },
    });
    for n in 2..9 {
        let inner = match n {
            8 => id("end", 9),
            n => id("while-condition", n + 1),
        };
        steps[id("while-condition", n)] = json!({
            "type": "while-condition", "condition": "__agent__:value != ''",
            "on_true": inner, "on_completion": id("end", 9),
        });
    }
    let playbook = playbook(steps, None);
    let mut run = begin(&playbook, "high");
    run.dry = true;
    run.go_on(&playbook, &automatic(), Timestamp::UNIX_EPOCH);
    assert!(run.state.is_over());
}
