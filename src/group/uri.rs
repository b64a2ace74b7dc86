//! URIs that strangers announce: taken apart before anything is done with them.
//!
//! pir hands what a datagram says to a URI parser and to the dialler, and dies of some of it. Here a URI is checked first:
//! the characters, the percent escapes, the host and the port. A health URI names an IP address, because looking a name
//! up for a stranger is one more thing that a datagram could make this machine do.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// The longest URI, in bytes. An announcement with two of them and the longest group fits one packet of 1,500 bytes.
pub const URI_BYTES_MAX: usize = 512;

/// Why a text is not a URI that may be announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// Longer than [`URI_BYTES_MAX`].
    #[error("{len} bytes, a URI has at most {URI_BYTES_MAX}")]
    Length {
        /// Its length in bytes.
        len: usize,
    },
    /// It does not start with a scheme and a colon.
    #[error("it does not start with a scheme, as `tcp://` does")]
    Scheme,
    /// A character that no URI has, such as a space, a `|` or a control character.
    #[error("a character at byte {at} that a URI can't have")]
    Character {
        /// Where, counted in bytes from 0.
        at: usize,
    },
    /// A percent sign without two hexadecimal digits after it.
    #[error("a percent sign at byte {at} without two hexadecimal digits")]
    Escape {
        /// Where, counted in bytes from 0.
        at: usize,
    },
    /// What comes after the host is not a port.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// A host that is not an IP address, where one is needed.
    #[error("the host is not an IP address")]
    Host,
    /// A scheme that says nothing about how to check health.
    #[error("health is checked by `tcp://`, `http://` and `open://`")]
    Health,
}

/// A URI whose characters, escapes and port are right. What it means is up to the application.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uri(Arc<str>);

impl Uri {
    /// Checks a URI.
    ///
    /// # Errors
    /// What is wrong with it first.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        check(text)?;
        split(text)?;
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same with `address` in place of a host that stands for every address: `*`, `0.0.0.0` or `[::]`.
    pub fn at(&self, address: IpAddr) -> Self {
        let Ok(Parts { host: Some(host), .. }) = split(&self.0) else { return self.clone() };
        if !matches!(host, "*" | "0.0.0.0" | "[::]") {
            return self.clone();
        }
        let from = host.as_ptr() as usize - self.0.as_ptr() as usize;
        let (before, after) = (&self.0[..from], &self.0[from + host.len()..]);
        Self(format!("{before}{}{after}", Host(address)).into())
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// How a member's health is checked, and where.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HealthUri {
    /// How.
    pub how: How,
    /// Where.
    pub at: SocketAddr,
}

/// How health is checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum How {
    /// `tcp://`: connect, send a zero byte, get a zero byte. What every member answers.
    Answer,
    /// `open://`: connect. Any open port will do.
    Open,
    /// `http://`: GET this path, get a status from 200 to 299.
    Get(Arc<str>),
}

impl HealthUri {
    /// The address at which a member answers for itself.
    pub const fn answer(at: SocketAddr) -> Self {
        Self { how: How::Answer, at }
    }

    /// Reads a health URI.
    ///
    /// # Errors
    /// As [`Uri::parse`]; and when its scheme is none of the three, or its host is not an IP address.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        check(text)?;
        let Parts { scheme, host, port, path } = split(text)?;
        let how = match scheme {
            "tcp" => How::Answer,
            "open" => How::Open,
            "http" => How::Get(if path.is_empty() { "/" } else { path }.into()),
            _ => return Err(UriError::Health),
        };
        let host = host.ok_or(UriError::Host)?;
        let port = match (port, &how) {
            (Some(port), _) => port,
            (None, How::Get(_)) => 80,
            (None, _) => return Err(UriError::Port),
        };
        let ip = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(six) => IpAddr::V6(six.parse::<Ipv6Addr>().map_err(|_| UriError::Host)?),
            None => IpAddr::V4(host.parse::<Ipv4Addr>().map_err(|_| UriError::Host)?),
        };
        if port == 0 {
            return Err(UriError::Port);
        }
        Ok(Self { how, at: SocketAddr::new(ip, port) })
    }

    /// The same at another address of the machine, when its own stands for all of them.
    pub fn at_address(&self, address: IpAddr) -> Self {
        let mut moved = self.clone();
        if moved.at.ip().is_unspecified() {
            moved.at = SocketAddr::new(address, moved.at.port());
        }
        moved
    }
}

impl fmt::Display for HealthUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, path): (_, &str) = match &self.how {
            How::Answer => ("tcp", ""),
            How::Open => ("open", ""),
            How::Get(path) => ("http", path),
        };
        write!(f, "{scheme}://{}:{}{path}", Host(self.at.ip()), self.at.port())
    }
}

impl fmt::Debug for HealthUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address as the host of a URI.
struct Host(IpAddr);

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(address) => write!(f, "[{address}]"),
        }
    }
}

/// The parts of a URI that are looked at.
struct Parts<'a> {
    scheme: &'a str,
    /// The host, when there is one; with its brackets.
    host: Option<&'a str>,
    port: Option<u16>,
    /// What follows the authority.
    path: &'a str,
}

