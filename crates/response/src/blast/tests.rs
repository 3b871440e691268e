use model::record::{ActionResult, Intent, Within};
use model::{Denial, InstanceId, Proof, Rule, Spent};
use serde_json::json;

use super::*;

fn agent(name: &str) -> AgentName {
    AgentName::parse(name).unwrap()
}

fn task(n: u8) -> TaskId {
    TaskId::new(Timestamp::UNIX_EPOCH, [n; 10])
}

fn intent(of: &str, under: u8, within: &[u8], target: &str, permitted: bool, n: u8) -> Record {
    let intent = Intent {
        decision: DecisionId::new(Timestamp::UNIX_EPOCH, [n; 10]),
        agent: agent(of),
        instance: InstanceId::new(Timestamp::UNIX_EPOCH, [1; 10]),
        proof: Proof::Dpop,
        task: task(under),
        server: ServerName::parse("files").unwrap(),
        method: "tools/call".to_owned(),
        target: target.to_owned(),
        permitted,
        denial: (!permitted).then(|| Denial {
            rule: Rule::NotGranted,
            reason: String::new(),
            remedy: String::new(),
        }),
        within: within
            .iter()
            .map(|n| Within {
                task: task(*n),
                permission: (0, None),
                risk: 0,
            })
            .collect(),
        ..serde_json::from_value(json!({
            "decision": DecisionId::new(Timestamp::UNIX_EPOCH, [n; 10]), "agent": of,
            "instance": InstanceId::new(Timestamp::UNIX_EPOCH, [1; 10]), "proof": "dpop",
            "task": task(under), "server": "files", "method": "", "permitted": permitted,
            "policy_version": "1",
        }))
        .unwrap()
    };
    Record::new(Timestamp::UNIX_EPOCH, Event::Intent(Box::new(intent)))
}

fn result(n: u8, bytes: u64, ended: Ended) -> Record {
    let result = ActionResult {
        decision: DecisionId::new(Timestamp::UNIX_EPOCH, [n; 10]),
        task: task(1),
        within: Vec::new(),
        ended,
        micros: 1,
        bytes,
        hash: None,
        spent: Spent::default(),
        notes: BTreeMap::new(),
    };
    Record::new(Timestamp::UNIX_EPOCH, Event::Result(Box::new(result)))
}

fn opened(of: &str, n: u8, parent: Option<u8>) -> Record {
    Record::change(
        Timestamp::UNIX_EPOCH,
        "operator",
        "task.opened",
        task(n).to_string(),
    )
    .with("agent", of)
    .with("parent", parent.map(|n| task(n).to_string()))
}

fn touched(of: Of, records: &[Record]) -> Vec<(String, String, u64, u64, u64)> {
    let mut touching = Touching::new(of);
    records.iter().for_each(|record| touching.note(record));
    let blast = touching.into_blast(None, Vec::new(), false);
    blast
        .touched
        .into_iter()
        .map(|it| {
            (
                it.agent.to_string(),
                it.target,
                it.calls,
                it.refused,
                it.bytes,
            )
        })
        .collect()
}

#[test]
fn what_an_agent_did_and_what_was_done_under_parts_of_its_tasks() {
    let records = [
        opened("triage", 1, None),
        opened("helper", 2, Some(1)),
        opened("other", 3, None),
        intent("triage", 1, &[], "read", true, 1),
        result(1, 100, Ended::Answered),
        intent("triage", 1, &[], "read", true, 2),
        result(2, 50, Ended::NotForwarded),
        intent("triage", 1, &[], "delete", false, 3),
        intent("helper", 2, &[1], "write", true, 4),
        intent("other", 3, &[], "write", true, 5),
    ];
    let text = |agent: &str, target: &str| (agent.to_owned(), target.to_owned());
    let seen = touched(Of::Agent(agent("triage")), &records);
    let names: Vec<_> = seen.iter().map(|it| (it.0.clone(), it.1.clone())).collect();
    assert_eq!(names.len(), 3, "{seen:?}");
    assert!(names.contains(&text("triage", "read")) && names.contains(&text("helper", "write")));
    let read = seen.iter().find(|it| it.1 == "read").unwrap();
    assert_eq!((read.2, read.3, read.4), (1, 0, 150));
    let delete = seen.iter().find(|it| it.1 == "delete").unwrap();
    assert_eq!((delete.2, delete.3), (0, 1));
    assert_eq!(touched(Of::Task(task(2)), &records).len(), 1);
    assert_eq!(touched(Of::Task(task(1)), &records).len(), 3);
}

