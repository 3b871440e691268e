//! The enforcement point with everything real but the provider behind it, which says and does what a test
//! wants: also what no honest provider would.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod beside;
mod budget;
mod content;
mod hostile;
mod passing;
mod refusing;
mod support;
