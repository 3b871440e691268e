//! What the database answers: it is passed on, counted, and held against what was asked.

use std::borrow::Cow;

use bytes::BufMut as _;
use model::Spent;
use model::record::Ended;

use super::expected::{Expected, Running, denied};
use super::relay::{Copying, End, Relay};
use super::rows::Described;
use crate::wire::backend::{changed_rows, put, put_text};
use crate::wire::{self, HEADER, Message};

/// Longest message besides rows, in bytes.
const LONGEST: usize = 4 << 20;

impl Relay<'_> {
    /// Goes through what has arrived from the database.
    pub(super) fn answers(&mut self) -> Result<(), End> {
        let done = self.go_through();
        // What was passed on is counted, even if it is cut off here.
        let counted = self.settle();
        done.and(counted)
    }

    fn go_through(&mut self) -> Result<(), End> {
        loop {
            if self.passing > 0 {
                let part = self.passing.min(self.from_upstream.len());
                if part == 0 {
                    return Ok(());
                }
                let part = self.from_upstream.split_to(part);
                self.passing -= part.len();
                if let Some(running) = self.running() {
                    running.digest.update(&part);
                }
                self.to_client.put_slice(&part);
                continue;
            }
            let Some((tag, length)) = wire::peek(&self.from_upstream).map_err(|_| unclear())?
            else {
                return Ok(());
            };
            if matches!(tag, b'D' | b'd') {
                if length > self.longest_row {
                    return Err(End::told(
                        "54000",
                        "a row is longer than the gateway's limit",
                    ));
                }
                if self.looks_at(tag, length) {
                    match self.take_rows(tag)? {
                        true => continue,
                        // The rest of it is to come.
                        false => return Ok(()),
                    }
                }
                self.row(length)?;
                self.passing = length;
                continue;
            }
            if length > LONGEST {
                return Err(unclear());
            }
            if self.from_upstream.len() < length {
                return Ok(());
            }
            let bytes = self.from_upstream.split_to(length).freeze();
            self.answer(Message { tag, bytes })?;
        }
    }

    /// The statement whose answer is arriving.
    pub(super) fn running(&mut self) -> Option<&mut Running> {
        match self.expected.front_mut() {
            Some(Expected::Query(running)) => running.front_mut(),
            Some(Expected::Execute(running)) => Some(running),
            _ => None,
        }
    }

    /// Counts a row before it is passed on.
    pub(super) fn row(&mut self, length: usize) -> Result<(), End> {
        let each = self.counts_each;
        let running = self.running().ok_or_else(unclear)?;
        running.returned += 1;
        self.unsettled = self.unsettled.plus(Spent {
            rows: 1,
            bytes: u64::try_from(length).unwrap_or(u64::MAX),
            ..Spent::default()
        });
        if each { self.settle() } else { Ok(()) }
    }

    /// Takes what was passed on from the budget.
    fn settle(&mut self) -> Result<(), End> {
        if self.unsettled.is_nothing() {
            return Ok(());
        }
        let unsettled = std::mem::take(&mut self.unsettled);
        let Some(running) = self.running() else {
            return Ok(());
        };
        running.permit.spend(unsettled).map_err(|refused| {
            let mut told = denied(&refused);
            told.fatal = true;
            End { told: Some(told) }
        })
    }

    fn answer(&mut self, message: Message) -> Result<(), End> {
        match message.tag {
            b'C' | b'I' | b's' => {
                self.completed(&message)?;
            }
            b'E' => return self.failed(&message),
            b'Z' if !self.ready(&message)? => return Ok(()),
            b'Z' => {}
            b'1' => match self.expected.pop_front() {
                Some(Expected::Parse(_)) => {}
                _ => return Err(unclear()),
            },
            b'2' => match self.expected.pop_front() {
                Some(Expected::Bind(_)) => {}
                _ => return Err(unclear()),
            },
            b'3' => match self.expected.pop_front() {
                Some(Expected::Close) => {}
                _ => return Err(unclear()),
            },
            b'n' => match self.expected.pop_front() {
                Some(Expected::Describe(_)) => {}
                _ => return Err(unclear()),
            },
            b'T' => match self.expected.front_mut() {
                Some(Expected::Describe(described)) => {
                    if let Some(prepared) = described {
                        prepared.gives(&message.bytes);
                    }
                    self.expected.pop_front();
                }
                Some(Expected::Query(running)) => {
                    if let Some(running) = running.front_mut() {
                        running.rows.described = Described::By(message.bytes.clone());
                    }
                }
                _ => return Err(unclear()),
            },
            b't' => match self.expected.front() {
                Some(Expected::Describe(described)) => {
                    let sources = described.as_ref().and_then(|one| one.sources.as_ref());
                    if let Some(sources) = sources {
                        sources.found(message.body());
                    }
                }
                _ => return Err(unclear()),
            },
            b'G' => {
                if self.copying != Copying::Asked || self.running().is_none() {
                    return Err(unclear());
                }
                self.copying = Copying::In;
                if self.withholding {
                    // The client does not know of it.
                    self.copying = Copying::Done;
                    put(&mut self.to_upstream, b'f', |body| {
                        put_text(body, "withheld")
                    });
                }
            }
            b'H' => {
                let is_binary = message.body().first() == Some(&1);
                let running = self.running().ok_or_else(unclear)?;
                running.rows.copies_binary = is_binary;
            }
            b'c' => {
                self.running().ok_or_else(unclear)?;
            }
            b'N' => {
                if let Some(said) = self.looked_at_said(&message) {
                    self.to_client.put_slice(&said);
                }
                return Ok(());
            }
            b'S' => {
                self.to_client.put_slice(&message.bytes);
                return Ok(());
            }
            // Nothing can be listened to; whatever it is, it is not for this session.
            b'A' => return Ok(()),
            _ => return Err(unclear()),
        }
        self.tell(&message.bytes);
        Ok(())
    }

    /// Passes a message on, unless nothing passes now.
    fn tell(&mut self, bytes: &[u8]) {
        if !self.withholding {
            self.to_client.put_slice(bytes);
        }
    }

    fn completed(&mut self, message: &Message) -> Result<(), End> {
        let body = message.bytes.get(HEADER..).unwrap_or_default();
        self.settle()?;
        let running = self.running().ok_or_else(unclear)?;
        running.digest.update(&message.bytes);
        let changed = match message.tag {
            b'C' if running.returned == 0 => changed_rows(body),
            _ => 0,
        };
        if changed > 0 {
            let spent = Spent {
                rows: changed,
                ..Spent::default()
            };
            // It is done; what comes next finds the budget used up.
            let _ = running.permit.spend(spent);
        }
        let done = match self.expected.front_mut() {
            Some(Expected::Query(running)) => running.pop_front(),
            _ => match self.expected.pop_front() {
                Some(Expected::Execute(running)) => Some(*running),
                _ => None,
            },
        };
        self.copying = Copying::No;
        done.ok_or_else(unclear)?.finish(Ended::Answered);
        Ok(())
    }

    /// After an error the database ignores what it was sent, up to the next Sync; a text of statements ends
    /// by itself.
    fn failed(&mut self, message: &Message) -> Result<(), End> {
        self.settle()?;
        self.copying = Copying::No;
        let said = match self.expected.front() {
            // What the client is told is the gateway's own.
            Some(Expected::Refusal(_)) => Cow::Borrowed(&[][..]),
            _ => self.looked_at_said(message).ok_or_else(unclear)?,
        };
        self.tell(&said);
        match self.expected.front_mut() {
            // It says good bye.
            None | Some(Expected::Sync(_)) => {}
            Some(Expected::Query(running)) => {
                for (at, mut one) in running.drain(..).enumerate() {
                    if at == 0 {
                        one.digest.update(&said);
                    }
                    one.finish(Ended::UpstreamError);
                }
            }
            Some(Expected::Refusal(told)) => {
                let told = std::mem::take(told);
                self.tell(&told);
                self.ignored();
            }
            Some(_) => self.ignored(),
        }
        Ok(())
    }

    /// Takes back what the database ignores, and what it stands for.
    fn ignored(&mut self) {
        while let Some(one) = self.expected.front() {
            if matches!(one, Expected::Sync(_)) {
                return;
            }
            match self.expected.pop_front() {
                Some(Expected::Parse(name)) => self.names.forget_statement(&name),
                Some(Expected::Bind(name)) => self.names.close(Some(&name)),
                Some(Expected::Execute(running)) => running.finish(Ended::UpstreamError),
                Some(Expected::Query(running)) => {
                    for one in running {
                        one.finish(Ended::UpstreamError);
                    }
                }
                _ => {}
            }
        }
        self.skipping = true;
    }

    /// False when the client is not to know of it yet.
    fn ready(&mut self, message: &Message) -> Result<bool, End> {
        let unspent = match self.expected.pop_front() {
            Some(Expected::Sync(unspent)) => unspent,
            Some(Expected::Query(running)) if running.is_empty() => Vec::new(),
            _ => return Err(unclear()),
        };
        for one in unspent {
            one.finish(Ended::Answered);
        }
        // Outside of a transaction no portal lives on.
        if message.bytes.get(HEADER..) == Some(b"I") && self.expected.is_empty() {
            self.names.close(None);
        }
        if self.expected.is_empty() {
            self.in_flight = 0;
        }
        Ok(self.passes_ready(message.body().first().copied()))
    }
}

pub(super) fn unclear() -> End {
    End::told("08P01", "the database does not keep to the protocol")
}
