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

#[test]
fn what_init_writes_contains_every_attack() {
    let dir = configured("");
    let (report, is_contained) = rehearsed(dir.path(), &["--all"]);
    assert!(is_contained, "{report:#}");
    for (name, by, seen_by) in [
        ("injection", "provenance", "instruction-override"),
        ("poisoning", "tool_quarantined", "tool-hidden-instruction"),
        ("rug-pull", "tool_quarantined", "tool-hidden-instruction"),
        ("exfiltration", "content_blocked", "canary"),
        ("stolen-token", "unauthenticated", "refusal-pressure"),
        ("runaway-loop", "budget_exhausted", "loop"),
        ("scope-creep", "not_granted", "denial-pressure"),
    ] {
        let drill = drill(&report, name);
        assert_eq!(drill["verdict"], "contained", "{drill:#}");
        assert!(is_by(drill, "contained_by", by), "{drill:#}");
        assert!(drill["contained_ms"].is_f64(), "{drill:#}");
        assert!(is_by(drill, "detected_by", seen_by), "{drill:#}");
        assert!(drill["detected_ms"].is_f64(), "{drill:#}");
        assert!(drill["incidents"][0].is_u64(), "{drill:#}");
        assert_eq!(drill["missed"], Value::Array(Vec::new()), "{drill:#}");
    }
    // The real one was not begun: it has no data directory.
    assert!(!dir.path().join("data").exists());
}

#[test]
fn what_was_weakened_is_told_as_missed() {
    let dir = configured("[inspection]\nsecrets = \"report\"\ncanaries = \"report\"\n");
    let (report, is_contained) = rehearsed(dir.path(), &["exfiltration", "injection"]);
    assert!(!is_contained, "{report:#}");
    let sent = drill(&report, "exfiltration");
    assert_eq!(sent["verdict"], "not-contained", "{sent:#}");
    for missed in [
        "the agent was given a credential",
        "a planted record was sent out",
        "a credential was sent out",
    ] {
        assert!(is_by(sent, "missed", missed), "{sent:#}");
    }
    assert!(is_by(sent, "detected_by", "canary"), "{sent:#}");
    let held = drill(&report, "injection");
    assert_eq!(held["verdict"], "contained", "{held:#}");
}

#[test]
fn policies_of_the_organisation_hold_in_the_twin() {
    let dir = configured("");
    let policy = dir.path().join("policies/baseline.cedar");
    // Nobody but the desk is named: the drill's own agent is permitted by a policy of the twin.
    std::fs::write(
        &policy,
        "permit (principal == Sallyport::Agent::\"desk\", action, resource);\n",
    )
    .unwrap();
    let (report, is_contained) = rehearsed(dir.path(), &["scope-creep"]);
    assert!(is_contained, "{report:#}");
    assert!(
        report["notes"].to_string().contains("zz-drill.cedar"),
        "{report:#}"
    );
    assert!(!dir.path().join("policies/zz-drill.cedar").exists());
    // What is forbidden stays forbidden, and is not taken for containment.
    std::fs::write(&policy, "forbid (principal, action, resource);\n").unwrap();
    let (report, is_contained) = rehearsed(dir.path(), &["scope-creep"]);
    assert!(!is_contained, "{report:#}");
    let refused = drill(&report, "scope-creep");
    assert_eq!(refused["verdict"], "not-rehearsed", "{refused:#}");
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
    std::fs::write(dir.path().join("sallyport.toml"), "trust_domain = 1\n").unwrap();
    let broken = run(dir.path(), &["drill", "run", "--all"]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&broken.stderr).contains("sallyport check"));
}
