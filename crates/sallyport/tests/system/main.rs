//! The whole thing: a real `sallyport serve` in front of real MCP servers, driven by official clients and by
//! attackers. One binary, so that it links once; each test has a gateway and a data directory of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(
    clippy::print_stderr,
    reason = "what the gateway said explains a failed test"
)]

mod a2a;
mod answers;
mod approvals;
mod attacks;
mod certificates;
mod clients;
mod confinement;
mod crash;
mod disk;
mod drills;
mod inspection;
mod ledger;
mod lifecycle;
mod limits;
mod llm;
mod operation;
mod postgres;
mod proxy;
mod response;
mod signals;
mod support;
mod tools_changed;
mod transmitter;
mod vault;
mod watch;
mod web;
