use std::collections::{BTreeMap, HashSet};

use cedar_policy::{Entity, EntityId, EntityTypeName};
use jiff::Timestamp;
use model::{AgentName, InstanceId, Proof, SegmentName, Task, TaskId};
use proptest::prelude::*;
use serde_json::json;

use super::compiling::VALIDATOR;
use super::*;
use crate::entities::context;

fn compile(sources: &[(&str, &str)]) -> Result<Policies, Vec<Mistake>> {
    let sources: Vec<_> = sources
        .iter()
        .map(|(file, text)| (PathBuf::from(file), (*text).to_owned()))
        .collect();
    Policies::compile(&sources)
}

fn mistakes(text: &str) -> Vec<Mistake> {
    compile(&[("policies/p.cedar", text)]).expect_err("there are mistakes")
}

const ALL: &str = "permit(principal, action, resource);";

#[test]
fn policies_have_telling_names() {
    let text = format!("@id(\"all\")\n{ALL}\n{ALL}");
    let policies = compile(&[("policies/base.cedar", &text)]).unwrap();
    assert_eq!(policies.len(), 2);
    let mut ids: Vec<String> = policies.index.ids().collect();
    ids.sort();
    assert_eq!(ids, ["base/2", "base/all"]);
    assert!(compile(&[]).unwrap().is_empty());
}

#[test]
fn what_does_not_parse_has_a_place_and_a_hint() {
    let text = "permit(principal, action, resource)\nwhen { principal. };\n";
    let found = mistakes(text);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].line_in(text), Some(2));
    assert!(found[0].hint.is_some());
}

#[test]
fn what_does_not_fit_the_schema_has_a_place_and_a_hint() {
    for (condition, word) in [
        ("principal.owner == \"x\"", "owner"),
        ("context.purpose == 1", "type"),
        ("resource.name == \"x\"", "name"),
        ("context.request == \"roots\"", "request"),
        ("principal in Sallyport::Sector::\"x\"", "Sector"),
    ] {
        let text = format!("{ALL}\npermit(principal, action, resource) when {{ {condition} }};\n");
        let found = mistakes(&text);
        assert!(found[0].message.contains(word), "{found:?}");
        assert!(
            found.iter().all(|m| m.line_in(&text) == Some(2)),
            "{found:?}"
        );
        assert!(found.iter().all(|m| m.hint.is_some()), "{found:?}");
        assert!(format!("{found:?}").contains("p/2"), "{found:?}");
    }
}

#[test]
fn every_mistake_of_every_file_is_told() {
    let found = compile(&[
        (
            "a.cedar",
            "permit(principal, action, resource) when { principal.x == 1 };",
        ),
        ("b.cedar", "permit(principal, acton, resource);"),
        ("c.cedar", ALL),
    ])
    .unwrap_err();
    let files: HashSet<_> = found.iter().map(|m| m.file.clone()).collect();
    assert_eq!(files.len(), 2);
}

#[test]
fn policies_that_can_never_apply_are_mistakes() {
    for text in [
        "permit(principal is Sallyport::Server, action, resource);",
        "permit(principal, action == Sallyport::Action::\"call_tool\", resource is Sallyport::Prompt);",
        "forbid(principal, action, resource) when { false };",
        "permit(principal == ?principal, action, resource);",
        "permit(principal, action == Sallyport::Action::\"call_tol\", resource);",
    ] {
        let found = mistakes(text);
        assert!(
            found.iter().all(|m| m.span.is_some() && m.hint.is_some()),
            "{found:?}"
        );
    }
}

#[test]
fn names_must_be_plain_and_single() {
    for id in ["", "a b", "a/b", "a\\nb"] {
        let found = mistakes(&format!("{ALL}\n@id(\"{id}\")\n{ALL}"));
        assert!(found[0].message.contains("not usable"), "{found:?}");
    }
    let text = format!("@id(\"2\")\n{ALL}\n{ALL}");
    let found = mistakes(&text);
    assert!(found[0].message.contains("`p/2` stands twice"), "{found:?}");
    assert!(found[0].span.is_some());
    assert!(compile(&[("x/p.cedar", ALL), ("y/p.cedar", ALL)]).is_err());
}

