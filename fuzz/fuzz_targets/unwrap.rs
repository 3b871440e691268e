//! Texts inside texts: the bounds hold, and what is found lies in the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use monitor::content::unwrap::{Bounds, unwrap};

fuzz_target!(|text: &str| {
    let bounds = Bounds { depth: 3, layers: 8, bytes: 1 << 16 };
    let found = unwrap(text, bounds);
    assert!(found.layers.len() <= bounds.layers);
    assert!(found.layers.iter().map(|layer| layer.text.len()).sum::<usize>() <= bounds.bytes);
    for layer in &found.layers {
        assert!(text.get(layer.outer.0..layer.outer.1).is_some());
    }
});
