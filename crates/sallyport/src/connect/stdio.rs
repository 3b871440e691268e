//! The client's side: lines in, lines out. Both ends run on threads of their own, because a read
//! of standard input cannot be called off and must not hold up the end of the process.

use std::io::{self, BufRead, Read, Write};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// Longest line of a client. The gateway's own limit is lower; its answer is the clearer one.
const LINE: u64 = 32 << 20;
/// Lines that wait to be handled; beyond that the client waits.
const WAITING: usize = 16;

/// What was read.
pub(super) enum Input {
    /// A line, without its end; never empty.
    Line(Bytes),
    /// A line that was longer than the limit; it was skipped.
    TooLong,
}

/// Reads lines until the input ends; then the channel closes.
pub(super) fn read_lines(input: impl Read + Send + 'static) -> mpsc::Receiver<Input> {
    let (lines, receiver) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        let mut input = io::BufReader::with_capacity(64 << 10, input);
        while let Ok(Some(line)) = read_line(&mut input, LINE) {
            if lines.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// One line; `None` at the end of the input. White space alone is no line.
fn read_line(input: &mut impl BufRead, limit: u64) -> io::Result<Option<Input>> {
    loop {
        let mut line = Vec::new();
        let read = input.by_ref().take(limit).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(None);
        }
        if line.last() != Some(&b'\n') && read as u64 == limit {
            return Ok(input.skip_until(b'\n').ok().map(|_| Input::TooLong));
        }
        let text = line.trim_ascii();
        if !text.is_empty() {
            return Ok(Some(Input::Line(Bytes::copy_from_slice(text))));
        }
    }
}

/// Writes lines, in the order in which they are sent, until every sender is gone or the client
/// does not read any more. The second value tells when that is.
pub(super) fn write_lines(
    mut output: impl Write + Send + 'static,
) -> (mpsc::Sender<Bytes>, oneshot::Receiver<()>) {
    let (sender, mut lines) = mpsc::channel::<Bytes>(WAITING);
    let (ended, end) = oneshot::channel();
    std::thread::spawn(move || {
        while let Some(line) = lines.blocking_recv() {
            let written = output
                .write_all(&line)
                .and_then(|()| output.write_all(b"\n"))
                .and_then(|()| output.flush());
            if written.is_err() {
                break;
            }
        }
        drop(lines);
        let _ = ended.send(());
    });
    (sender, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &'static [u8], limit: u64) -> Vec<Option<Bytes>> {
        let mut input = io::BufReader::with_capacity(3, text);
        std::iter::from_fn(|| read_line(&mut input, limit).unwrap())
            .map(|read| match read {
                Input::Line(line) => Some(line),
                Input::TooLong => None,
            })
            .collect()
    }

    #[test]
    fn lines_come_one_by_one_and_long_ones_are_skipped() {
        let line = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        let read = all(b"{}\r\n\n  \n[1]\n0123456789abcdef\n{\"a\":1}", 10);
        assert_eq!(read, [line("{}"), line("[1]"), None, line("{\"a\":1}")]);
    }
}
