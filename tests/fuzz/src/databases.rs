//! PostgreSQL: what clients and databases send, and what statements say.

use std::collections::BTreeSet;

use bytes::BytesMut;
use postgres::sql::lexer::lex;
use postgres::sql::{Catalog, analyse};
use postgres::wire::backend::{ErrorResponse, read_error};
use postgres::wire::frontend::Frontend;
use postgres::wire::startup::Startup;
use postgres::wire::value::{Format, Read, elements, read};

/// What clients send: whatever arrives is read to its end or refused.
pub fn frontend(bytes: &[u8]) {
    let _ = Startup::read(bytes);
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(message)) = postgres::wire::next(&mut buffer, 1 << 16) {
        let _ = Frontend::read(&message);
    }
}

/// What databases send: messages, errors and values of every type. An error that is passed on says what it said, and no
/// value has more elements than bytes.
pub fn backend(bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(message)) = postgres::wire::next(&mut buffer, 1 << 16) {
        let body = message.body();
        let (_, said) = read_error(body);
        let sent = ErrorResponse::new("XX000", said.clone()).to_bytes();
        let (code, again) = read_error(sent.get(5..).expect("a message has a header"));
        assert_eq!((code.as_str(), again), ("XX000", said));
        let Some((oid, value)) = body.split_first_chunk::<4>() else {
            continue;
        };
        // Types that there are have small numbers, those of arrays among them.
        let oid = u32::from_be_bytes(*oid) % 4_096;
        for format in [Format::Text, Format::Binary] {
            if let Some(Read::Elements(all)) = read(oid, format, value) {
                assert!(all.len() <= value.len());
            }
        }
        if let Some(text) = crate::text(value) {
            let count = elements(text).map_or(0, |all| all.len());
            assert!(count <= text.len());
        }
    }
}

/// Statements: whatever is said is understood or refused, and its shape means itself.
pub fn statement(bytes: &[u8]) {
    let Some(text) = crate::text(bytes) else {
        return;
    };
    let catalog = Catalog::default();
    for one in lex(text).unwrap_or_default() {
        let _ = analyse(&one, &catalog, &BTreeSet::new());
        let again = lex(&one.shape).expect("a shape is plain");
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].shape, one.shape);
    }
}
