//! What the kernel keeps a program from, with Landlock (`Documentation/userspace-api/landlock.rst`).
//!
//! A program that is restricted so can moreover not trace or inspect processes that are not, nor mount, nor
//! gain privileges; where the kernel can, it does not signal them either.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, Scope,
};

use super::branches::Closed;

/// The version whose rights are asked for. Those of later ones are not handled, and so not taken away.
const NEWEST: ABI = ABI::V7;
/// The version since which truncating files is restricted, so that nothing can be changed any more
/// (Linux 6.2).
const FILES: ABI = ABI::V3;
/// The version since which signals are restricted (Linux 6.12).
const SIGNALS: ABI = ABI::V6;

/// What is in `/dev` and harmless.
const DEVICES: [&str; 9] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/shm",
];

/// What the kernel of this machine can keep programs from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kernel {
    /// Nothing.
    Nothing,
    /// Reading files, and mostly changing them; a file can still be emptied.
    SomeFiles,
    /// Reading and changing files.
    Files,
    /// Files and signals.
    All,
}

impl Kernel {
    /// Finds out, without restricting anything.
    pub(crate) fn probe() -> Self {
        let files = |abi| {
            Ruleset::default()
                .set_compatibility(CompatLevel::HardRequirement)
                .handle_access(AccessFs::from_all(abi))
                .and_then(Ruleset::create)
                .is_ok()
        };
        let signals = || {
            Ruleset::default()
                .set_compatibility(CompatLevel::HardRequirement)
                .scope(Scope::from_all(SIGNALS))
                .and_then(Ruleset::create)
                .is_ok()
        };
        match (files(ABI::V1), files(FILES)) {
            (false, _) => Self::Nothing,
            (true, false) => Self::SomeFiles,
            (true, true) if signals() => Self::All,
            (true, true) => Self::Files,
        }
    }

    /// What it cannot, and what to do; nothing when it can everything.
    pub(crate) fn lacks(self) -> Option<&'static str> {
        match self {
            Self::Nothing => Some(
                "this kernel has no Landlock: programs that the gateway starts can read and change all that \
                 its user can, also keys and log; use Linux 6.2 or later with `landlock` among its LSMs",
            ),
            Self::SomeFiles => Some(
                "this kernel's Landlock is incomplete: programs that the gateway starts can empty its files; \
                 use Linux 6.2 or later",
            ),
            Self::Files => Some(
                "this kernel's Landlock does not restrict signals: programs that the gateway starts can end \
                 it; use Linux 6.12 or later",
            ),
            Self::All => None,
        }
    }
}

/// What a program may touch.
pub(super) struct Territory<'a> {
    /// Nothing of it may be reached.
    pub(super) hidden: Closed,
    /// Nothing of it may be reached or changed.
    pub(super) unchanged: Closed,
    /// What may be read and executed.
    pub(super) read: Vec<&'a Path>,
    /// What may also be changed.
    pub(super) write: Vec<&'a Path>,
}

/// Restricts this process (its one thread), and what it becomes and starts, for good.
///
/// # Errors
/// What went wrong; then nothing is restricted.
pub(super) fn restrict(territory: &Territory<'_>) -> Result<(), String> {
    let all = AccessFs::from_all(NEWEST);
    let read = AccessFs::from_read(NEWEST);
    // Devices are no files, and would be ways around this for who may make them.
    let made = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    let devices = read | AccessFs::from_write(NEWEST) & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    let mut ruleset = Ruleset::default()
        .handle_access(all)
        .and_then(|ruleset| ruleset.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .map_err(|error| error.to_string())?;
    for root in &territory.read {
        grant(&mut ruleset, &territory.hidden, root, read)?;
    }
    for root in &territory.write {
        grant(&mut ruleset, &territory.unchanged, root, all & !made)?;
    }
    for device in DEVICES {
        grant(&mut ruleset, &Closed::default(), Path::new(device), devices)?;
    }
    let restricted = ruleset.restrict_self();
    restricted.map(|_| ()).map_err(|error| error.to_string())
}

/// Grants what is beneath a path and not closed; what was granted there before is granted as well. What
/// cannot be looked at is not granted.
fn grant(
    ruleset: &mut RulesetCreated,
    closed: &Closed,
    root: &Path,
    access: BitFlags<AccessFs>,
) -> Result<(), String> {
    let mut failed = None;
    let _ = closed.around(root, &mut |open| {
        let possible = if open.is_folder {
            access
        } else {
            access & AccessFs::from_file(NEWEST)
        };
        if let Err(error) = (&mut *ruleset).add_rule(PathBeneath::new(open.file, possible)) {
            failed = Some(format!("{}: {error}", open.path.display()));
        }
    });
    failed.map_or(Ok(()), Err)
}
