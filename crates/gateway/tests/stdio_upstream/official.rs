//! The official servers, of both eras.

use std::path::PathBuf;
use std::process::Command;

use http::StatusCode;
use serde_json::json;

use crate::bridge::{Bridge, command, limits, principal};

/// Where the official servers are installed.
fn sdk() -> PathBuf {
    let install = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/sdk/install");
    let output = Command::new(install)
        .output()
        .expect("tests/sdk/install runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

fn filesystem(folder: &str) -> Bridge {
    let sdk = sdk();
    let node = sdk.join("bin/node");
    let script = sdk.join("node_modules/@modelcontextprotocol/server-filesystem/dist/index.js");
    let words = [node.to_str().unwrap(), script.to_str().unwrap(), folder];
    Bridge::new(&command(&words), &limits())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filesystem_server_serves_a_session() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("note.txt"), "hello").unwrap();
    let bridge = filesystem(folder.path().to_str().unwrap());
    let me = principal(1);
    let session = bridge.session(me).await.unwrap();
    let listed = bridge
        .legacy(me, &session, 1, "tools/list", json!({}))
        .await
        .unwrap();
    let tools = listed.result()["tools"].as_array().unwrap();
    assert!(
        tools.iter().any(|tool| tool["name"] == "read_text_file"),
        "{tools:?}"
    );
    let path = folder.path().join("note.txt");
    let call = json!({"name": "read_text_file", "arguments": {"path": path}});
    let called = bridge
        .legacy(me, &session, 2, "tools/call", call)
        .await
        .unwrap();
    assert_eq!(called.messages.last().unwrap()["id"], 2);
    assert_eq!(called.result()["content"][0]["text"], "hello");
    bridge.upstream.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_both_eras_falls_back_at_the_filesystem_server() {
    let folder = tempfile::tempdir().unwrap();
    let bridge = filesystem(folder.path().to_str().unwrap());
    let me = principal(1);
    // The second time the verdict is known.
    for _ in 0..2 {
        let probe = bridge
            .modern(me, "probe", "server/discover", json!({}))
            .await
            .unwrap();
        assert_eq!(probe.status, StatusCode::BAD_REQUEST);
        assert_eq!(probe.one()["error"]["code"], -32_000);
        assert_eq!(probe.one()["id"], "probe");
    }
    bridge.session(me).await.unwrap();
    bridge.upstream.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_server_answers_requests_that_stand_for_themselves() {
    let program = sdk().join("venv/bin/mcp-server-time");
    let bridge = Bridge::new(&command(&[program.to_str().unwrap()]), &limits());
    let me = principal(1);
    let found = bridge
        .modern(me, "d", "server/discover", json!({}))
        .await
        .unwrap();
    assert_eq!(found.status, StatusCode::OK);
    assert!(
        found.result()["supportedVersions"]
            .to_string()
            .contains("2026-07-28"),
        "{found:?}"
    );
    let call = json!({"name": "get_current_time", "arguments": {"timezone": "UTC"}});
    let called = bridge.modern(me, 2, "tools/call", call).await.unwrap();
    assert_eq!(called.one()["id"], 2);
    assert!(
        called.result()["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("UTC"),
        "{called:?}"
    );
    let unknown = bridge.modern(me, 3, "x/unknown", json!({})).await.unwrap();
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(unknown.one()["error"]["code"], -32_601);
    bridge.upstream.stop().await;
}
