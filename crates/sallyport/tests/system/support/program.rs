//! Programs of other people that a test needs beside the gateway.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// A running program; it ends with this.
pub(crate) struct Program(pub(crate) Child);

impl Program {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// One that says in its first line where it is.
    pub(crate) fn announced(command: &mut Command) -> (Self, String) {
        let mut this = Self::start(command.stdout(Stdio::piped()));
        let mut line = String::new();
        BufReader::new(this.0.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        (this, line.trim().to_owned())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
