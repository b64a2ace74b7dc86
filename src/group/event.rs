//! What a membership tells its application.

use std::fmt;

use super::announcement::MemberId;
use super::uri::{HealthUri, Uri};

/// A member, as far as it is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub id: MemberId,
    /// Where its service is.
    pub service: Uri,
    /// What is checked.
    pub health_uri: HealthUri,
    /// How it is.
    pub health: Health,
}

/// How a member is, as far as is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Health {
    /// It answers, us or others.
    Healthy,
    /// It answers others and not us.
    Unreachable,
    /// It answers nobody; if that goes on, it is removed.
    Suspect,
}

impl Health {
    /// The health in a word, for logs and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unreachable => "unreachable",
            Self::Suspect => "suspect",
        }
    }
}

/// What happened in a group. ADDED comes first and REMOVED last for each member.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A member is there, and answered a check.
    Added(Member),
    /// A member is gone.
    Removed(Member, Reason),
    /// A member has other URIs than before, or another health that is not [`Health::Suspect`].
    Changed(Member),
    /// A member answers nobody.
    Suspect(Member),
    /// Our own membership has ended. Nothing follows.
    Left,
}

/// How we know that a member is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// It said so.
    Left,
    /// It answered nobody for some seconds.
    Silent,
    /// Its address refused connections, or its check failed otherwise, for some seconds.
    Failed,
    /// Three checks of ours failed, by pir's rule.
    ThreeStrikes,
}

impl Reason {
    /// The reason in a word, for logs and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Silent => "silent",
            Self::Failed => "failed",
            Self::ThreeStrikes => "three-strikes",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
