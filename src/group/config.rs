//! How one membership in a group behaves: complete values, nothing left to decide.

use super::allow::Allowed;
use super::announcement::{GroupName, MemberId};
use super::uri::{HealthUri, Uri};

/// The settings of a membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The group.
    pub name: GroupName,
    /// Where this member's service is. A host of `*`, `0.0.0.0` or `[::]` is announced as each interface's own address.
    /// Without one nothing is announced: this is somebody who watches.
    pub service: Option<Uri>,
    /// What others are to check instead of whether this program answers; understood by members of this kind, while pir
    /// goes on asking this program. A host of `0.0.0.0` or `[::]` is as above.
    pub check: Option<HealthUri>,
    /// The identity; without one, a new random one at each start, so that others can tell a restart.
    pub identity: Option<MemberId>,
    /// The UDP port of the group. pir leaves the choice to programs; its example has this one.
    pub port: u16,
    /// The TCP port that answers health checks; 0 takes any free one.
    pub health_port: u16,
    /// Interfaces to use, each by name, index or address; none of them: every one that is up and no tunnel.
    pub interfaces: Vec<String>,
    /// What may be dialled; empty: what an announcement says of its own sender, and this machine's networks.
    pub allow: Vec<Allowed>,
    /// How members are given up.
    pub rule: Rule,
}

/// How members are given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// A few members check each, and nobody is given up against the evidence of others.
    #[default]
    Evidence,
    /// pir's: everybody checks everybody, and three failed checks are the end.
    Pir,
}

impl Config {
    /// The port of pir's example.
    pub const PORT: u16 = 9999;

    /// The default settings of a membership in this group.
    pub const fn new(name: GroupName) -> Self {
        Self {
            name,
            service: None,
            check: None,
            identity: None,
            port: Self::PORT,
            health_port: 0,
            interfaces: Vec::new(),
            allow: Vec::new(),
            rule: Rule::Evidence,
        }
    }
}
