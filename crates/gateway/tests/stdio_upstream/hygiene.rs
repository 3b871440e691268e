//! What a program gets, and what is left of it (R3, R6).

use std::time::{Duration, Instant};

use gateway::upstream::{UpstreamError, Upstreams};
use model::config::Config;
use serde_json::{Value, json};

use crate::bridge::{Bridge, child, is_there, limits, principal, python, server, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_program_gets_only_the_environment_that_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "hunter2\n").unwrap();
    let mut given = child("legacy");
    given.directory = Some(folder.path().to_owned());
    let more = server(&format!(
        "command = [\"x\"]\nenvironment = {{ SECRET = {{ file = {:?} }}, MODE = {{ plain = \"$HOME `id`\" }} }}",
        folder.path().join("secret")
    ));
    given.environment = more.environment;
    let bridge = Bridge::new(&given, &limits());
    let me = principal(1);
    let session = bridge.session(me).await.unwrap();
    let facts = bridge
        .legacy(me, &session, 1, "x/facts", json!({}))
        .await
        .unwrap();
    let facts = facts.result();
    let environment = facts["env"].as_object().unwrap();
    // Python sets LC_CTYPE itself where no locale is set.
    let known = ["PATH", "HOME", "LANG", "SECRET", "MODE", "LC_CTYPE"];
    for name in environment.keys() {
        assert!(known.contains(&name.as_str()), "{name} was inherited");
    }
    // Cargo sets many variables for tests, so that inheriting would show.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    assert_eq!(environment["SECRET"], "hunter2");
    assert_eq!(environment["MODE"], "$HOME `id`", "no shell has seen it");
    let cwd = std::fs::canonicalize(folder.path()).unwrap();
    assert_eq!(facts["cwd"], cwd.to_str().unwrap());
    assert_eq!(facts["group"], facts["pid"], "a process group of its own");
    let limits = facts["limits"].as_str().unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..]
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(limit("Max core file size")[..2], ["0", "0"]);
    assert!(limit("Max open files")[1].parse::<u64>().unwrap() <= 4_096);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_program_started_ends_with_it() {
    let bridge = Bridge::new(&child("legacy"), &limits());
    let me = principal(1);
    let mut left: Vec<Value> = Vec::new();
    for how in ["x/facts", "x/die"] {
        let session = bridge.session(me).await.unwrap();
        let started = bridge
            .legacy(me, &session, 1, "x/offspring", json!({}))
            .await
            .unwrap();
        left.push(started.result()["pid"].clone());
        let _ = bridge.legacy(me, &session, 2, how, json!({})).await;
    }
    bridge.upstream.stop().await;
    for pid in left {
        // Its own parent is gone, so that it is for the system to wait for it.
        let is_running = || {
            std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| !stat.contains(") Z "))
        };
        until("the offspring ends", Duration::from_secs(3), || {
            !is_running()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_waits_for_stubborn_programs_and_refuses_at_once() {
    let bridge = Bridge::new(&child("legacy"), &limits());
    let me = principal(1);
    let session = bridge.session(me).await.unwrap();
    let stubborn = bridge
        .legacy(me, &session, 1, "x/stubborn", json!({}))
        .await
        .unwrap();
    let pid = &stubborn.result()["pid"];
    let start = Instant::now();
    let refusing = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        bridge.session(me).await
    };
    let (_, refused) = tokio::join!(bridge.upstream.stop(), refusing);
    assert_eq!(refused.unwrap_err(), UpstreamError::Disabled);
    assert!(!is_there(pid));
    let taken = start.elapsed();
    assert!(
        (Duration::from_secs(2)..Duration::from_secs(6)).contains(&taken),
        "{taken:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_what_is_the_same_and_replaces_what_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "first").unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stdio_upstream/child.py");
    let python = python();
    let config = |more: &str| {
        let text = format!(
            "trust_domain = \"a\"\n{more}\n[servers.same]\ncommand = [{python:?}, {script:?}, \"legacy\"]\n\
             [servers.rotated]\ncommand = [{python:?}, {script:?}, \"legacy\"]\n\
             environment = {{ SECRET = {{ file = {secret:?} }} }}\n"
        );
        Config::parse(std::path::Path::new("t"), &text).unwrap()
    };
    let upstreams = Upstreams::new(&config("")).unwrap();
    let bridge = |name: &str| {
        let upstream = upstreams
            .get(&name.parse().unwrap())
            .expect("it is configured");
        Bridge { upstream }
    };
    let me = principal(1);
    let (same, rotated) = (bridge("same"), bridge("rotated"));
    let kept = same.session(me).await.unwrap();
    let lost = rotated.session(me).await.unwrap();
    let facts = rotated
        .legacy(me, &lost, 1, "x/facts", json!({}))
        .await
        .unwrap();
    assert_eq!(facts.result()["env"]["SECRET"], "first");

    // Limits hold at once, and for servers that stay.
    upstreams
        .reload(&config("limits = { sessions_per_task = 2 }"))
        .unwrap();
    assert!(std::sync::Arc::ptr_eq(
        &same.upstream,
        &bridge("same").upstream
    ));
    assert!(std::sync::Arc::ptr_eq(
        &rotated.upstream,
        &bridge("rotated").upstream
    ));
    let refused = same.session(me).await.unwrap_err();
    assert!(matches!(refused, UpstreamError::TooMany(_)), "{refused}");

    // All or nothing.
    std::fs::remove_file(&secret).unwrap();
    let wrong = upstreams.reload(&config("")).unwrap_err();
    assert!(
        wrong.len() == 1 && wrong[0].to_string().contains("SECRET"),
        "{wrong:?}"
    );
    rotated
        .legacy(me, &lost, 2, "x/facts", json!({}))
        .await
        .unwrap();

    std::fs::write(&secret, "second").unwrap();
    upstreams.reload(&config("")).unwrap();
    same.legacy(me, &kept, 1, "x/facts", json!({}))
        .await
        .unwrap();
    let refused = rotated
        .legacy(me, &lost, 3, "x/facts", json!({}))
        .await
        .unwrap_err();
    assert_eq!(refused, UpstreamError::Disabled);
    let rotated = bridge("rotated");
    let session = rotated.session(me).await.unwrap();
    let facts = rotated
        .legacy(me, &session, 1, "x/facts", json!({}))
        .await
        .unwrap();
    assert_eq!(facts.result()["env"]["SECRET"], "second");

    let none = Config::parse(std::path::Path::new("t"), "trust_domain = \"a\"").unwrap();
    upstreams.reload(&none).unwrap();
    assert!(upstreams.get(&"same".parse().unwrap()).is_none());
    upstreams.stop().await;
    assert!(
        !is_there(&facts.result()["pid"]),
        "stopping waits also for what was replaced"
    );
}
