//! How a command ends when it does not end well: what the person reads, and the exit code.

use std::fmt;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

/// What the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Exit code 1: refused, or it could not be done.
    Failed,
    /// Exit code 2: the command line itself was wrong.
    Usage,
    /// Exit code 3: evidence does not verify.
    NotVerified,
    /// Everything was said already; exit code 1.
    Reported,
    /// Whoever read the output went away, as `head` does; exit code 0.
    ReaderGone,
    /// A program that was run ended with this exit code, and has said why.
    Program(u8),
}

impl Failure {
    /// It was refused or could not be done.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::of(Kind::Failed, message)
    }

    /// The command line was wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::of(Kind::Usage, message)
    }

    /// Evidence does not verify.
    pub(crate) fn not_verified(message: impl Into<String>) -> Self {
        Self::of(Kind::NotVerified, message)
    }

    /// The mistakes were printed already.
    pub(crate) fn reported() -> Self {
        Self::of(Kind::Reported, "")
    }

    /// A program that was run ended with this exit code.
    pub(crate) fn of_program(code: u8) -> Self {
        Self::of(Kind::Program(code), "")
    }

    fn of(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
        }
    }

    /// Says what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What went wrong, in one sentence.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it, if that is known.
    pub(crate) fn remedy(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether there is something left to print.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(
            self.kind,
            Kind::Reported | Kind::ReaderGone | Kind::Program(_)
        )
    }

    /// The exit code of the process.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self.kind {
            Kind::Failed | Kind::Reported => ExitCode::from(1),
            Kind::Usage => ExitCode::from(2),
            Kind::NotVerified => ExitCode::from(3),
            Kind::ReaderGone => ExitCode::SUCCESS,
            Kind::Program(code) => ExitCode::from(code),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// A failure to write to the terminal or pipe.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self::of(Kind::ReaderGone, "")
        } else {
            Self::new(format!("the output could not be written: {error}"))
        }
    }
}
