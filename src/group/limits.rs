//! What strangers may cost.

/// Members and would-be members that one membership knows at most. A network has fewer machines.
pub(super) const KNOWN_MAX: usize = 10_000;
/// Of those, would-be members that announce from one address. More come in as these are checked or forgotten.
pub(super) const ABSENT_PER_ADDRESS_MAX: usize = 64;
/// Checks under way at once. Each is a few connections.
pub(super) const CHECKS_MAX: usize = 64;
/// Checks a second that are not this member's part of the common work: of newcomers, and of what others suspect.
pub(super) const OWN_CHECKS_PER_S: u64 = 16;
/// How many of those may come at once.
pub(super) const OWN_CHECKS_BURST: u64 = 32;
/// Connections of health checks that are answered at once. One more waits in the kernel's queue.
pub(super) const ANSWERS_MAX: usize = 256;
/// Addresses of one member beside the one it is checked at.
pub(super) const PLACES_MAX: usize = 3;
/// Members that wait for the outcome of one check.
pub(super) const ASKERS_MAX: usize = 8;
/// Members that one message may ask to check.
pub(super) const ASKED_MAX: usize = 16;
/// Events that wait for the application before the membership waits for it.
pub(super) const EVENTS: usize = 1024;