#[test]
fn the_version_names_texts_and_names_but_not_folders() {
    let version = |sources: &[(&str, &str)]| compile(sources).unwrap().version().to_owned();
    let one = version(&[("a.cedar", ALL), ("b.cedar", "")]);
    assert_eq!(one.len(), 32);
    assert_eq!(one, version(&[("/other/b.cedar", ""), ("a.cedar", ALL)]));
    assert_ne!(one, version(&[("a.cedar", ""), ("b.cedar", ALL)]));
    assert_ne!(one, version(&[("a.cedar", ALL)]));
}

#[test]
fn every_construct_of_the_schema_can_be_written() {
    let text = r#"
        permit(principal in Sallyport::Segment::"support", action in [Sallyport::Action::"call_tool"],
            resource in Sallyport::Server::"files") when { resource.name like "read_*" };
        forbid(principal, action, resource in Sallyport::Segment::"finance")
            unless { principal in Sallyport::Segment::"finance" };
        permit(principal, action == Sallyport::Action::"answer", resource) when { context.request == "roots" };
        permit(principal, action == Sallyport::Action::"read_resource", resource is Sallyport::McpResource)
            when { resource.uri like "file:///srv/*" && context.template == Sallyport::Template::"t" };
        forbid(principal, action, resource) when { context.proof != "dpop" };
        permit(principal, action, resource) when { principal.sponsor == "ada@example.org" && principal.name like "a*" };
    "#;
    assert_eq!(compile(&[("p.cedar", text)]).unwrap().len(), 6);
    assert!(Policies::schema().contains("namespace Sallyport"));
}

// From here on: what the index finds decides as all policies together do.

const SERVERS: [(&str, Option<&str>); 3] = [("x", Some("s0")), ("y", Some("s1")), ("z", None)];
const AGENTS: [(&str, Option<&str>); 3] = [("a0", Some("s0")), ("a1", Some("s1")), ("a2", None)];
const VERBS: [&str; 13] = [
    "call_tool",
    "read_resource",
    "get_prompt",
    "converse",
    "answer",
    "request",
    "generate",
    "message",
    "select",
    "insert",
    "update",
    "delete",
    "connect",
];

/// All entities that there are, made without the code under test.
fn everything() -> Entities {
    let parents = |segment: Option<&str>| match segment {
        Some(segment) => json!([{"type": "Sallyport::Segment", "id": segment}]),
        None => json!([]),
    };
    let entity = |kind: &str, id: &str, attrs, parents| json!({"uid": {"type": format!("Sallyport::{kind}"), "id": id}, "attrs": attrs, "parents": parents});
    let mut all = Vec::new();
    for segment in ["s0", "s1"] {
        all.push(entity("Segment", segment, json!({}), json!([])));
    }
    for (name, segment) in AGENTS {
        all.push(entity(
            "Agent",
            name,
            json!({"name": name, "sponsor": "ada"}),
            parents(segment),
        ));
    }
    for (name, segment) in SERVERS {
        all.push(entity("Server", name, json!({}), parents(segment)));
        for target in ["t0", "t1"] {
            let server = json!([{"type": "Sallyport::Server", "id": name}]);
            for (kind, attributes) in [
                ("Tool", json!({"name": target})),
                ("McpResource", json!({"uri": target})),
                ("Prompt", json!({"name": target})),
                ("Endpoint", json!({"method": target, "path": ""})),
                ("Model", json!({"name": target})),
                ("Skill", json!({"name": target})),
                ("Table", json!({"schema": target, "name": ""})),
            ] {
                let id = format!("{name}/{target}");
                all.push(entity(kind, &id, attributes, server.clone()));
            }
        }
    }
    Entities::from_json_value(json!(all), None).unwrap()
}

