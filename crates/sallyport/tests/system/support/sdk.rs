//! The official clients and servers, installed once per machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use super::packages;

/// Where the packages are.
pub(crate) fn home() -> &'static Path {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    HOME.get_or_init(|| packages::install("sdk"))
}

fn text(path: PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

/// The command of the official file server (revisions before 2026-07-28), serving a folder.
pub(crate) fn file_server(serves: &Path) -> Vec<String> {
    let program = "node_modules/@modelcontextprotocol/server-filesystem/dist/index.js";
    vec![
        text(home().join("bin/node")),
        text(home().join(program)),
        text(serves.to_owned()),
    ]
}

/// The command of the official time server (speaks 2026-07-28 too).
pub(crate) fn time_server() -> Vec<String> {
    vec![text(home().join("venv/bin/mcp-server-time"))]
}

/// A template for it, when it is called `clock`.
pub(crate) const CLOCK: &str = r#"
description = "Tell the time"
agents = ["*"]
ttl = "10m"

[[allow]]
server = "clock"
tools = ["get_current_time"]
"#;

/// An official client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    /// Python `mcp` 2.3
    Python,
    /// npm `@modelcontextprotocol/sdk` 1.32
    TypeScript1,
    /// npm `@modelcontextprotocol/client` 2.4
    TypeScript2,
}

impl Client {
    pub(crate) const ALL: [Self; 3] = [Self::Python, Self::TypeScript1, Self::TypeScript2];

    /// Carries out a plan (see `tests/sdk/drive.py`).
    pub(crate) async fn drive(self, plan: &Value) -> Value {
        let (mut command, script) = match self {
            Self::Python => (Command::new(home().join("venv/bin/python")), "drive.py"),
            Self::TypeScript1 | Self::TypeScript2 => {
                (Command::new(home().join("bin/node")), "drive.mjs")
            }
        };
        command.arg(packages::folder("sdk").join(script));
        match self {
            Self::Python => {}
            Self::TypeScript1 => drop(command.arg("v1").arg(home())),
            Self::TypeScript2 => drop(command.arg("v2").arg(home())),
        }
        packages::carry_out(command, plan).await
    }
}
