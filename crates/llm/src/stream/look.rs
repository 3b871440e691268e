//! One event of a stream: counted, and looked at before it passes. What the model writes piece by piece is
//! looked at a little later, and cannot be taken out any more; everything else is looked at now, once.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use gateway::inspection::{Following, Role, Spot};
use gateway::mcp::sse::{self, Piece};
use model::{Denial, json};
use serde_json::Value;

use super::End;
use crate::exchange::Exchange;
use crate::refusal::Refusal;
use crate::traffic::{Heard, ends, hear, role};

/// Deepest nesting of an event: the most that a strict reader reads.
const DEPTH: usize = 120;
/// Where the lines of events that are no data stand.
const LINES: Spot = Spot([u64::MAX, 1, 0]);
/// Most spots beside the model's words that are told apart in one event; the others count as one.
const BESIDE: usize = 32;
/// Lines that an event keeps when its data changes.
const KEPT: [&[u8]; 3] = [b"event:", b"id:", b"retry:"];

/// Looks at an event; returns what passes of it.
///
/// # Errors
/// [`End`] when nothing of it may.
pub(super) fn look(
    exchange: &mut Exchange,
    following: &mut Following,
    piece: &Piece,
) -> Result<Bytes, End> {
    let clean = lines(exchange, following, &piece.bytes);
    let clean = clean.map_err(|denial| exchange.blocked(denial))?;
    let bare = || {
        if clean {
            piece.bytes.clone()
        } else {
            Bytes::new()
        }
    };
    let Some(data) = &piece.data else {
        return Ok(bare());
    };
    // Other than JSON there is only the word that ends a stream.
    if data.trim_ascii() == b"[DONE]" {
        let ended = following.end(&exchange.about_answer());
        ended.map_err(|denial| exchange.blocked(denial))?;
        return Ok(match clean {
            true => piece.bytes.clone(),
            false => sse::event(None, data),
        });
    }
    let limits = json::Limits {
        bytes: exchange.visit.limits.response_bytes,
        depth: DEPTH,
    };
    let Ok(event) = json::parse(data, limits) else {
        let reason = "the provider sends an event that is not JSON that all read alike";
        return Err(End::Failed(reason.to_owned()));
    };
    exchange.account.see(&event, false);
    if event.get("response").is_some() {
        exchange.keep(&event);
    }
    let heard = listen(exchange, following, &event, data);
    let changed = heard.map_err(|denial| exchange.blocked(denial))?;
    exchange
        .account
        .spend_so_far()
        .map_err(|denied| End::Refused(Box::new(Refusal::denied(&denied))))?;
    Ok(match changed {
        Some(data) => {
            exchange.account.redacted += 1;
            written(clean.then_some(&piece.bytes), &data)
        }
        None if clean => piece.bytes.clone(),
        None => sse::event(None, data),
    })
}

/// Looks at all texts of an event. Returns what takes the place of its data, if something is taken out.
fn listen(
    exchange: &mut Exchange,
    following: &mut Following,
    event: &Value,
    data: &[u8],
) -> Result<Option<Vec<u8>>, Denial> {
    echo(exchange, following, event);
    let api = exchange.visit.api;
    let mut heard = Vec::new();
    hear(api, event, &mut |one| heard.push(one));
    let of_pieces = |one: &Heard<'_>| match one {
        Heard::Piece(_, text) => text.len(),
        _ => 0,
    };
    let written: usize = heard.iter().map(of_pieces).sum();
    exchange.account.meter.wrote(written);
    let about = exchange.about_answer();
    for one in &heard {
        if let Heard::Piece(spot, text) = one {
            following.push(&about, *spot, text)?;
        }
    }
    // Before something is said that may say it all again, or that it is over.
    if written == 0 {
        following.catch_up(&about)?;
    }
    if ends(api, event) {
        following.end(&about)?;
    }
    let is_fresh =
        |one: &&Heard<'_>| !matches!(one, Heard::Piece(..)) && !following.knows(one.text());
    let fresh: Vec<Heard<'_>> = heard.iter().filter(is_fresh).copied().collect();
    let values: HashSet<&str> = fresh.iter().filter_map(Heard::value).collect();
    // Base64 of what is no text was not heard, and has its own role.
    let sort = |name: &str, text: &str| match role(name, text) {
        Role::Own if !values.contains(text) => Role::Known,
        role => role,
    };
    let changed = match fresh.is_empty() {
        true => None,
        false => following.document(&about, None, data, &sort).taken()?,
    };
    let mut written = 0;
    for one in &fresh {
        match one {
            Heard::First(spot, text) => {
                written += text.len();
                following.push_looked_at(&about, *spot, text)?;
            }
            Heard::Whole { text, wrote, .. } => written += if *wrote { text.len() } else { 0 },
            Heard::Piece(..) | Heard::Name(_) => {}
        }
        // What was taken out is not known: it would pass the next time.
        if changed.is_none() {
            following.learn(one.text());
        }
    }
    for (spot, text) in beside(&heard) {
        following.push_beside(&about, spot, &text)?;
    }
    exchange.account.meter.wrote(written);
    Ok(changed)
}

