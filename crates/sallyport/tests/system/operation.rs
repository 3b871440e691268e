//! Running it: reload, readiness, metrics, an orderly end, and evidence that was tampered with.

use serde_json::{Value, json};

use crate::support::agent::{Agent, Token};
use crate::support::http::Call;
use crate::support::sdk::{self, CLOCK, time_server};
use crate::support::{Gateway, PERMIT_ALL, SALLYPORT, Setup, signal};

const FORBID: &str = "permit(principal, action, resource);\n\
    @id(\"nobody-calls-tools\")\n\
    forbid(principal, action == Sallyport::Action::\"call_tool\", resource);\n";

async fn clock() -> (Gateway, Agent, Token) {
    let server = time_server();
    let gateway = Setup::new()
        .stdio("clock", &server)
        .template("clock", CLOCK)
        .start()
        .await;
    let agent = gateway.agent("agent").await;
    let task = agent.open_task("clock", json!({})).await;
    let token = agent.token("clock", &task, true).await;
    (gateway, agent, token)
}

async fn call(agent: &Agent, token: &Token) -> Value {
    agent
        .call(token, "get_current_time", json!({ "timezone": "UTC" }))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_files_are_taken_up_and_broken_ones_are_not() {
    let (mut gateway, agent, token) = clock().await;
    let file = gateway.dir().join("policies/test.cedar");
    let before = call(&agent, &token).await;
    assert!(before["result"].is_object(), "{before}");

    std::fs::write(&file, FORBID).unwrap();
    gateway
        .wait_until("the new policy holds", async |_| {
            let answer = call(&agent, &token).await;
            answer["error"]["data"]["rule"] == "policy_forbids"
        })
        .await;
    // A tool that policy forbids is not listed either.
    let tools = agent.ask(&token, "tools/list", json!({})).await.json();
    assert_eq!(tools["result"]["tools"], json!([]), "{tools}");

    std::fs::write(&file, "permit(principal, action, resource").unwrap();
    gateway
        .wait_until("the broken change is told", async |gateway| {
            let status = gateway.managed("GET", "/v1/status", Value::Null).await;
            status["setup_problem"].to_string().contains("test.cedar")
        })
        .await;
    let answer = call(&agent, &token).await;
    assert_eq!(
        answer["error"]["data"]["rule"], "policy_forbids",
        "the last good state is kept"
    );
    let checked = gateway.run(&["check"]);
    assert_eq!(checked.status.code(), Some(1));

    std::fs::write(&file, PERMIT_ALL).unwrap();
    gateway
        .wait_until("the mended policy holds", async |_| {
            call(&agent, &token).await["result"].is_object()
        })
        .await;
    // Asked for, too.
    std::fs::write(&file, FORBID).unwrap();
    signal(gateway.pid(), "HUP");
    gateway
        .wait_until("the policy holds after SIGHUP", async |_| {
            call(&agent, &token).await["error"]["data"]["rule"] == "policy_forbids"
        })
        .await;
    let changes: Vec<Value> = gateway
        .records()
        .into_iter()
        .filter(|record| record["event"] == "change")
        .collect();
    assert!(
        changes
            .iter()
            .any(|change| change["change"] == "policy.reloaded"
                || change["change"]
                    .as_str()
                    .is_some_and(|name| name.contains("reload"))),
        "{changes:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_tells_how_it_is() {
    let (gateway, agent, token) = clock().await;
    call(&agent, &token).await;
    for path in ["/livez", "/readyz"] {
        let answer = Call::get(&format!("{}{path}", gateway.control))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{path}");
    }
    let metrics = Call::get(&format!("{}/metrics", gateway.control))
        .send()
        .await
        .unwrap();
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    for name in [
        "sallyport_actions_permitted_total",
        "sallyport_action_seconds_bucket",
    ] {
        assert!(text.contains(name), "{name}: {text}");
    }
    let metadata = Call::get(&format!(
        "{}/.well-known/oauth-authorization-server",
        gateway.control
    ));
    let metadata = metadata.send().await.unwrap().json();
    assert_eq!(metadata["issuer"], gateway.control.as_str());
    let resource = format!(
        "{}/.well-known/oauth-protected-resource/mcp/clock",
        gateway.gateway
    );
    let resource = Call::get(&resource).send().await.unwrap().json();
    assert_eq!(
        resource["resource"],
        format!("{}/mcp/clock", gateway.gateway)
    );
    assert_eq!(resource["authorization_servers"], json!([gateway.control]));
    // Without a token the client is told where to go.
    let bare = Call::post(&format!("{}/mcp/clock", gateway.gateway)).json(&json!({}));
    let answer = bare.send().await.unwrap();
    assert_eq!(answer.status, 401);
    assert!(
        answer
            .header("www-authenticate")
            .contains("resource_metadata="),
        "{answer:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_end_finishes_what_is_in_flight() {
    let (mut gateway, agent, token) = clock().await;
    call(&agent, &token).await;
    let status = gateway.terminate();
    assert!(status.success(), "{status}: {}", gateway.stderr());
    gateway.verify();
    let records = gateway.records();
    let last = records.last().unwrap();
    assert_eq!(last["event"], "change", "{last}");
    let permitted = records
        .iter()
        .filter(|r| r["event"] == "intent" && r["permitted"] == true)
        .count();
    let results = records.iter().filter(|r| r["event"] == "result").count();
    assert_eq!(permitted, results);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_never_share_a_data_directory() {
    let (gateway, ..) = clock().await;
    let output = gateway.run(&["serve"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn a_listener_that_others_can_reach_needs_tls() {
    let dir = tempfile::tempdir().unwrap();
    let config = "trust_domain = \"example.org\"\n[gateway]\nlisten = \"0.0.0.0:0\"\n";
    std::fs::write(dir.path().join("sallyport.toml"), config).unwrap();
    let output = std::process::Command::new(SALLYPORT)
        .arg("serve")
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("TLS"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_byte_is_found_and_named() {
    let (mut gateway, agent, token) = clock().await;
    for _ in 0..5 {
        call(&agent, &token).await;
    }
    let kept = gateway.run(&["audit", "checkpoint"]);
    assert!(kept.status.success());
    std::fs::write(gateway.dir().join("kept"), &kept.stdout).unwrap();
    gateway.terminate();
    let trusted = gateway.run(&["audit", "verify", "--checkpoint", "kept"]);
    assert!(trusted.status.success(), "{trusted:?}");

    let bundle = entries(&gateway.log_dir().join("tile/entries"));
    let bytes = std::fs::read(&bundle).unwrap();
    let needle = b"get_current_time";
    let at = bytes
        .windows(needle.len())
        .position(|window| window == needle)
        .unwrap();
    // Which record that is.
    let (mut index, mut offset) = (0, 0);
    loop {
        let length = usize::from(u16::from_be_bytes([bytes[offset], bytes[offset + 1]]));
        if offset + 2 + length > at {
            break;
        }
        offset += 2 + length;
        index += 1;
    }
    let mut changed = bytes.clone();
    changed[at] = b'G';
    std::fs::write(&bundle, &changed).unwrap();
    let output = gateway.run(&["audit", "verify"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        said.contains(&index.to_string()),
        "record {index} is not named: {said}"
    );
    std::fs::write(&bundle, &bytes).unwrap();
    gateway.verify();
}

/// The only file of entries of a short log.
fn entries(folder: &std::path::Path) -> std::path::PathBuf {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path)
            } else {
                files.push(path)
            }
        }
    }
    // The widest partial bundle is the one that the checkpoint is about.
    let width = |path: &std::path::PathBuf| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .parse::<u64>()
            .unwrap_or(0)
    };
    files.sort_by_key(width);
    files.pop().unwrap()
}

#[test]
fn a_new_configuration_passes_its_own_check() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        std::process::Command::new(SALLYPORT)
            .args(arguments)
            .current_dir(dir.path())
            .env("NO_COLOR", "1")
            .output()
            .unwrap()
    };
    assert!(run(&["init"]).status.success());
    let checked = run(&["check"]);
    assert!(checked.status.success(), "{checked:?}");
    // A second `init` overwrites nothing.
    std::fs::write(dir.path().join("sallyport.toml"), "trust_domain = 7\n").unwrap();
    assert_eq!(run(&["init"]).status.code(), Some(1));
    let checked = run(&["check"]);
    assert_eq!(checked.status.code(), Some(1));
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&checked.stdout),
        String::from_utf8_lossy(&checked.stderr)
    );
    assert!(said.contains("sallyport.toml:1"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_program_verifies_the_log() {
    let (mut gateway, agent, token) = clock().await;
    // Enough for a full tile and a partial one.
    for _ in 0..150 {
        call(&agent, &token).await;
    }
    gateway.terminate();
    let vkey = std::fs::read_to_string(gateway.log_dir().join("log.vkey")).unwrap();
    let verify = || {
        let script =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/log/verify.py");
        std::process::Command::new(sdk::home().join("venv/bin/python"))
            .arg(script)
            .arg(gateway.log_dir())
            .arg(vkey.trim())
            .output()
            .unwrap()
    };
    let good = verify();
    assert!(
        good.status.success(),
        "{}",
        String::from_utf8_lossy(&good.stderr)
    );
    let told = String::from_utf8(good.stdout).unwrap();
    let size: usize = told.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(size, gateway.records().len());
    assert!(size > 256, "{size}");
    let bundle = gateway.log_dir().join("tile/entries/000");
    let mut bytes = std::fs::read(&bundle).unwrap();
    bytes[1_000] ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    assert!(!verify().status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_with_tls_serve_commands_and_the_connector() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let server = time_server();
    let setup = Setup::new()
        .stdio("clock", &server)
        .template("clock", CLOCK);
    let gateway = setup
        .start_with_tls(&made.cert.pem(), &made.signing_key.serialize_pem())
        .await;
    let (ca, folder) = (gateway.dir().join("cert.pem"), gateway.dir().join("agent"));
    let (ca, folder) = (ca.to_str().unwrap(), folder.to_str().unwrap());
    let register = [
        "agent",
        "register",
        "agent",
        "--sponsor",
        "ada@example.org",
        "--json",
    ];
    let made = gateway.run_json(&[&register[..], &["--ca", ca]].concat());
    let token = made["enrolment"]["token"].as_str().unwrap();
    let enrolled = std::process::Command::new(SALLYPORT)
        .args([
            "agent",
            "enroll",
            "--control",
            &gateway.control,
            "--instance",
            folder,
            "--ca",
            ca,
        ])
        .env("SALLYPORT_ENROLMENT_TOKEN", token)
        .output()
        .unwrap();
    assert!(
        enrolled.status.success(),
        "{}",
        String::from_utf8_lossy(&enrolled.stderr)
    );
    let plan = json!({
        "stdio": [SALLYPORT, "connect", "clock", "--template", "clock", "--instance", folder, "--ca", ca],
        "calls": [["get_current_time", { "timezone": "Europe/Berlin" }]],
    });
    let seen = sdk::Client::Python.drive(&plan).await;
    assert!(
        seen["calls"][0]["text"]
            .as_str()
            .unwrap()
            .contains("Europe/Berlin"),
        "{seen}"
    );
    // Somebody without the certificate does not trust it.
    let wary = gateway.run(&["status"]);
    assert_eq!(wary.status.code(), Some(1), "{wary:?}");
}
