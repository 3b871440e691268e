//! What the load generators share: when calls count, the loop of a connection, and the one line of output.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::Failure;
use crate::seen::Seen;
use crate::wire::{Answer, Wire};

/// When calls count, and what a good answer is.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    begin: Instant,
    end: Instant,
    status: u16,
    mark: &'static [u8],
}

impl Measure {
    /// So many seconds, from a second on that is not measured. Good answers have this status, and this mark in
    /// their body.
    #[must_use]
    pub fn of(seconds: u64, status: u16, mark: &'static [u8]) -> Self {
        let begin = Instant::now() + Duration::from_secs(1);
        Self {
            begin,
            end: begin + Duration::from_secs(seconds),
            status,
            mark,
        }
    }

    /// Whether no call is begun at this moment any more.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.end
    }

    /// Counts the answer to a call that began at this moment, if it is time to.
    pub fn count(&self, seen: &mut Seen, started: Instant, status: u16, body: &[u8]) {
        if started < self.begin {
            return;
        }
        let mut parts = body.windows(self.mark.len());
        if status == self.status && parts.any(|part| part == self.mark) {
            seen.answered(started);
        } else {
            seen.failed(status, body);
        }
    }
}

/// Keeps one connection over HTTP/1.1 busy with a request at a time. `renew` makes what was sent last, at first
/// nothing, into the next request.
///
/// # Errors
/// The connection broke, what came is no HTTP, or what `renew` says.
pub async fn keep_busy(
    address: &str,
    measure: &Measure,
    mut renew: impl FnMut(&mut Vec<u8>) -> Result<(), Failure>,
) -> Result<Seen, Failure> {
    let mut wire = Wire::connect(address).await?;
    let mut request = Vec::with_capacity(4 << 10);
    let mut seen = Seen::default();
    loop {
        let started = Instant::now();
        if measure.is_over(started) {
            return Ok(seen);
        }
        renew(&mut request)?;
        let Answer { status, body } = wire.exchange(&request).await?;
        measure.count(&mut seen, started, status, body);
    }
}

/// What several series saw together, once all of them have ended.
///
/// # Errors
/// What the first of them that failed says.
pub async fn all(series: Vec<JoinHandle<Result<Seen, Failure>>>) -> Result<Seen, Failure> {
    let mut all = Seen::default();
    for one in series {
        all.add(one.await??);
    }
    Ok(all)
}

/// Prints what was measured, or why nothing was, as one line of JSON; how the program ends.
#[expect(
    clippy::print_stdout,
    reason = "the one line of output is what the programs are for"
)]
#[must_use]
pub fn end(measured: Result<Value, Failure>) -> ExitCode {
    let (line, code) = match measured {
        Ok(measured) => (measured, ExitCode::SUCCESS),
        Err(error) => (json!({ "error": error.to_string() }), ExitCode::FAILURE),
    };
    println!("{line}");
    code
}
