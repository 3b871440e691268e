//! Evidence: all records about something, each with the proof that it is in the log, in one file that can be
//! checked by whoever has the log's verifier key, without the log and without Sallyport.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use model::record::Record;
use model::{AgentName, TaskId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Responder;
use crate::engine::EngineError;

/// What the file says of itself.
pub(crate) const FORMAT: &str = "sallyport-evidence/1";
/// Most records of one file, and most that are looked at for them, the latest first.
const RECORDS: usize = 20_000;
const LOOKED_AT: u64 = 2_000_000;
/// How much evidence there may be in all, in bytes.
const ALL_BYTES: u64 = 4 << 30;
/// How long the checkpoint over the last records is waited for.
const CHECKPOINT: Duration = Duration::from_secs(5);

/// What evidence is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<AgentName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) task: Option<TaskId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) incident: Option<String>,
}

/// The file.
#[derive(Debug, Serialize)]
struct Bundle {
    format: &'static str,
    made_at: Timestamp,
    about: About,
    /// The verifier key of the log. Have it from elsewhere to be sure of it.
    vkey: String,
    /// Whether there were more records than are here.
    cut: bool,
    /// The incident and its findings, as they were then. These are not in proofs; their records are.
    #[serde(skip_serializing_if = "Option::is_none")]
    incident: Option<Value>,
    records: Vec<Proven>,
}

/// A record and its proof (C2SP tlog-proof).
#[derive(Debug, Serialize)]
struct Proven {
    index: u64,
    record: String,
    proof: String,
}

/// Collects evidence into a file; returns its name. `key` names it, so that a second time replaces it.
pub(super) async fn collect(
    responder: &Arc<Responder>,
    about: About,
    key: &str,
) -> Result<String, EngineError> {
    let engine = &responder.engine;
    // All that was submitted before is in the log when this record is.
    let incident = match about.incident.as_deref().map(str::parse::<u64>) {
        Some(Ok(id)) => engine.watch().incident(id).await?,
        Some(Err(_)) => {
            return Err(EngineError::invalid(
                "`incident` is the number of an incident",
            ));
        }
        None => None,
    };
    let mut agents: BTreeSet<String> = about.agent.iter().map(ToString::to_string).collect();
    let mut tasks: BTreeSet<String> = about.task.iter().map(ToString::to_string).collect();
    if let Some(incident) = &incident
        && agents.is_empty()
        && tasks.is_empty()
    {
        agents.extend(incident.agents.iter().map(ToString::to_string));
        tasks.extend(incident.tasks.iter().map(ToString::to_string));
    }
    let file = responder.evidence.join(file_name(key));
    let record = Record::change(
        Timestamp::now(),
        "sallyport",
        "evidence.collected",
        file_name(key),
    )
    .with("about", serde_json::to_value(&about).unwrap_or_default());
    let size = engine.record(record).await?;
    let collecting = Collecting {
        log: responder.log_dir.clone(),
        file: file.clone(),
        size,
        sought: Sought {
            agents,
            tasks,
            incident: about.incident.clone(),
            decisions: BTreeSet::new(),
        },
        about,
        incident: incident.and_then(|it| serde_json::to_value(it).ok()),
    };
    let failed = |why: String| {
        EngineError::conflict(
            format!("the evidence could not be collected: {why}"),
            "see that the data directory has room and the log verifies, and collect it again",
        )
    };
    let count = tokio::task::spawn_blocking(move || collecting.run())
        .await
        .map_err(|error| failed(error.to_string()))?
        .map_err(failed)?;
    Ok(format!("{} ({count} records)", file.display()))
}

fn file_name(key: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' {
            c
        } else {
            '-'
        }
    };
    let name: String = key.chars().map(plain).take(100).collect();
    format!("{name}.evidence.json")
}

struct Collecting {
    log: PathBuf,
    file: PathBuf,
    size: u64,
    sought: Sought,
    about: About,
    incident: Option<Value>,
}

/// What records are sought.
struct Sought {
    agents: BTreeSet<String>,
    tasks: BTreeSet<String>,
    incident: Option<String>,
    decisions: BTreeSet<String>,
}