/// The texts of an event that are whole, by where they stand. Those of one kind are one text: that is how
/// the tokens of a text come beside it.
fn beside<'a>(heard: &[Heard<'a>]) -> Vec<(Spot, Cow<'a, str>)> {
    let mut all: Vec<(Spot, Cow<'a, str>)> = Vec::new();
    for one in heard {
        let Heard::Whole { spot, text, .. } = one else {
            continue;
        };
        let known = all.iter().position(|(at, _)| at == spot);
        let full = (all.len() == BESIDE).then_some(BESIDE - 1);
        match known.or(full) {
            Some(at) => all[at].1.to_mut().push_str(text),
            None => all.push((*spot, Cow::Borrowed(text))),
        }
    }
    all
}

/// What an answer says again of the request was looked at with the request.
fn echo(exchange: &Exchange, following: &mut Following, event: &Value) {
    let Some(Value::Object(response)) = event.get("response") else {
        return;
    };
    for (name, value) in response {
        if exchange.asked.member(name) == Some(value) {
            learn_all(following, value);
        }
    }
}

fn learn_all(following: &mut Following, value: &Value) {
    match value {
        Value::String(text) => following.learn(text),
        Value::Array(items) => items.iter().for_each(|item| learn_all(following, item)),
        Value::Object(members) => {
            for (name, value) in members {
                following.learn(name);
                learn_all(following, value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Looks at the lines of an event that are no data: names, ids and comments. Whether they may pass.
fn lines(exchange: &Exchange, following: &mut Following, bytes: &[u8]) -> Result<bool, Denial> {
    let about = exchange.about_answer();
    let mut clean = true;
    for line in bytes.split(|byte| matches!(byte, b'\n' | b'\r')) {
        if line.is_empty() || line.starts_with(b"data:") || line == b"data" {
            continue;
        }
        let line = String::from_utf8_lossy(line);
        if following.knows(&line) {
            continue;
        }
        match following.text(&about, &line).taken()? {
            None => following.learn(&line),
            Some(_) => clean = false,
        }
        following.push_beside(&about, LINES, &line)?;
    }
    Ok(clean)
}

/// An event with other data; with its name and id, if they may pass.
fn written(before: Option<&Bytes>, data: &[u8]) -> Bytes {
    let mut text = BytesMut::with_capacity(data.len() + 64);
    let lines = before.map_or(&[][..], |bytes| &bytes[..]);
    for line in lines.split(|byte| matches!(byte, b'\n' | b'\r')) {
        if KEPT.iter().any(|kept| line.starts_with(kept)) {
            text.extend_from_slice(line);
            text.extend_from_slice(b"\n");
        }
    }
    text.extend_from_slice(&sse::event(None, data));
    text.freeze()
}

impl Exchange {
    /// How a stream ends that must not go on.
    pub(super) fn blocked(&mut self, denial: Denial) -> End {
        self.note_blocked();
        let decision = self.account.decision();
        End::Refused(Box::new(Refusal::blocked(decision, denial)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_with_other_data_keeps_its_name() {
        let before = Bytes::from("event: x\r\n: y\nid: 7\ndata: {\ndata: }\n\n");
        let text = written(Some(&before), b"{\n\"a\":1}");
        assert_eq!(text, "event: x\nid: 7\ndata: {\ndata: \"a\":1}\n\n");
        assert_eq!(written(None, b"1"), "data: 1\n\n");
    }
}
