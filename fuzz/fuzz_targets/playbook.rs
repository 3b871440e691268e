//! Playbooks: whatever is read is sound enough to be run dry to an end, and to be read aloud.
#![no_main]
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use response::playbook::procedure;
use response::run::About;
use response::{Modes, Playbook, Run};

fuzz_target!(|text: &[u8]| {
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let _ = response::playbook::condition::Condition::parse(text);
    let Ok(playbook) = Playbook::parse(text) else {
        return;
    };
    let _ = procedure::of(&playbook, "fuzz", &Modes::default());
    let now = Timestamp::UNIX_EPOCH;
    let (id, by) = ("run".to_owned(), "fuzz".to_owned());
    let mut run = Run::begin(id, "fuzz", &playbook, About::default(), by, true, now);
    run.go_on(&playbook, &Modes::default(), now);
    assert!(run.state.is_over(), "a dry run waits for nobody");
});