/// RFC 3986's characters and escapes, and a length. A star is one of its characters.
fn check(text: &str) -> Result<(), UriError> {
    let bytes = text.as_bytes();
    if bytes.len() > URI_BYTES_MAX {
        return Err(UriError::Length { len: bytes.len() });
    }
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'%' => {
                let digits = bytes.get(at + 1..at + 3).unwrap_or_default();
                if digits.len() < 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(UriError::Escape { at });
                }
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => {}
            other if b"-._~:/?#[]@!$&'()*+,;=".contains(other) => {}
            _ => return Err(UriError::Character { at }),
        }
    }
    Ok(())
}

fn split(text: &str) -> Result<Parts<'_>, UriError> {
    let (scheme, rest) = text.split_once(':').ok_or(UriError::Scheme)?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !is_scheme {
        return Err(UriError::Scheme);
    }
    let Some(rest) = rest.strip_prefix("//") else {
        return Ok(Parts { scheme, host: None, port: None, path: rest });
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, authority)| authority);
    let (host, port) = match authority.strip_prefix('[') {
        Some(six) => {
            let end = six.find(']').ok_or(UriError::Host)? + 2;
            (&authority[..end], &authority[end..])
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    // Go's parser, which pir uses, refuses brackets elsewhere and ports that are no numbers.
    if host.trim_matches(['[', ']']).contains(['[', ']'])
        || (!host.starts_with('[') && host.contains(['[', ']']))
    {
        return Err(UriError::Host);
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        None => return Err(UriError::Port),
        Some("") => None,
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            Some(digits.parse().map_err(|_| UriError::Port)?)
        }
        Some(_) => return Err(UriError::Port),
    };
    Ok(Parts { scheme, host: Some(host), port, path })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn uris_of_services_are_taken_as_they_are() {
        for text in [
            "tcp://10.1.1.1:80",
            "http://camera-3.local/stream?x=%2F#top",
            "udp://[fd77::1]:5353",
            "mailto:somebody@example.org",
            "tcp://*:8080/x",
        ] {
            assert_eq!(Uri::parse(text).map(|uri| uri.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_a_parser_of_theirs_would_choke_on_is_refused() {
        for (text, error) in [
            ("", UriError::Scheme),
            ("10.1.1.1:80", UriError::Scheme),
            ("://x", UriError::Scheme),
            ("tcp://a b", UriError::Character { at: 7 }),
            ("tcp://a|b", UriError::Character { at: 7 }),
            ("tcp://a\n", UriError::Character { at: 7 }),
            ("tcp://%zz", UriError::Escape { at: 6 }),
            ("tcp://a/%2", UriError::Escape { at: 8 }),
            ("tcp://a:b", UriError::Port),
            ("tcp://a:99999", UriError::Port),
            ("tcp://[::1", UriError::Host),
            ("tcp://[::1]x", UriError::Port),
        ] {
            assert_eq!(Uri::parse(text), Err(error), "{text}");
        }
        let longest = format!("tcp://{}", "a".repeat(URI_BYTES_MAX - 6));
        assert!(Uri::parse(&longest).is_ok());
        assert_eq!(Uri::parse(&format!("{longest}a")), Err(UriError::Length { len: URI_BYTES_MAX + 1 }));
    }

    #[test]
    fn health_is_checked_at_an_address_and_in_one_of_three_ways() {
        for (text, how, at) in [
            ("tcp://10.9.0.1:36215", How::Answer, "10.9.0.1:36215"),
            ("open://[fd77::1]:22", How::Open, "[fd77::1]:22"),
            ("http://10.0.0.1/health?x=1", How::Get("/health?x=1".into()), "10.0.0.1:80"),
        ] {
            let uri = HealthUri::parse(text).unwrap();
            assert_eq!((uri.how.clone(), uri.at), (how, at.parse().unwrap()), "{text}");
        }
        for (text, error) in [
            ("udp://10.9.0.1:36215", UriError::Health),
            ("tcp://printer:9100", UriError::Host),
            ("tcp://10.9.0.1", UriError::Port),
            ("tcp://10.9.0.1:0", UriError::Port),
            ("tcp://10.9.0:80", UriError::Host),
            ("tcp://[fe80::1%25eth0]:80", UriError::Host),
            ("tcp:10.9.0.1:80", UriError::Host),
        ] {
            assert_eq!(HealthUri::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_host_for_every_address_becomes_the_one_that_is_announced() {
        let at =
            |text: &str, address: &str| Uri::parse(text).unwrap().at(address.parse().unwrap()).to_string();
        assert_eq!(at("tcp://*:80/x", "10.0.0.7"), "tcp://10.0.0.7:80/x");
        assert_eq!(at("tcp://0.0.0.0:80", "fd77::1"), "tcp://[fd77::1]:80");
        assert_eq!(at("tcp://10.0.0.1:80", "10.0.0.7"), "tcp://10.0.0.1:80");
        let health =
            HealthUri::parse("http://0.0.0.0:80/up").unwrap().at_address("10.0.0.7".parse().unwrap());
        assert_eq!(health.to_string(), "http://10.0.0.7:80/up");
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic_and_every_accepted_one_is_kept(text in "\\PC{0,40}|[a-z]{1,4}://[0-9a-f.:%\\[\\]*/@]{0,30}") {
            if let Ok(uri) = Uri::parse(&text) {
                prop_assert_eq!(uri.as_str(), text.as_str());
                let _ = uri.at("10.0.0.1".parse().unwrap());
            }
            if let Ok(uri) = HealthUri::parse(&text) {
                prop_assert_eq!(HealthUri::parse(&uri.to_string()), Ok(uri));
            }
        }
    }
}
