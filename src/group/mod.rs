//! LAN groups with health checks: who is in a named group, where its service is, and whether it is well.
//!
//! The group's datagrams and health checks are those of [pir](https://github.com/jerluc/pir), whose members take part. What
//! pir does not have is said in further datagrams, which it ignores. Start with [`Group::join`].
//!
//! * codecs: [`Announcement`] (pir's datagram), `message` (ours, and lists), [`Uri`] and [`HealthUri`].
//! * machine: `machine` decides, by our rule or by pir's. `allow` says what may be dialled.
//! * drivers: `driver`, with `site` (sockets), `check` (one check) and `server` (answers to checks).

mod allow;
mod announcement;
mod check;
mod config;
mod driver;
mod error;
mod event;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzed;
mod limits;
mod machine;
mod membership;
mod message;
mod server;
mod site;
mod survey;
mod uri;

pub use allow::{Allowed, NotAllowed};
pub use announcement::{
    Announcement, AnnouncementError, GROUP_BYTES_MAX, GroupName, GroupNameError, MemberId,
};
pub use config::{Config, Rule};
pub use error::{Ended, JoinError};
pub use event::{Event, Health, Member, Reason};
pub use membership::{Events, Group};
pub use survey::survey;
pub use uri::{HealthUri, How, URI_BYTES_MAX, Uri, UriError};
