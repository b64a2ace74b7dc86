//! The announcement: one text datagram that says who is in a group and how to reach it, byte for byte pir's.
//!
//! ```text
//! GROUP|ID|HEALTH_URI|COMMS_URI
//! abc|91b36669-6225-4398-bc26-c153a1e10e61|tcp://10.9.0.1:36215|tcp://10.1.1.1:80
//! ```
//!
//! Exactly four parts. The identity is a UUID in lower case. pir hands both URIs to a parser that may kill it, so what is
//! sent here has been checked, and what comes is checked before it is believed.

use std::fmt;
use std::str::FromStr;

use super::uri::{HealthUri, How, Uri, UriError};

/// The longest name of a group, in bytes.
pub const GROUP_BYTES_MAX: usize = 255;

/// What the group's name starts with in datagrams that are ours and not pir's. pir ignores other groups' datagrams.
pub(super) const OURS: &str = "hailer1+";

/// The name of a group: 1 to 255 bytes without `|` and without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(Box<str>);

/// Why a text can't be the name of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupNameError {
    /// It is empty, or too long.
    #[error("the name of a group has 1 to {GROUP_BYTES_MAX} bytes, not {len}")]
    Length {
        /// Its length in bytes.
        len: usize,
    },
    /// It has a `|` or a control character.
    #[error("the name of a group has no `|` and no control characters")]
    Character,
    /// It starts as the datagrams do that members of this kind send among themselves.
    #[error("the name of a group does not start with `hailer1+`")]
    Reserved,
}

impl GroupName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GroupName {
    type Err = GroupNameError;

