//! What the load generators share: when calls count, the loop of a connection, and the one line of output.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::Failure;
use crate::seen::Seen;
use crate::wire::{Answer, Wire};

/// A process rests that uses no more than a tick in this time, which is looked at for no longer than the other.
const REST: Duration = Duration::from_millis(100);
const MOST_REST: Duration = Duration::from_secs(5);

/// When calls count, and what a good answer is.
#[derive(Debug)]
pub struct Measure {
    begin: Instant,
    end: Option<Instant>,
    /// How many calls may still begin.
    left: AtomicU64,
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
            end: Some(begin + Duration::from_secs(seconds)),
            left: AtomicU64::new(u64::MAX),
            status,
            mark,
        }
    }

    /// So many calls, from the first one on.
    #[must_use]
    pub fn calls(calls: u64, status: u16, mark: &'static [u8]) -> Self {
        Self {
            begin: Instant::now(),
            end: None,
            left: AtomicU64::new(calls),
            status,
            mark,
        }
    }

    /// Whether one more call may begin at this moment; then it counts.
    #[must_use]
    pub fn goes_on(&self, now: Instant) -> bool {
        let less = |left: u64| left.checked_sub(1);
        self.end.is_none_or(|end| now < end)
            && (self.left)
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
                .is_ok()
    }

    /// For how long it has been measured at this moment.
    #[must_use]
    pub fn lasted(&self, now: Instant) -> Duration {
        self.end
            .unwrap_or(now)
            .saturating_duration_since(self.begin)
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
        if !measure.goes_on(started) {
            return Ok(seen);
        }
        renew(&mut request)?;
        let Answer { status, body } = wire.exchange(&request).await?;
        measure.count(&mut seen, started, status, body);
    }
}

/// What a process has used of processors since it began, itself and the kernel for it, in clock ticks (proc(5)).
///
/// # Errors
/// When there is no such process, or no such file system.
pub fn ticks(process: u32) -> Result<u64, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // What comes before is the program's name, in brackets.
    let fields = text.rsplit(')').next().unwrap_or_default();
    let mut times = fields.split_whitespace().skip(11).map(str::parse);
    match (times.next(), times.next()) {
        (Some(own), Some(kernel)) => Ok(own.unwrap_or(0) + kernel.unwrap_or(0_u64)),
        _ => Err(format!("process {process} does not say what it has used").into()),
    }
}

/// The same, once the process has done what was left to do for calls that are answered already.
///
/// # Errors
/// As above.
pub async fn ticks_at_rest(process: u32) -> Result<u64, Failure> {
    let until = Instant::now() + MOST_REST;
    let mut before = ticks(process)?;
    loop {
        tokio::time::sleep(REST).await;
        let now = ticks(process)?;
        if now <= before + 1 || Instant::now() > until {
            return Ok(now);
        }
        before = now;
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
