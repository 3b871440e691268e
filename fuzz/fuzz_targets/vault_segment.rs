//! Segments of the vault: whatever stands in a file, what can be read of it is read without a panic, and no
//! payload is longer than the file that it is in.
#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for head in vault::heads(bytes) {
        assert!(head.part.len() < bytes.len());
        let text = serde_json::to_vec(&head).expect("heads are maps with text keys");
        let again: vault::Head = serde_json::from_slice(&text).expect("it was read before");
        assert_eq!(again, head);
    }
});
