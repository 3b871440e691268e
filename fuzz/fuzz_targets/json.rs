//! Strict JSON: whatever is accepted means the same to `serde_json`.
#![no_main]
use libfuzzer_sys::fuzz_target;
use model::json::{Limits, parse};

fuzz_target!(|text: &[u8]| {
    if let Ok(value) = parse(
        text,
        Limits {
            bytes: 1 << 16,
            depth: 32,
        },
    ) {
        let lenient: serde_json::Value = serde_json::from_slice(text).expect("stricter, not other");
        assert_eq!(value, lenient);
    }
});
