//! Cards: what is offered instead leads to the gateway, whatever the card says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::agents::card(bytes));
