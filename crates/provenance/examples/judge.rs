//! Judges calls from standard input, one JSON object on each line, and answers on standard output.
//!
//! ```text
//! judge mail=annotations/mail.toml
//! {"do":"open","task":"1","purpose":"…","parameters":{},"today":"2026-01-31"}
//! {"do":"result","task":"1","server":"mail","tool":"search","arguments":{},"result":[]}
//! {"do":"check","task":"1","server":"mail","tool":"send","arguments":{"to":"a@example.org"}}
//! {"do":"close","task":"1"}
//! ```

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::io::{self, BufRead, Write};
use std::path::Path;

use provenance::{Annotations, Called, Ledger};
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Ask {
    Open {
        task: String,
        purpose: String,
        #[serde(default)]
        parameters: BTreeMap<String, String>,
        today: Option<jiff::civil::Date>,
    },
    Result {
        task: String,
        server: String,
        tool: String,
        arguments: Map<String, Value>,
        result: Value,
    },
    Check {
        task: String,
        server: String,
        tool: String,
        arguments: Map<String, Value>,
    },
    Close {
        task: String,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut servers = HashMap::new();
    for argument in std::env::args().skip(1) {
        let (server, file) = argument.split_once('=').ok_or("write SERVER=FILE")?;
        let text = std::fs::read_to_string(file)?;
        let annotations = Annotations::parse(Path::new(file), &text).map_err(|mistakes| {
            let said: Vec<String> = mistakes
                .iter()
                .map(|mistake| mistake.message.clone())
                .collect();
            said.join("\n")
        })?;
        servers.insert(server.to_owned(), annotations);
    }
    let mut tasks: HashMap<String, Ledger> = HashMap::new();
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let answer = match serde_json::from_str(&line?)? {
            Ask::Open {
                task,
                purpose,
                parameters,
                today,
            } => {
                let mut ledger = Ledger::new();
                ledger.note_input(&purpose, &parameters, today);
                tasks.insert(task, ledger);
                json!({})
            }
            Ask::Result {
                task,
                server,
                tool,
                arguments,
                result,
            } => {
                let ledger = tasks.get_mut(&task).ok_or("no such task")?;
                let called = Called::new(&server, &tool, &arguments);
                ledger.note_result(servers.get(&server), &called, &result);
                json!({})
            }
            Ask::Check {
                task,
                server,
                tool,
                arguments,
            } => {
                let ledger = tasks.get(&task).ok_or("no such task")?;
                let annotations = servers.get(&server).ok_or("no such server")?;
                let verdict = ledger.check(annotations, &tool, &arguments);
                json!({ "accepted": verdict.is_accepted(), "says": verdict.to_string(), "verdict": verdict })
            }
            Ask::Close { task } => {
                tasks.remove(&task);
                json!({})
            }
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}
