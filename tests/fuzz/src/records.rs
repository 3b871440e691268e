//! What is on the disk: records of the log, and segments of the vault.

use model::record::Record;
use monitor::behaviour::{Behaviour, Settings};
use monitor::incidents::Incidents;

use crate::text;

/// Records in any order and with any content: nothing panics, and what is known can be kept and read back.
pub fn behaviour(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let mut behaviour = Behaviour::new(Settings::default());
    let mut incidents = Incidents::default();
    let records = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Record>(line).ok());
    for record in records {
        for finding in behaviour.observe(&record) {
            incidents.take(finding, record.time);
        }
    }
    let kept = serde_json::to_string(&behaviour).expect("it can be kept");
    let read: Behaviour = serde_json::from_str(&kept).expect("it can be read");
    assert_eq!(read.evicted(), behaviour.evicted());
}

/// Segments: whatever stands in a file, what can be read of it is read without a panic, and no payload is longer than
/// the file that it is in.
pub fn vault_segment(bytes: &[u8]) {
    for head in vault::heads(bytes) {
        assert!(head.part.len() < bytes.len());
        let text = serde_json::to_vec(&head).expect("heads are maps with text keys");
        let again: vault::Head = serde_json::from_slice(&text).expect("it was read before");
        assert_eq!(again, head);
    }
}
