//! Playbooks, from the command that begins them to what they leave behind.

use super::*;

const AUTOMATIC: &str = r#"
[response]
mode = "automatic"
[response.channels.on-call]
kind = "webhook"
url = "HOOK/on-call"
secret = { plain = "a secret of sixteen bytes" }
[response.channels.ticket]
kind = "ticket"
url = "HOOK/ticket"
title = "summary"
fields = { project = "SEC" }
"#;

async fn telling(more: &str) -> (Desk, Listening) {
    let hooks = Listening::start(|_| {}).await;
    let desk = Desk::start(&more.replace("HOOK", &hooks.url)).await;
    (desk, hooks)
}

/// The run that a command printed.
fn ran(desk: &Desk, arguments: &[&str]) -> Value {
    let text = desk.must(&[arguments, &["--json"]].concat());
    serde_json::from_str(&text).unwrap()
}

fn step<'v>(run: &'v Value, name: &str) -> &'v Value {
    let visits = run["visits"].as_array().unwrap();
    let found = visits
        .iter()
        .find(|it| it["name"].as_str().unwrap().contains(name));
    found.unwrap_or_else(|| panic!("no step `{name}` in {run}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playbook_contains_an_agent_and_leaves_evidence_that_holds() {
    let (mut desk, hooks) = telling(AUTOMATIC).await;
    let (agent, task, token) = desk.clerk("front", "support").await;
    assert_eq!(get(&agent, &token, "/tag/0").await, 200);
    let begin = ["playbook", "run", "prompt-injection", "--agent", "front"];
    let about = ["--severity", "critical", "--summary", "it \u{7}obeys"];
    let dry = ran(&desk, &[&begin[..], &about, &["--dry-run"]].concat());
    assert_eq!(dry["state"], "done", "{dry}");
    assert_eq!(get(&agent, &token, "/tag/0").await, 200, "nothing was done");
    assert!(hooks.seen().is_empty(), "nobody was told");

    let run = ran(&desk, &[&begin[..], &about].concat());
    assert_eq!(run["state"], "waiting", "{run}");
    for (name, state) in [
        ("Tell the people", "done"),
        ("Collect the evidence", "done"),
        ("End all tasks", "done"),
        ("Stop the agent", "done"),
        ("Refuse its tokens", "done"),
        ("Open a ticket", "done"),
        ("Find the content", "awaits-person"),
    ] {
        assert_eq!(step(&run, name)["state"], state, "{name} {run}");
    }
    assert_ne!(get(&agent, &token, "/tag/1").await, 200);
    let shown = desk
        .gateway
        .managed("GET", "/v1/agents/front", Value::Null)
        .await;
    assert_eq!(shown["lifecycle"], "quarantined");
    let shown = desk.gateway.run_json(&["task", "show", &task, "--json"]);
    assert_eq!(shown["status"], "revoked", "{shown}");
    assert_eq!(desk.upstream.asked("/tag/1"), 0);

    let told = hooks.seen();
    let of = |path: &str| {
        told.iter()
            .find(|it| it.starts_with(&format!("POST {path}")))
            .unwrap()
    };
    let (call, ticket) = (of("/on-call"), of("/ticket"));
    assert!(
        call.contains("x-sallyport-signature: ") && call.contains("idempotency-key: "),
        "{call}"
    );
    assert!(
        call.contains("it obeys") && !call.contains('\u{7}'),
        "{call}"
    );
    assert!(
        ticket.contains("\"project\":\"SEC\"") && ticket.contains("\"summary\":"),
        "{ticket}"
    );

    // The evidence holds by itself, and not when something of it is changed.
    let note = step(&run, "Collect the evidence")["note"].as_str().unwrap();
    let file = note.split(" (").next().unwrap().to_owned();
    let vkey = desk.gateway.log_dir().join("log.vkey");
    let vkey = vkey.to_str().unwrap();
    let verify = |file: &str| {
        desk.gateway
            .run(&["audit", "verify", "--evidence", file, "--vkey", vkey])
    };
    let good = verify(&file);
    let said = String::from_utf8_lossy(&good.stdout).into_owned();
    assert!(
        good.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&good.stderr)
    );
    let text = std::fs::read_to_string(&file).unwrap();
    let bundle: Value = serde_json::from_str(&text).unwrap();
    let records = bundle["records"].as_array().unwrap();
    let has = |what: &str| {
        records
            .iter()
            .any(|it| it["record"].as_str().unwrap().contains(what))
    };
    assert!(has("\"event\":\"intent\"") && has("\"event\":\"result\"") && has("task.opened"));
    for (from, to) in [("support", "Support"), ("front", "fronT")] {
        let forged = desk.gateway.dir().join("forged.json");
        let changed = text.replacen(&format!("\\\"{from}\\\""), &format!("\\\"{to}\\\""), 1);
        assert_ne!(changed, text, "`{from}` stands in no record");
        std::fs::write(&forged, changed).unwrap();
        assert_eq!(
            verify(forged.to_str().unwrap()).status.code(),
            Some(3),
            "{from}"
        );
    }

    // A crash changes nothing; the person's word ends it.
    desk.gateway.kill();
    desk.gateway.restart().await;
    let id = run["id"].as_str().unwrap();
    let number = run["visits"].as_array().unwrap().len() - 1;
    let done = ran(
        &desk,
        &[
            "playbook",
            "done",
            id,
            &number.to_string(),
            "--by",
            "ada",
            "--note",
            "found it",
        ],
    );
    assert_eq!(done["state"], "done", "{done}");
    assert_eq!(hooks.seen().len(), told.len(), "nobody is told twice");
    let records = desk.gateway.records();
    let changes = |change: &str| records.iter().filter(|it| it["change"] == change).count();
    assert_eq!(
        (changes("playbook.started"), changes("playbook.ended")),
        (1, 1)
    );
    assert_eq!(changes("playbook.answered"), 1);
    assert!(changes("playbook.step") >= 7 && changes("playbook.rehearsed") == 1);
    desk.gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_away_waits_for_approval_unless_the_configuration_says_otherwise() {
    let desk =
        Desk::start("[response.modes]\n\"scope-violation/tokens.revoke\" = \"observe-only\"\n")
            .await;
    let (agent, _, token) = desk.clerk("front", "support").await;
    let begin = [
        "playbook",
        "run",
        "scope-violation",
        "--agent",
        "front",
        "--severity",
        "high",
    ];
    let run = ran(&desk, &begin);
    let id = run["id"].as_str().unwrap().to_owned();
    assert_eq!(run["state"], "waiting", "{run}");
    assert_eq!(
        step(&run, "Refuse its tokens")["state"],
        "observed",
        "{run}"
    );
    assert_eq!(
        step(&run, "End all tasks")["state"],
        "awaits-approval",
        "{run}"
    );
    // Nobody is configured to be told; that is said, and does not hold up anything.
    assert_eq!(step(&run, "Tell the people")["state"], "failed", "{run}");
    assert_eq!(get(&agent, &token, "/tag/0").await, 200, "it waits");
    assert!(desk.must(&["playbook", "runs", "--open"]).contains(&id));
    let number = |run: &Value, name: &str| {
        let visits = run["visits"].as_array().unwrap();
        let at = visits
            .iter()
            .position(|it| it["name"].as_str().unwrap().contains(name));
        at.unwrap().to_string()
    };
    let end = number(&run, "End all tasks");
    let run = ran(&desk, &["playbook", "approve", &id, &end, "--by", "ada"]);
    assert_eq!(step(&run, "End all tasks")["state"], "done", "{run}");
    assert_ne!(get(&agent, &token, "/tag/1").await, 200);
    let stop = number(&run, "Stop the agent");
    let run = ran(
        &desk,
        &["playbook", "reject", &id, &stop, "--note", "it is known"],
    );
    assert_eq!(step(&run, "Stop the agent")["state"], "rejected", "{run}");
    let shown = desk
        .gateway
        .managed("GET", "/v1/agents/front", Value::Null)
        .await;
    assert_eq!(shown["lifecycle"], "active");
    let again = desk.gateway.run(&["playbook", "approve", &id, &stop]);
    assert!(!again.status.success(), "it is over");
    let run = ran(&desk, &["playbook", "abort", &id]);
    assert_eq!(run["state"], "aborted", "{run}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_begins_the_playbook_that_the_configuration_has_for_it() {
    let more = "[monitor]\ndenials = 3\n[response]\nmode = \"automatic\"\n\
        [[response.triggers]]\nplaybook = \"scope-violation\"\nseverity = \"low\"\n";
    let mut desk = Desk::start(more).await;
    let (agent, _, token) = desk.clerk("front", "support").await;
    for _ in 0..20 {
        get(&agent, &token, "/secret").await;
    }
    desk.gateway
        .wait_until("the playbook has begun", async |this| {
            let runs = this.run_json(&["playbook", "runs", "--json"]);
            runs.as_array()
                .unwrap()
                .iter()
                .any(|it| it["playbook"] == "scope-violation" && it["about"]["agent"] == "front")
        })
        .await;
    let incidents = desk.gateway.run_json(&["incidents", "list", "--json"]);
    let runs = desk.gateway.run_json(&["playbook", "runs", "--json"]);
    // One run for one incident, however often it grows.
    let of = |run: &Value| run["about"]["incident"].clone();
    let about: Vec<Value> = runs.as_array().unwrap().iter().map(of).collect();
    let mut once = about.clone();
    once.dedup();
    assert_eq!(about, once, "{runs} {incidents}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_replaced_by_whoever_keeps_it_and_taken_into_use() {
    let upstream = Listening::start(|_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("crm.token");
    std::fs::write(&file, "the old one").unwrap();
    let replaced = file.clone();
    let keeper = Listening::start(move |_| std::fs::write(&replaced, "the new one").unwrap()).await;
    let credential =
        format!("credential = {{ header = \"x-key\", value = {{ file = {file:?} }} }}\n");
    let rotation = format!(
        "[response.rotations.crm]\nhook = \"{}/rotate\"\n",
        keeper.url
    );
    let gateway = Setup::new()
        .server("crm", "http", &upstream.url)
        .and(&credential)
        .and(ROUTES)
        .and(&rotation)
        .template("clerk", CLERK)
        .start()
        .await;
    let desk = Desk { gateway, upstream };
    let (agent, _, token) = desk.clerk("front", "support").await;
    assert_eq!(get(&agent, &token, "/tag/0").await, 200);
    let act = json!({ "action": "credential.rotate", "server": "crm" });
    let done = desk
        .gateway
        .managed("POST", "/v1/response/actions", act)
        .await;
    assert!(
        done["outcome"].as_str().unwrap().contains("replaced"),
        "{done}"
    );
    assert_eq!(get(&agent, &token, "/tag/1").await, 200);
    let seen = desk.upstream.seen();
    let of = |tag: &str| {
        seen.iter()
            .find(|it| it.starts_with(&format!("GET /tag/{tag}")))
            .unwrap()
    };
    assert!(of("0").contains("x-key: the old one") && of("1").contains("x-key: the new one"));
    assert!(
        keeper.seen()[0].contains("\"server\":\"crm\""),
        "{:?}",
        keeper.seen()
    );
    for bad in [
        json!({ "action": "bash", "command": "id" }),
        json!({ "action": "credential.rotate", "server": "typo" }),
        json!({ "action": "agent.quarantine" }),
        json!({ "action": "notify", "channel": "typo", "text": "x" }),
    ] {
        let refused = desk
            .gateway
            .manage("POST", "/v1/response/actions", bad.clone())
            .await;
        assert!(!refused.is_success(), "{bad}");
    }
}

/// A mail server that takes one message, and what it took.
async fn mail_server() -> (String, tokio::task::JoinHandle<String>) {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let taken = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        write.write_all(b"220 test\r\n").await.unwrap();
        let mut text = String::new();
        let mut data = false;
        while let Some(line) = lines.next_line().await.unwrap() {
            text.push_str(&line);
            text.push('\n');
            let answer = match (data, line.as_str()) {
                (true, ".") => {
                    data = false;
                    "250 taken\r\n"
                }
                (true, _) => continue,
                (false, "DATA") => {
                    data = true;
                    "354 go on\r\n"
                }
                (false, "QUIT") => break,
                (false, line) if line.starts_with("EHLO") => "250 test\r\n",
                _ => "250 well\r\n",
            };
            write.write_all(answer.as_bytes()).await.unwrap();
            if answer.starts_with("250 taken") {
                break;
            }
        }
        text
    });
    (url, taken)
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_by_mail() {
    let (server, taken) = mail_server().await;
    let more = format!(
        "[response.channels.mail]\nkind = \"email\"\nto = [\"soc@example.org\"]\n\
         from = \"gateway@example.org\"\nserver = \"{server}\"\n"
    );
    let desk = Desk::start(&more).await;
    let act = json!({ "action": "notify", "channel": "mail", "text": "Look here\nand there" });
    desk.gateway
        .managed("POST", "/v1/response/actions", act)
        .await;
    let mail = taken.await.unwrap();
    assert!(mail.contains("RCPT TO:<soc@example.org>"), "{mail}");
    assert!(
        mail.contains("Subject: [Sallyport] Look here") && mail.contains("and there"),
        "{mail}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn playbooks_are_read_shown_and_refused() {
    let desk = Desk::start("").await;
    let listed = desk.must(&["playbook", "list"]);
    for name in [
        "prompt-injection",
        "tool-poisoning",
        "model-misbehaviour",
        "scope-violation",
        "credential-theft",
    ] {
        assert!(listed.contains(name), "{listed}");
        let shown = desk.must(&["playbook", "show", name]);
        assert!(
            shown.contains("1. ") && shown.contains("when a person approves"),
            "{shown}"
        );
        let document = desk.must(&["playbook", "show", name, "--document"]);
        let folder = desk.gateway.dir().join("playbooks");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("own-{name}.json")), &document).unwrap();
    }
    desk.must(&["reload"]);
    assert!(
        desk.must(&["playbook", "list"])
            .contains("own-tool-poisoning")
    );
    let file = desk.gateway.dir().join("playbooks/shell.json");
    let shell = desk
        .must(&["playbook", "show", "prompt-injection", "--document"])
        .replace("\"http-api\",", "\"bash\",");
    std::fs::write(&file, shell).unwrap();
    let checked = desk
        .gateway
        .run(&["playbook", "check", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.contains("never carried out"), "{said}");
    assert!(
        !desk.gateway.run(&["check"]).status.success(),
        "it is checked with the rest"
    );
    assert!(
        !desk.gateway.run(&["reload"]).status.success(),
        "it is not taken into use"
    );
    assert!(!desk.must(&["playbook", "list"]).contains("shell"));
}
