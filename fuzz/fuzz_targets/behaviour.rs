//! Records in any order and with any content: nothing panics, and what is known can be kept and read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::record::Record;
use monitor::behaviour::{Behaviour, Settings};
use monitor::incidents::Incidents;

fuzz_target!(|text: &str| {
    let mut behaviour = Behaviour::new(Settings::default());
    let mut incidents = Incidents::default();
    for record in text.lines().filter_map(|line| serde_json::from_str::<Record>(line).ok()) {
        for finding in behaviour.observe(&record) {
            incidents.take(finding, record.time);
        }
    }
    let kept = serde_json::to_string(&behaviour).expect("it can be kept");
    let read: Behaviour = serde_json::from_str(&kept).expect("it can be read");
    assert_eq!(read.evicted(), behaviour.evicted());
});
