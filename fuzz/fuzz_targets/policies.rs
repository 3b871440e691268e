//! Cedar text: compiled or refused with places that lie within it.
#![no_main]
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;

fuzz_target!(|text: &str| {
    let sources = [(PathBuf::from("a.cedar"), text.to_owned())];
    if let Err(mistakes) = policy::Policies::compile(&sources) {
        assert!(!mistakes.is_empty());
        for mistake in mistakes {
            if let Some(span) = mistake.span {
                assert!(span.end <= text.len().max(span.start));
            }
        }
    }
});