impl Sought {
    /// Whether a record is about what is sought. Records come in the order of the log, so that the end of an
    /// action is known by its beginning.
    fn wants(&mut self, record: &Value) -> bool {
        let text =
            |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let one_of = |set: &BTreeSet<String>, value: Option<String>| {
            value.is_some_and(|it| set.contains(&it))
        };
        let details = record.get("details").cloned().unwrap_or_default();
        let about = details.get("about").cloned().unwrap_or_default();
        let mut wanted = [record, &details, &about].into_iter().any(|place| {
            one_of(&self.agents, text(place, "agent")) || one_of(&self.tasks, text(place, "task"))
        });
        let subject = text(record, "subject");
        wanted |= one_of(&self.agents, subject.clone()) || one_of(&self.tasks, subject);
        let within = record.get("within").and_then(Value::as_array);
        wanted |= within.into_iter().flatten().any(|above| {
            let task = above
                .as_str()
                .map(str::to_owned)
                .or_else(|| text(above, "task"));
            one_of(&self.tasks, task)
        });
        let decision = text(record, "decision");
        wanted |= one_of(&self.decisions, decision.clone());
        if let Some(incident) = &self.incident {
            let names = |value: &Value| match value.get("incident") {
                Some(Value::String(id)) => id == incident,
                Some(Value::Number(id)) => id.to_string() == *incident,
                _ => false,
            };
            wanted |= names(record) || names(&details) || names(&about);
        }
        if wanted && let Some(decision) = decision {
            self.decisions.insert(decision);
        }
        wanted
    }
}

impl Collecting {
    fn run(mut self) -> Result<usize, String> {
        let failed = |error: &dyn std::fmt::Display| error.to_string();
        if let Some(folder) = self.file.parent()
            && folder_bytes(folder) > ALL_BYTES
        {
            return Err(format!(
                "there are 4 GiB of evidence in {} already: move what is old elsewhere",
                folder.display()
            ));
        }
        let mut reader = audit::Reader::open(&self.log).map_err(|error| failed(&error))?;
        let begun = Instant::now();
        // The last record is covered by a checkpoint a moment after it was written.
        while reader.checkpoint().is_none_or(|it| it.size() <= self.size) {
            if begun.elapsed() > CHECKPOINT {
                return Err("the log's checkpoint is not signed".to_owned());
            }
            std::thread::sleep(Duration::from_millis(20));
            reader.refresh().map_err(|error| failed(&error))?;
        }
        let end = self.size + 1;
        let mut found: std::collections::VecDeque<(u64, String)> = Default::default();
        let mut cut = end > LOOKED_AT;
        for entry in reader.entries(end.saturating_sub(LOOKED_AT)..end) {
            let (index, bytes) = entry.map_err(|error| failed(&error))?;
            let Ok(value) = serde_json::from_slice::<Value>(&bytes) else {
                continue;
            };
            if !self.sought.wants(&value) {
                continue;
            }
            if let Ok(text) = std::str::from_utf8(&bytes) {
                found.push_back((index, text.to_owned()));
            }
            if found.len() > RECORDS {
                cut = true;
                found.pop_front();
            }
        }
        let mut records = Vec::with_capacity(found.len());
        for (index, record) in found {
            let proof = reader.prove(index).map_err(|error| failed(&error))?;
            records.push(Proven {
                index,
                record,
                proof: proof.to_string(),
            });
        }
        let count = records.len();
        let bundle = Bundle {
            format: FORMAT,
            made_at: Timestamp::now(),
            about: self.about,
            vkey: reader.verifier().to_string(),
            cut,
            incident: self.incident,
            records,
        };
        let text = serde_json::to_vec(&bundle).map_err(|error| failed(&error))?;
        write(&self.file, &text).map_err(|error| failed(&error))?;
        Ok(count)
    }
}

/// How long the files of a folder are together; a folder that is not there is empty.
fn folder_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.metadata().ok())
        .map(|about| about.len())
        .sum()
}

/// Writes a file that only this user can read, as a whole or not at all.
fn write(file: &Path, text: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let part = file.with_extension("part");
    let mut open = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    open.write_all(text)?;
    open.sync_all()?;
    std::fs::rename(&part, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn records_about_what_is_sought_are_found_and_no_others() {
        let set = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect();
        let mut sought = Sought {
            agents: set(&["triage"]),
            tasks: set(&["task_1"]),
            incident: Some("7".to_owned()),
            decisions: BTreeSet::new(),
        };
        for (wanted, record) in [
            (
                true,
                json!({ "event": "intent", "agent": "triage", "decision": "d1" }),
            ),
            (true, json!({ "event": "result", "decision": "d1" })),
            (false, json!({ "event": "result", "decision": "d2" })),
            (
                true,
                json!({ "event": "intent", "agent": "helper", "within": [{ "task": "task_1" }] }),
            ),
            (true, json!({ "event": "change", "subject": "triage" })),
            (
                true,
                json!({ "event": "change", "subject": "x", "details": { "agent": "triage" } }),
            ),
            (true, json!({ "event": "finding", "incident": 7 })),
            (false, json!({ "event": "finding", "incident": 8 })),
            (false, json!({ "event": "change", "subject": "triage-2" })),
        ] {
            assert_eq!(sought.wants(&record), wanted, "{record}");
        }
    }

    #[test]
    fn a_file_is_named_by_what_it_is_for() {
        assert_eq!(file_name("run_1/2/0"), "run_1-2-0.evidence.json");
        assert_eq!(
            file_name("../../etc/passwd"),
            "------etc-passwd.evidence.json"
        );
    }
}
