//! Rules of detectors: whatever an operator's file holds, it is refused with a reason or it works.
#![no_main]

use libfuzzer_sys::fuzz_target;
use monitor::content::{Canaries, Limits, Place, Policy, RuleSet, Scanner};

fuzz_target!(|text: &str| {
    let mut set = RuleSet::default();
    if set.add(text).is_ok()
        && let Ok(scanner) = Scanner::new(set, Limits::default(), Policy::default())
    {
        let _ = scanner.scan(text, Place::Result, &Canaries::default());
    }
});
