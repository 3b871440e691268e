//! Statements: whatever is said is understood or refused, and its shape means itself.
#![no_main]
use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use postgres::sql::lexer::lex;
use postgres::sql::{Catalog, analyse};

fuzz_target!(|text: &str| {
    let catalog = Catalog::default();
    for one in lex(text).unwrap_or_default() {
        let _ = analyse(&one, &catalog, &BTreeSet::new());
        let again = lex(&one.shape).expect("a shape is plain");
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].shape, one.shape);
    }
});