    fn from_str(text: &str) -> Result<Self, GroupNameError> {
        if !(1..=GROUP_BYTES_MAX).contains(&text.len()) {
            return Err(GroupNameError::Length { len: text.len() });
        }
        if text.contains(|c: char| c == '|' || c.is_control()) {
            return Err(GroupNameError::Character);
        }
        if text.starts_with(OURS) {
            return Err(GroupNameError::Reserved);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The identity of one life of one member: a UUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(u128);

impl MemberId {
    /// The identity with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// A random identity (UUID version 4) from 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self::from_bytes(uuid::Builder::from_random_bytes(bytes).into_uuid().into_bytes())
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Its bits, as a number.
    pub(super) const fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Display for MemberId {
    /// As pir writes it: lower case, with dashes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_u128(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MemberId {
    type Err = uuid::Error;

    /// Reads a UUID, with or without dashes.
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Ok(Self(uuid::Uuid::from_str(text)?.as_u128()))
    }
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// In which group.
    pub group: GroupName,
    /// Who.
    pub member: MemberId,
    /// Where it answers health checks.
    pub health: HealthUri,
    /// Where its service is.
    pub service: Uri,
}

/// Why a datagram is not an announcement. No state changes: the datagram is to be ignored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnouncementError {
    /// Longer than [`Announcement::LEN_MAX`].
    #[error("{len} bytes, an announcement has at most {}", Announcement::LEN_MAX)]
    Length {
        /// Its length in bytes.
        len: usize,
    },
    /// It is no text.
    #[error("it is not UTF-8")]
    Text,
    /// It has more or fewer parts than four.
    #[error("{count} parts between bars, an announcement has 4")]
    Parts {
        /// How many.
        count: usize,
    },
    /// The name of the group can't be one.
    #[error(transparent)]
    Group(#[from] GroupNameError),
    /// The identity is not a UUID as pir writes it.
    #[error("the identity is not a UUID in lower case")]
    Identity,
    /// The health URI is not one that can be checked.
    #[error("the health URI: {0}")]
    Health(UriError),
    /// The service's URI is not right.
    #[error("the service's URI: {0}")]
    Service(UriError),
}

impl Announcement {
    /// The longest announcement that is read, in bytes: as pir, whose buffer ends here.
    pub const LEN_MAX: usize = 8192;

    /// The datagram.
    pub fn encode(&self) -> String {
        let Self { group, member, health, service } = self;
        format!("{group}|{member}|{health}|{service}")
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// What is wrong with it first, from left to right.
    pub fn decode(datagram: &[u8]) -> Result<Self, AnnouncementError> {
        let [group, member, health, service] = parts(datagram)?;
        let group = group.parse()?;
        let member = identity(member).ok_or(AnnouncementError::Identity)?;
        let health = HealthUri::parse(health).map_err(AnnouncementError::Health)?;
        if health.how != How::Answer {
            return Err(AnnouncementError::Health(UriError::Health));
        }
        let service = Uri::parse(service).map_err(AnnouncementError::Service)?;
        Ok(Self { group, member, health, service })
    }
}

/// The four parts of a datagram, ours or pir's.
pub(super) fn parts(datagram: &[u8]) -> Result<[&str; 4], AnnouncementError> {
    if datagram.len() > Announcement::LEN_MAX {
        return Err(AnnouncementError::Length { len: datagram.len() });
    }
    let text = std::str::from_utf8(datagram).map_err(|_| AnnouncementError::Text)?;
    let mut parts = [""; 4];
    let mut count = 0;
    for part in text.split('|') {
        if let Some(place) = parts.get_mut(count) {
            *place = part;
        }
        count += 1;
    }
    if count == 4 { Ok(parts) } else { Err(AnnouncementError::Parts { count }) }
}

/// An identity in the one form in which it is written.
pub(super) fn identity(text: &str) -> Option<MemberId> {
    let is_canonical = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    text.parse().ok().filter(|_| is_canonical)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What pir sent, as seen on a wire.
    const GOLDEN: &[u8] = b"abc|91b36669-6225-4398-bc26-c153a1e10e61|tcp://10.9.0.1:36215|tcp://10.1.1.1:80";

    fn golden() -> Announcement {
        Announcement {
            group: "abc".parse().unwrap(),
            member: "91b36669-6225-4398-bc26-c153a1e10e61".parse().unwrap(),
            health: HealthUri::answer("10.9.0.1:36215".parse().unwrap()),
            service: Uri::parse("tcp://10.1.1.1:80").unwrap(),
        }
    }

    #[test]
    fn an_announcement_is_what_pir_sends() {
        assert_eq!(golden().encode().as_bytes(), GOLDEN);
        assert_eq!(Announcement::decode(GOLDEN), Ok(golden()));
    }

    #[test]
    fn what_is_not_an_announcement_is_refused_with_its_reason() {
        let with = |old: &str, new: &str| {
            String::from_utf8(GOLDEN.to_vec()).unwrap().replacen(old, new, 1).into_bytes()
        };
        for (datagram, reason) in [
            (vec![0xff], AnnouncementError::Text),
            (Vec::new(), AnnouncementError::Parts { count: 1 }),
            (b"a|b|c".to_vec(), AnnouncementError::Parts { count: 3 }),
            (with("tcp://10.1", "x|tcp://10.1"), AnnouncementError::Parts { count: 5 }),
            (with("abc", ""), AnnouncementError::Group(GroupNameError::Length { len: 0 })),
            (with("abc", "a\u{1b}[2J"), AnnouncementError::Group(GroupNameError::Character)),
            (with("91b3", "91B3"), AnnouncementError::Identity),
            (with("91b36669-", "91b36669"), AnnouncementError::Identity),
            // Both of these kill every pir that hears them.
            (with("tcp://10.9", "udp://10.9"), AnnouncementError::Health(UriError::Health)),
            (with("tcp://10.9", "tcp://%zz"), AnnouncementError::Health(UriError::Escape { at: 6 })),
            (with("tcp://10.9", "http://10.9"), AnnouncementError::Health(UriError::Health)),
            (with("tcp://10.1.1.1:80", "tcp://%"), AnnouncementError::Service(UriError::Escape { at: 6 })),
            (vec![b'a'; 8193], AnnouncementError::Length { len: 8193 }),
        ] {
            assert_eq!(
                Announcement::decode(&datagram),
                Err(reason),
                "{}",
                String::from_utf8_lossy(&datagram)
            );
        }
    }

    #[test]
    fn names_of_groups_have_up_to_255_bytes_and_leave_ours_alone() {
        assert!("x".repeat(GROUP_BYTES_MAX).parse::<GroupName>().is_ok());
        assert_eq!("x".repeat(256).parse::<GroupName>(), Err(GroupNameError::Length { len: 256 }));
        assert_eq!("hailer1+abc".parse::<GroupName>(), Err(GroupNameError::Reserved));
    }

    #[test]
    fn the_longest_announcement_fits_a_packet() {
        let mut longest = golden();
        longest.group = "x".repeat(GROUP_BYTES_MAX).parse().unwrap();
        longest.service =
            Uri::parse(&format!("tcp://{}", "a".repeat(super::super::uri::URI_BYTES_MAX - 6))).unwrap();
        longest.health = HealthUri::parse("tcp://[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535").unwrap();
        assert!(longest.encode().len() <= 1400, "{}", longest.encode().len());
    }

    proptest! {
        #[test]
        fn every_announcement_comes_back(group in "[a-z ]{1,20}", id: [u8; 16], ip: [u8; 4], port in 1..=u16::MAX, path in "[a-z/]{0,20}") {
            let announcement = Announcement {
                group: group.parse().unwrap(),
                member: MemberId::from_bytes(id),
                health: HealthUri::answer((ip, port).into()),
                service: Uri::parse(&format!("tcp://x/{path}")).unwrap(),
            };
            prop_assert_eq!(Announcement::decode(announcement.encode().as_bytes()), Ok(announcement));
        }

        #[test]
        fn no_datagram_is_a_panic_and_every_accepted_one_is_canonical(
            at in 0..80_usize, byte: u8, cut in 0..80_usize, noise in proptest::collection::vec(any::<u8>(), 0..60)
        ) {
            let mut flipped = GOLDEN.to_vec();
            flipped[at % GOLDEN.len()] = byte;
            flipped.truncate(cut.max(40));
            for datagram in [flipped, noise] {
                if let Ok(announcement) = Announcement::decode(&datagram) {
                    let again = announcement.encode();
                    prop_assert_eq!(Announcement::decode(again.as_bytes()), Ok(announcement));
                }
            }
        }
    }
}
