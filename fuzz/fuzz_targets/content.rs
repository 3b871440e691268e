//! Any text, by the rules that come with the program: what is to be taken out lies in the text, in order; without it the rest is as it was; and with everything ignored, nothing is seen.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::contents::content(bytes));
