//! What a program writes to its standard error: lines for the log, at level `debug`, since they may
//! hold what the program works on. Bounded in length and number, without control characters and
//! without the secrets that the program was given.

use std::sync::Arc;
use std::time::Instant;

use tokio::process::ChildStderr;

use super::home::Home;
use super::lines::{Line, Lines};
use crate::upstream::allowance::Allowance;

/// Longest line that is logged, in bytes; and most lines at once, and each second.
const LONGEST: usize = 1 << 10;
const OFTEN: (u32, u32) = (200, 20);

/// Logs until there is nothing more; gives the last line.
pub(super) async fn read(errors: ChildStderr, home: Arc<Home>, process: i32) -> Option<String> {
    let mut lines = Lines::new(errors);
    let mut allowance = Allowance::new(OFTEN.0, OFTEN.1, Instant::now());
    let mut last = None;
    loop {
        let line = match lines.next(LONGEST, u64::MAX).await {
            Ok(Some(Line::Whole(line))) => presentable(&line, &home),
            Ok(Some(Line::TooLong { length, .. })) => format!("(a line of {length} bytes)"),
            Ok(Some(Line::Endless) | None) | Err(_) => return last,
        };
        if line.is_empty() {
            continue;
        }
        if let Some(left_out) = allowance.take(Instant::now()) {
            tracing::debug!(target: "upstream", server = %home.name(), process, left_out, "{line}");
        }
        last = Some(line);
    }
}

fn presentable(line: &[u8], home: &Home) -> String {
    let mut text = String::from_utf8_lossy(line).into_owned();
    home.secrets().redact(&mut text);
    text.chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect()
            } else {
                vec![c]
            }
        })
        .collect()
}