fn policy_text() -> impl Strategy<Value = String> {
    let pick = |choices: &'static [&'static str]| proptest::sample::select(choices);
    (
        pick(&["permit", "permit", "permit", "forbid"]),
        pick(&[
            "principal",
            "principal == Sallyport::Agent::\"a0\"",
            "principal == Sallyport::Agent::\"a1\"",
            "principal in Sallyport::Segment::\"s0\"",
            "principal in Sallyport::Segment::\"s1\"",
            "principal in Sallyport::Agent::\"a2\"",
            "principal is Sallyport::Agent",
            "principal is Sallyport::Server",
            "principal is Sallyport::Agent in Sallyport::Segment::\"s0\"",
        ]),
        pick(&[
            "action",
            "action",
            "action == Sallyport::Action::\"call_tool\"",
            "action in [Sallyport::Action::\"converse\", Sallyport::Action::\"read_resource\"]",
            "action in Sallyport::Action::\"answer\"",
            "action in [Sallyport::Action::\"select\", Sallyport::Action::\"request\"]",
            "action == Sallyport::Action::\"unknown\"",
        ]),
        pick(&[
            "resource",
            "resource",
            "resource == Sallyport::Tool::\"x/t0\"",
            "resource == Sallyport::Server::\"x\"",
            "resource in Sallyport::Server::\"y\"",
            "resource in Sallyport::Segment::\"s0\"",
            "resource in Sallyport::Segment::\"s1\"",
            "resource is Sallyport::Tool",
            "resource is Sallyport::McpResource",
            "resource == Sallyport::Table::\"x/t0\"",
            "resource is Sallyport::Endpoint",
            "resource is Sallyport::Server in Sallyport::Segment::\"s1\"",
            "resource in Sallyport::Tool::\"y/t1\"",
        ]),
        pick(&[
            "",
            "",
            "",
            "when { principal.name == \"a0\" }",
            "unless { context.proof == \"dpop\" }",
            "when { context.purpose like \"p*\" } unless { resource has name }",
            "when { resource.name == \"t0\" }",
            "when { principal in resource || resource in Sallyport::Server::\"x\" }",
            "when { 9223372036854775807 + 1 == 0 }",
        ]),
    )
        .prop_map(|(effect, principal, action, resource, condition)| {
            format!("{effect}({principal}, {action}, {resource}) {condition};\n")
        })
}

fn uid(kind: &str, id: &str) -> EntityUid {
    let kind: EntityTypeName = format!("Sallyport::{kind}").parse().unwrap();
    EntityUid::from_type_name_and_id(kind, EntityId::new(id))
}

