//! What a load generator saw.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The answers to one or more series of calls.
#[derive(Default)]
pub struct Seen {
    micros: Vec<u32>,
    failed: u64,
    first_failure: Option<String>,
}

impl Seen {
    /// A call that began at this moment was answered well.
    pub fn answered(&mut self, started: Instant) {
        let micros = u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX);
        self.micros.push(micros);
    }

    /// A call was answered with something else.
    pub fn failed(&mut self, status: u16, body: &[u8]) {
        self.failed += 1;
        self.first_failure.get_or_insert_with(|| {
            let body = String::from_utf8_lossy(&body[..body.len().min(300)]);
            format!("{status}: {body}")
        });
    }

    /// Takes in what another series saw.
    pub fn add(&mut self, other: Self) {
        self.micros.extend(other.micros);
        self.failed += other.failed;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }

    /// What was seen in a time over so many connections.
    #[must_use]
    pub fn told(mut self, connections: usize, lasted: Duration) -> Value {
        self.micros.sort_unstable();
        let at = |share: f64| {
            let index = (self.micros.len() as f64 * share) as usize;
            let index = index.min(self.micros.len().saturating_sub(1));
            self.micros.get(index).copied().unwrap_or(0)
        };
        json!({
            "connections": connections,
            "calls": self.micros.len(),
            "failed": self.failed,
            "first_failure": self.first_failure,
            "per_second": self.micros.len() as f64 / lasted.as_secs_f64(),
            "median_micros": at(0.5),
            "p99_micros": at(0.99),
        })
    }
}
