//! What a program of root's may do beyond what any user may.
//!
//! Containers often run as root. Root with all its capabilities reads the memory of other processes and
//! raises its own limits, whatever else holds; without them it is a user like others.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set,
    set_capabilities,
};

/// What is kept: working with files of other users, and becoming one of them.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::NET_BIND_SERVICE);

/// Gives up all others for good, also what `exec` would give back to root.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn drop_most() -> Result<(), Errno> {
    let now = capabilities(None)?;
    // Only with it can the bounding set be made smaller; and without it `exec` gives nothing to anybody
    // who has no capabilities and is not root.
    if now.effective.contains(CapabilitySet::SETPCAP) {
        for number in 0..64 {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            if KEPT.contains(capability) {
                continue;
            }
            match remove_capability_from_bounding_set(capability) {
                // This kernel knows fewer.
                Err(Errno::INVAL) => break,
                done => done?,
            }
        }
    }
    set_capabilities(
        None,
        CapabilitySets {
            effective: now.effective & KEPT,
            permitted: now.permitted & KEPT,
            inheritable: CapabilitySet::empty(),
        },
    )
}