#[test]
fn what_is_listed_is_bounded() {
    let mut touching = Touching::new(Of::Agent(agent("triage")));
    for n in 0..MOST + 10 {
        touching.note(&intent("triage", 1, &[], &n.to_string(), true, 1));
    }
    let blast = touching.into_blast(None, Vec::new(), false);
    assert!(blast.cut && blast.touched.len() == MOST);
}

struct Two;

impl Ways for Two {
    fn grants(&self, agent: &AgentName) -> Vec<(String, Grant)> {
        let grant = match agent.as_str() {
            "triage" => json!({ "permissions": [
                { "type": "sallyport_mcp", "server": "files", "tools": [{ "name": "read" }, { "name": "x*" }] },
                { "type": "sallyport_a2a", "server": "desk", "skills": [{ "name": "refund" }] },
                { "type": "sallyport_mcp", "server": "off", "tools": [{ "name": "read" }] },
            ], "budget": { "calls": 1 }, "proof": "dpop" }),
            "desk" => json!({ "permissions": [
                { "type": "sallyport_mcp", "server": "money", "tools": [{ "name": "pay\"] --> n0" }] },
                { "type": "sallyport_a2a", "server": "desk", "skills": [{ "name": "refund" }] },
            ], "budget": { "calls": 1 }, "proof": "dpop" }),
            _ => return Vec::new(),
        };
        vec![(
            "template".to_owned(),
            serde_json::from_value(grant).unwrap(),
        )]
    }

    fn server(&self, server: &ServerName) -> Option<Option<SegmentName>> {
        (server.as_str() != "off").then_some(None)
    }

    fn behind(&self, server: &ServerName) -> Option<AgentName> {
        (server.as_str() == "desk").then(|| agent("desk"))
    }

    fn permits(
        &self,
        _: &AgentName,
        _: &Grant,
        _: &ServerName,
        _: &str,
        target: &str,
    ) -> Option<bool> {
        Some(target != "read")
    }
}

#[test]
fn what_is_reachable_goes_through_the_agents_that_can_be_asked() {
    let all = reachable(&agent("triage"), &Two);
    let find = |server: &str, target: &str| {
        let found = all
            .iter()
            .find(|it| it.server.as_str() == server && it.target == target);
        found.unwrap_or_else(|| panic!("{server} {target} in {all:?}"))
    };
    assert_eq!(find("files", "read").permitted, Some(false));
    assert_eq!(find("files", "x*").permitted, None);
    assert_eq!(find("money", "pay\"] --> n0").through, [agent("desk")]);
    assert!(all.iter().all(|it| it.server.as_str() != "off"));
}

#[test]
fn drawings_hold_what_others_named_without_obeying_it() {
    let touching = Touching::new(Of::Agent(agent("triage")));
    let blast = touching.into_blast(None, reachable(&agent("triage"), &Two), false);
    let dot = blast.drawn(Form::Dot);
    assert!(dot.contains(r#"label="pay\"] --> n0""#), "{dot}");
    let mermaid = blast.drawn(Form::Mermaid);
    assert!(
        !mermaid.contains("pay\"]") && mermaid.contains("pay#34;"),
        "{mermaid}"
    );
    let json = blast.nodes_and_edges();
    assert!(json["nodes"].as_array().unwrap().len() >= 6, "{json}");
    assert!(
        json["edges"]
            .as_array()
            .unwrap()
            .iter()
            .any(|it| it["label"] == "can ask")
    );
}
