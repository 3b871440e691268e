//! What the database says in errors and notices: they quote values, and agents show them to their models.

use std::borrow::Cow;

use bytes::{BufMut as _, BytesMut};
use gateway::inspection::{About, Verdict, What};
use gateway::pipeline::Denied;

use super::super::expected::denied;
use super::super::relay::Relay;
use crate::wire::Message;
use crate::wire::backend::{ErrorResponse, put};

/// Fields of which nobody but the database and its manual says the text (§55.8): severity, code, position,
/// where in its source.
const CODES: &[u8] = b"SVCPpFLR";

impl Relay<'_> {
    /// An error or a notice as it may pass; `None` when it may not, and is not needed.
    pub(in crate::session) fn looked_at_said<'m>(
        &mut self,
        message: &'m Message,
    ) -> Option<Cow<'m, [u8]>> {
        let as_it_is = Some(Cow::Borrowed(&message.bytes[..]));
        let (target, decision) = match self.running() {
            Some(running) => (running.rows.target(), Some(running.permit.decision())),
            None => (String::new(), None),
        };
        let about = About {
            what: What::Rows,
            caller: &self.caller,
            server: &self.route.server,
            target: &target,
            decision,
        };
        let inspection = self.endpoint.pipeline.inspection();
        if !inspection.looks(&about) {
            return as_it_is;
        }
        let Some(fields) = fields(message.body()) else {
            // It is no message that clients understand either.
            return None;
        };
        let texts: Vec<Cow<'_, str>> = fields
            .iter()
            .map(|(tag, text)| match CODES.contains(tag) {
                true => Cow::Borrowed(""),
                false => String::from_utf8_lossy(text),
            })
            .collect();
        let named: Vec<(&str, &str)> = texts.iter().map(|text| ("", &**text)).collect();
        match inspection.fields(&about, &named) {
            Verdict::Pass => as_it_is,
            Verdict::Redacted(others) => {
                let mut buffer = BytesMut::new();
                put(&mut buffer, message.tag, |body| {
                    for ((tag, text), other) in fields.iter().zip(&others) {
                        let text = other.as_ref().map_or(*text, |other| other.as_bytes());
                        body.put_u8(*tag);
                        body.put_slice(text);
                        body.put_u8(0);
                    }
                    body.put_u8(0);
                });
                Some(Cow::Owned(buffer.to_vec()))
            }
            Verdict::Blocked(_) if message.tag == b'N' => None,
            Verdict::Blocked(denial) => {
                let is_fatal = |(tag, text): &(u8, &[u8])| {
                    *tag == b'V' && (*text == b"FATAL" || *text == b"PANIC")
                };
                let error = match decision {
                    Some(decision) => denied(&Denied {
                        decision,
                        denial,
                        requested: None,
                        retry_after: None,
                    }),
                    None => ErrorResponse::new("42501", denial.reason).hint(denial.remedy),
                };
                let error = ErrorResponse {
                    fatal: fields.iter().any(is_fatal),
                    ..error
                };
                Some(Cow::Owned(error.to_bytes().to_vec()))
            }
        }
    }
}

/// The fields of an error or a notice, each with its type; `None` when it is not one.
fn fields(body: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut fields = Vec::new();
    let mut rest = body;
    loop {
        let (tag, after) = rest.split_first()?;
        if *tag == 0 {
            return after.is_empty().then_some(fields);
        }
        let end = after.iter().position(|byte| *byte == 0)?;
        fields.push((*tag, after.get(..end)?));
        rest = after.get(end + 1..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_read_to_the_end() {
        let error = ErrorResponse::new("23505", "no").detail("Key (x)=(y)");
        let bytes = error.to_bytes();
        let read = fields(&bytes[crate::wire::HEADER..]).unwrap();
        assert_eq!(read.last(), Some(&(b'D', &b"Key (x)=(y)"[..])));
        assert_eq!(fields(b"Mno\0"), None);
        assert_eq!(fields(b"Mno\0\0x"), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_does_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = fields(&bytes);
        }
    }
}
