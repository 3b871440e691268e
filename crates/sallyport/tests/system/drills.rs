//! Attacks that are rehearsed: what holds is told as held, and what was weakened as missed. Nothing is left.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::{PATIENCE, SALLYPORT, signal};

/// A folder as `sallyport init` writes it, with these changes to `sallyport.toml`.
fn configured(more: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let made = run(dir.path(), &["init", "."]);
    assert!(made.status.success(), "{made:?}");
    let file = dir.path().join("sallyport.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}\n{more}\n")).unwrap();
    dir
}

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(SALLYPORT);
    command
        .args(arguments)
        .current_dir(dir)
        // Twins are made here, so that what is left of them is seen.
        .env("TMPDIR", dir)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    command(dir, arguments).output().unwrap()
}

fn twins(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names
        .filter(|name| name.starts_with("sallyport-drill-"))
        .count()
}

/// The report, and whether the command succeeded.
fn rehearsed(dir: &Path, names: &[&str]) -> (Value, bool) {
    let mut arguments = vec!["drill", "run", "--json"];
    arguments.extend(names);
    let output = run(dir, &arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    assert_eq!(twins(dir), 0, "a twin is left");
    (report, output.status.success())
}

fn drill<'a>(report: &'a Value, name: &str) -> &'a Value {
    let drills = report["drills"].as_array().unwrap();
    let found = drills.iter().find(|drill| drill["drill"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {report}"))
}

fn is_by(drill: &Value, key: &str, rule: &str) -> bool {
    drill[key].as_array().unwrap().iter().any(|by| by == rule)
}

/// What a report says was missed, and what to change.
fn missed(drill: &Value) -> String {
    drill["missed"].to_string()
}

#[test]
fn what_init_writes_contains_every_attack() {
    let dir = configured("");
    let (report, is_contained) = rehearsed(dir.path(), &["--all"]);
    assert!(is_contained, "{report:#}");
    for (name, by, seen_by) in [
        ("injection", "not_granted", "instruction-override"),
        ("poisoning", "tool_quarantined", "tool-hidden-instruction"),
        ("rug-pull", "tool_quarantined", "tool-hidden-instruction"),
        ("exfiltration", "content_blocked", "canary"),
        ("stolen-token", "unauthenticated", "refusal-pressure"),
        ("runaway-loop", "budget_exhausted", "loop"),
        ("scope-creep", "not_granted", "denial-pressure"),
    ] {
        let drill = drill(&report, name);
        assert_eq!(drill["verdict"], "contained", "{drill:#}");
        assert_eq!(drill["template"], "read-files", "{drill:#}");
        assert!(is_by(drill, "contained_by", by), "{drill:#}");
        assert!(drill["contained_ms"].is_f64(), "{drill:#}");
        assert!(is_by(drill, "detected_by", seen_by), "{drill:#}");
        assert!(drill["detected_ms"].is_f64(), "{drill:#}");
        assert!(drill["incidents"][0].is_u64(), "{drill:#}");
        assert_eq!(drill["missed"], Value::Array(Vec::new()), "{drill:#}");
    }
    // No server belongs to a segment, so there is nothing that policies could keep apart.
    assert_eq!(drill(&report, "wide-template")["verdict"], "not-applicable");
    // The real one was not begun: it has no data directory.
    assert!(!dir.path().join("data").exists());
}

/// A desk that answers tickets by mail, as somebody in a hurry writes it.
const HASTY: &str = "[inspection]\nsecrets = \"report\"\ncanaries = \"report\"\n\
    [servers.mail]\nsegment = \"office\"\nurl = \"http://127.0.0.1:1/mcp\"\n";
const HASTY_DESK: &str = "description = \"Answer tickets\"\nagents = [\"desk-*\"]\nttl = \"5m\"\nproof = \"bearer\"\n\
    [[allow]]\nserver = \"mail\"\ntools = [\"read_mail\", \"send_mail\"]\n\
    [[allow]]\nserver = \"mail\"\ntools = [\"*\"]\n";

#[test]
fn holes_of_the_persons_own_configuration_are_told_with_the_line_to_change() {
    let dir = configured(HASTY);
    std::fs::write(dir.path().join("templates/desk.toml"), HASTY_DESK).unwrap();
    let (report, is_contained) = rehearsed(dir.path(), &["--all", "--template", "desk"]);
    assert!(!is_contained, "{report:#}");
    for (name, what, change) in [
        (
            "injection",
            "`send_mail` at `mail`",
            "sallyport annotate mail --write",
        ),
        (
            "injection",
            "`to` chosen by the attacker",
            "templates/desk.toml:5",
        ),
        (
            "exfiltration",
            "handed out a credential",
            "[inspection] secrets",
        ),
        (
            "exfiltration",
            "a planted record left through `send_mail`",
            "[inspection] canaries",
        ),
        (
            "exfiltration",
            "a credential left through `send_mail`",
            "[inspection] secrets",
        ),
        (
            "stolen-token",
            "tokens that are bound to nothing",
            "proof = \\\"bearer",
        ),
        (
            "runaway-loop",
            "1000 equal calls reached `mail`",
            "it states no budget",
        ),
        (
            "scope-creep",
            "`transfer_money` at `mail`",
            "templates/desk.toml:8: it allows everything",
        ),
        (
            "wide-template",
            "reached `mail` of the segment `office`",
            "policies/",
        ),
    ] {
        let drill = drill(&report, name);
        assert_eq!(drill["verdict"], "not-contained", "{drill:#}");
        let missed = missed(drill);
        assert!(
            missed.contains(what) && missed.contains(change),
            "{name}: {what}: {missed}"
        );
    }
    assert_eq!(drill(&report, "injection")["agent"], "desk-drill (office)");
    assert!(is_by(
        drill(&report, "exfiltration"),
        "detected_by",
        "canary"
    ));
}

#[test]
fn what_was_written_with_care_holds() {
    let servers = "[monitor.servers]\ncrm = { sensitive = true }\nmail = { external = true }\n\
        [servers.mail]\nsegment = \"office\"\nurl = \"http://127.0.0.1:1/mcp\"\n\
        [servers.crm]\nkind = \"http\"\nsegment = \"office\"\nurl = \"http://127.0.0.1:1\"\n\
        http = { routes = [\"GET /customers/{id}\", \"DELETE /customers/{id}\"] }\n";
    let dir = configured(servers);
    let write = |name: &str, text: &str| {
        let file = dir.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    write(
        "templates/desk.toml",
        "description = \"Answer a customer\"\nsegments = [\"office\"]\nttl = \"5m\"\nbudget = { calls = 30 }\n\
         [parameters.customer]\npattern = \"[0-9]{4}\"\n\
         [[allow]]\nserver = \"crm\"\nendpoints = [\"GET /customers/{id}\"]\n\
         arguments = { \"path.id\" = { equals = \"${customer}\" } }\n\
         [[allow]]\nserver = \"mail\"\ntools = [\"send_mail\"]\nmax_calls = 3\narguments = { to = {}, body = {} }\n",
    );
    write(
        "annotations/mail.toml",
        "[tools.send_mail]\nsinks = { to = \"address\" }\ncontent = { body = [\"urls\"] }\n",
    );
    write(
        "policies/baseline.cedar",
        "permit (principal in Sallyport::Segment::\"office\", action, resource in Sallyport::Segment::\"office\");\n",
    );
    let (report, is_contained) = rehearsed(dir.path(), &["--all", "--template", "desk"]);
    assert!(is_contained, "{report:#}");
    for (name, by) in [
        ("injection", "provenance"),
        ("poisoning", "tool_quarantined"),
        ("exfiltration", "content_blocked"),
        ("stolen-token", "unauthenticated"),
        ("runaway-loop", "budget_exhausted"),
        ("scope-creep", "not_granted"),
        ("wide-template", "no_policy_permits"),
    ] {
        let drill = drill(&report, name);
        assert_eq!(drill["verdict"], "contained", "{drill:#}");
        assert!(is_by(drill, "contained_by", by), "{drill:#}");
    }
    assert_eq!(drill(&report, "injection")["agent"], "drill-agent (office)");
}

#[test]
fn policies_of_the_organisation_hold_in_the_twin() {
    let dir = configured("");
    let policy = dir.path().join("policies/baseline.cedar");
    // Nobody but the desk is named: that is who the drill's agent is.
    std::fs::write(
        &policy,
        "permit (principal == Sallyport::Agent::\"desk\", action, resource);\n",
    )
    .unwrap();
    let (report, is_contained) = rehearsed(dir.path(), &["scope-creep"]);
    assert!(is_contained, "{report:#}");
    assert_eq!(drill(&report, "scope-creep")["agent"], "desk");
    // What is forbidden stays forbidden, and is not taken for containment.
    std::fs::write(&policy, "forbid (principal, action, resource);\n").unwrap();
    let (report, is_contained) = rehearsed(dir.path(), &["scope-creep"]);
    assert!(!is_contained, "{report:#}");
    let refused = drill(&report, "scope-creep");
    assert_eq!(refused["verdict"], "not-rehearsed", "{refused:#}");
    assert!(
        report["notes"].to_string().contains("cannot be attacked"),
        "{report:#}"
    );
}

#[test]
fn an_interrupted_drill_leaves_nothing() {
    let dir = configured("");
    for how in ["INT", "TERM"] {
        let mut child = command(dir.path(), &["drill", "run", "--all", "--json"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = std::time::Instant::now();
        // From when its data is there, the twin runs.
        let pid = loop {
            let twin = std::fs::read_dir(dir.path()).unwrap().find_map(|entry| {
                let path = entry.unwrap().path();
                path.join("data/operator.token").exists().then_some(path)
            });
            if let Some(pid) = twin.and_then(|home| serving_in(&home)) {
                break pid;
            }
            assert!(begun.elapsed() < PATIENCE, "no twin");
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        signal(child.id(), how);
        assert!(!child.wait().unwrap().success());
        assert_eq!(twins(dir.path()), 0, "a folder is left after {how}");
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "{how}: it still runs"
        );
    }
}

/// The process that runs in a folder.
fn serving_in(home: &Path) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes
        .filter(|process| {
            let cwd = std::fs::read_link(process.path().join("cwd"));
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            cwd.is_ok_and(|cwd| cwd == home) && command.windows(6).any(|part| part == b"serve\0")
        })
        .find_map(|process| process.file_name().to_str()?.parse().ok())
}

#[test]
fn unknown_drills_and_broken_configurations_are_refused() {
    let dir = configured("");
    let unknown = run(dir.path(), &["drill", "run", "flood"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("drill list"));
    assert_eq!(run(dir.path(), &["drill", "run"]).status.code(), Some(2));
    let unknown = run(
        dir.path(),
        &["drill", "run", "--all", "--template", "flood"],
    );
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("read-files"));
    std::fs::write(dir.path().join("sallyport.toml"), "trust_domain = 1\n").unwrap();
    let broken = run(dir.path(), &["drill", "run", "--all"]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&broken.stderr).contains("sallyport check"));
}
