//! `sallyport audit verify --evidence`: that the records in a file of evidence are in the log, without the
//! log.

use std::path::Path;

use ::audit::{VerifierKey, check_proof};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output::{self, FAINT, GOOD, WARN, paint};

/// What such a file says of itself.
const FORMAT: &str = "sallyport-evidence/1";
/// Longest file, in bytes.
const BYTES: u64 = 1 << 30;

#[derive(Deserialize)]
struct Bundle {
    format: String,
    made_at: Timestamp,
    about: Value,
    vkey: String,
    cut: bool,
    #[serde(default)]
    incident: Option<Value>,
    records: Vec<Proven>,
}

#[derive(Deserialize)]
struct Proven {
    index: u64,
    record: String,
    proof: String,
}

/// Verifies a file of evidence, with the key of the log from elsewhere, or with the one in the file.
pub(super) fn verify(
    file: &Path,
    vkey: Option<&VerifierKey>,
    as_json: bool,
) -> Result<(), Failure> {
    let shown = file.display();
    let length = std::fs::metadata(file).map(|about| about.len());
    if length.is_ok_and(|length| length > BYTES) {
        return Err(Failure::new(format!(
            "{shown} is longer than {BYTES} bytes"
        )));
    }
    let text = std::fs::read(file)
        .map_err(|error| Failure::new(format!("{shown} cannot be read: {error}")))?;
    let bundle: Bundle = serde_json::from_slice(&text)
        .map_err(|error| Failure::not_verified(format!("{shown} is no evidence: {error}")))?;
    if bundle.format != FORMAT {
        return Err(Failure::not_verified(format!("{shown} is no `{FORMAT}`")));
    }
    let own: VerifierKey = bundle
        .vkey
        .parse()
        .map_err(|error| Failure::not_verified(format!("the key in {shown} is none: {error}")))?;
    let key = vkey.unwrap_or(&own);
    let mut before = None;
    for one in &bundle.records {
        let failed = |why: &dyn std::fmt::Display| {
            Failure::not_verified(format!(
                "record {} in {shown} is not proved: {why}",
                one.index
            ))
            .hint("do not rely on the file; see that it is the key of the right log")
        };
        let proven =
            check_proof(&one.proof, one.record.as_bytes(), key).map_err(|error| failed(&error))?;
        if proven.index != one.index {
            return Err(failed(&"the proof is of another record"));
        }
        if before.is_some_and(|before| before >= one.index) {
            return Err(failed(&"the records are not in the order of the log"));
        }
        before = Some(one.index);
    }
    let count = bundle.records.len();
    if as_json {
        return output::json(&json!({
            "ok": true, "records": count, "about": bundle.about, "made_at": bundle.made_at,
            "vkey": key.to_string(), "key_from_elsewhere": vkey.is_some(), "cut": bundle.cut,
        }));
    }
    let mut rows = vec![
        (
            "proved",
            paint(GOOD.bold(), format_args!("{count} records, all in the log")),
        ),
        ("about", output::visible(&bundle.about.to_string())),
        ("made", output::instant(bundle.made_at)),
        ("log", key.to_string()),
    ];
    if bundle.incident.is_some() {
        rows.push((
            "incident",
            paint(FAINT, "as it was then; only its records are proved"),
        ));
    }
    if bundle.cut {
        rows.push((
            "",
            paint(WARN, "there were more records than are in the file"),
        ));
    }
    if vkey.is_none() {
        let advice = "the key is the file's own: give the log's with --vkey to be sure that it is the right log";
        rows.push(("", paint(WARN, advice)));
    }
    output::sheet(&rows)
}
