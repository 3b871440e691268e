//! Programs of other people that tests drive: each kind is installed once per machine, by a script of its
//! own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// The folder of a kind of programs, `tests/<kind>`.
pub(crate) fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests")
        .join(kind)
}

/// Installs a kind of programs; where they are.
pub(crate) fn install(kind: &str) -> PathBuf {
    let output = Command::new(folder(kind).join("install"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{kind} cannot be installed");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// Gives a program its plan, and reads what came of it; both are JSON.
pub(crate) async fn carry_out(mut command: Command, plan: &Value) -> Value {
    let plan = plan.to_string();
    tokio::task::spawn_blocking(move || {
        use std::io::Write as _;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(plan.as_bytes()).unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{command:?} failed:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    })
    .await
    .unwrap()
}