fn task(purpose: &str) -> Task {
    Task {
        id: TaskId::new(Timestamp::UNIX_EPOCH, [0; 10]),
        agent: AgentName::parse("a0").unwrap(),
        instance: Some(InstanceId::new(Timestamp::UNIX_EPOCH, [0; 10])),
        parent: None,
        template: "t".parse().unwrap(),
        parameters: BTreeMap::new(),
        purpose: purpose.to_owned(),
        grant: serde_json::from_value(
            json!({"permissions": [], "budget": {"calls": 1}, "proof": "dpop"}),
        )
        .unwrap(),
        opened_at: Timestamp::UNIX_EPOCH,
        expires_at: Timestamp::MAX,
        status: model::TaskStatus::Open,
        ended_at: None,
        ended_because: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_index_decides_as_the_whole_set(
        texts in proptest::collection::vec(policy_text(), 0..14),
        purpose in "[pq]", bearer in any::<bool>(),
    ) {
        let set: PolicySet = texts.concat().parse().unwrap();
        let policies = Policies::of(set.policies().cloned(), String::new());
        let everything = everything();
        let authorizer = Authorizer::new();
        let segment = |name: Option<&str>| name.map(|name| SegmentName::parse(name).unwrap());
        let proof = if bearer { Proof::Bearer } else { Proof::Dpop };
        let context = || context(&task(&purpose), proof, 0, None);
        // One for all, so that what was said before is never taken for what was said to another request.
        let circumstances = Circumstances::new(context());
        for (agent, agent_segment) in AGENTS {
            let name = AgentName::parse(agent).unwrap();
            let known = Arc::new(Known::agent(&name, segment(agent_segment).as_ref(), "ada"));
            for (server, server_segment) in SERVERS {
                let name = ServerName::parse(server).unwrap();
                let known_server = Arc::new(Known::server(&name, segment(server_segment).as_ref()));
                for (verb, word) in Verb::ALL.into_iter().zip(VERBS) {
                    let (kind, targets) = match verb {
                        Verb::CallTool => ("Tool", &["t0", "t1"][..]),
                        Verb::ReadResource => ("McpResource", &["t0"][..]),
                        Verb::GetPrompt => ("Prompt", &["t1"][..]),
                        Verb::Request => ("Endpoint", &["t0"][..]),
                        Verb::Generate => ("Model", &["t0"][..]),
                        Verb::Message => ("Skill", &["t1"][..]),
                        Verb::Select | Verb::Insert | Verb::Update | Verb::Delete => ("Table", &["t0", "t1"][..]),
                        Verb::Converse | Verb::Answer | Verb::Connect => ("Server", &[""][..]),
                    };
                    for target in targets {
                        let id = if target.is_empty() { server.to_owned() } else { format!("{server}/{target}") };
                        let request = Request::new(
                            uid("Agent", agent), uid("Action", word), uid(kind, &id), context(), None,
                        ).unwrap();
                        let response = authorizer.is_authorized(&request, &set, &everything);
                        // Twice: the second time from what was kept.
                        for _ in 0..2 {
                            let verdict = policies.ask(&known, (&name, &known_server), verb, target, &circumstances);
                            let failed = response.diagnostics().errors().next().is_some();
                            let allowed = response.decision() == cedar_policy::Decision::Allow;
                            prop_assert_eq!(verdict.answer == Answer::Failed, failed);
                            prop_assert_eq!(verdict.answer == Answer::Permitted, allowed && !failed);
                            if !failed {
                                let mut reasons: Vec<String> =
                                    response.diagnostics().reason().map(ToString::to_string).collect();
                                reasons.sort();
                                prop_assert_eq!(&verdict.policies, &reasons);
                                let forbidden = !allowed && !reasons.is_empty();
                                prop_assert_eq!(verdict.answer == Answer::Forbidden, forbidden);
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn an_agent_that_changed_is_not_taken_for_its_former_self() {
    let text = "permit(principal in Sallyport::Segment::\"s0\", action, resource);";
    let policies = compile(&[("p.cedar", text)]).unwrap();
    let name = AgentName::parse("a0").unwrap();
    let server_name = ServerName::parse("x").unwrap();
    let server = Arc::new(Known::server(&server_name, None));
    let task = task("p");
    let circumstances = Circumstances::new(context(&task, Proof::Dpop, 0, None));
    let ask = |agent: &Arc<Known>| {
        let server = (&server_name, &server);
        policies
            .ask(agent, server, Verb::Converse, "", &circumstances)
            .answer
    };
    let segment = SegmentName::parse("s0").unwrap();
    for _ in 0..50 {
        let inside = Arc::new(Known::agent(&name, Some(&segment), "ada"));
        assert_eq!(ask(&inside), Answer::Permitted);
        drop(inside);
        let outside = Arc::new(Known::agent(&name, None, "ada"));
        assert_eq!(ask(&outside), Answer::NotPermitted);
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let policies = compile(&[("p.cedar", ALL)]).unwrap();
    let agent = Arc::new(Known::agent(&AgentName::parse("a0").unwrap(), None, "ada"));
    let name = ServerName::parse("x").unwrap();
    let server = Arc::new(Known::server(&name, None));
    for at in 0..PREPARED + 100 {
        policies.prepare(&agent, (&name, &server), Verb::CallTool, &format!("t{at}"));
    }
    assert!(policies.prepared.pin().len() <= PREPARED);
    let long = "t".repeat(PREPARED_TARGET + 1);
    let before = policies.prepared.pin().len();
    policies.prepare(&agent, (&name, &server), Verb::CallTool, &long);
    assert_eq!(policies.prepared.pin().len(), before);
}

#[test]
fn the_entities_handed_over_fit_the_schema() {
    let name = ServerName::parse("x").unwrap();
    let server = Known::server(&name, Some(&SegmentName::parse("s0").unwrap()));
    let agent = Known::agent(&AgentName::parse("a0").unwrap(), None, "ada");
    let schema = VALIDATOR.schema();
    for verb in Verb::ALL {
        let touched = Touched::new(&name, &server, verb, "t");
        let entities: Vec<Entity> = store(&agent, &server, &touched).into_iter().collect();
        Entities::from_entities(entities, Some(schema)).unwrap();
        let request = (verb == Verb::Answer).then_some("roots");
        let context = context(&task("p"), Proof::Dpop, 0, request);
        Request::new(
            agent.uid().clone(),
            verb.uid().clone(),
            touched.uid,
            context,
            Some(schema),
        )
        .unwrap();
    }
}
