//! Who looks on while packets travel, and can change nothing.
//!
//! A fabric without onlookers pays one look at an empty list for each packet.

use std::fmt::Debug;
use std::io;

use hailer::Timestamp;

use super::packet::Packet;
use super::{HostId, InterfaceId};
use crate::trace::Drop;

/// An onlooker. Each packet is shown as it leaves an interface and as it comes to one; what is dropped on its way is
/// shown as that, with the machine that the drop is counted for.
pub trait Tap: Debug + Send {
    /// A packet leaves an interface.
    fn sent(&mut self, _at: Timestamp, _from: InterfaceId, _packet: &Packet) {}

    /// A packet has come to an interface of a machine that is switched on.
    fn received(&mut self, _at: Timestamp, _at_interface: InterfaceId, _packet: &Packet) {}

    /// A packet, or one receiver's copy of it, goes no further.
    fn dropped(&mut self, _at: Timestamp, _host: HostId, _cause: Drop, _packet: &Packet) {}

    /// Nothing more is to come: writes down what is not written yet.
    ///
    /// # Errors
    /// The first error of all the writing since the beginning.
    fn finish(&mut self) -> io::Result<()>;
}
