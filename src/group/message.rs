//! What members of this kind tell each other, in datagrams that pir takes for another group's and ignores.
//!
//! ```text
//! hailer1+GROUP|SENDER|hailer:KIND|hailer:ITEM;ITEM;..
//! ```
//!
//! Four parts as an announcement, so that pir does not even warn. An item is an identity (with its age in milliseconds,
//! when it is a suspect), or an entry: what is known of a
//! member, `ID,VERSION,PORT,HEALTH,SERVICE,CHECK`, in which `%`, `,` and `;` of URIs are escaped. The same entries are the
//! lines of a list ([`List`]), which one member fetches from another over TCP, at the address where it answers health
//! checks: a first byte that is not zero makes pir close the connection, and a member of this kind read on.

use std::fmt::Write as _;

use super::announcement::{AnnouncementError, GroupName, MemberId, OURS, identity, parts};
use super::uri::{HealthUri, How, Uri};

/// The longest datagram that is sent, so that none is cut into fragments.
pub(super) const DATAGRAM_BYTES_MAX: usize = 1400;
/// The longest line of a list: a sign and an entry, every byte of whose URIs is escaped.
pub(super) const LINE_BYTES_MAX: usize = 5000;
/// The most lines of a list. More are no group of one network.
pub(super) const LINES_MAX: usize = 20_000;

/// What is known of a member, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) member: MemberId,
    /// Counts up each time that it changes what follows.
    pub(super) version: u32,
    /// The UDP port at which it hears what is for it alone; 0 when it is of pir's kind.
    pub(super) port: u16,
    /// Where it answers for itself.
    pub(super) health: HealthUri,
    pub(super) service: Uri,
    /// What is to be checked instead of that.
    pub(super) check: Option<HealthUri>,
}

/// What one member tells others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// I am here. Comes with every announcement.
    Here(Entry),
    /// I leave.
    Leave,
    /// These answered me just now; or, when it is the sender itself, I live.
    Alive(Vec<Entry>),
    /// These answered neither me nor whom I asked, and have been suspect for so many milliseconds. Whoever they answer, say
    /// so.
    Suspect(Vec<(MemberId, u16)>),
    /// Check these, and tell me which answer you.
    Ask(Vec<MemberId>),
}

/// A message with who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) group: GroupName,
    pub(super) sender: MemberId,
    pub(super) message: Message,
}

/// Why a datagram is none of ours. No state changes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MessageError {
    #[error(transparent)]
    Shape(#[from] AnnouncementError),
    #[error("a kind of message that is not known")]
    Kind,
    #[error("an item that is neither an identity nor an entry")]
    Item,
}

impl Told {
    /// Whether a datagram says that it is one of ours.
    pub(super) fn is_ours(datagram: &[u8]) -> bool {
        datagram.starts_with(OURS.as_bytes())
    }

    /// The datagrams, as many as it takes.
    pub(super) fn encode(&self) -> Vec<String> {
        let (kind, items): (_, Vec<String>) = match &self.message {
            Message::Here(entry) => ("here", vec![entry.encode()]),
            Message::Leave => ("leave", Vec::new()),
            Message::Alive(entries) => ("alive", entries.iter().map(Entry::encode).collect()),
            Message::Suspect(members) => {
                ("suspect", members.iter().map(|(member, age_ms)| format!("{member},{age_ms}")).collect())
            }
            Message::Ask(members) => ("ask", members.iter().map(ToString::to_string).collect()),
        };
        let head = format!("{OURS}{}|{}|hailer:{kind}|hailer:", self.group, self.sender);
        let mut datagrams = vec![head.clone()];
        for item in items {
            let last = datagrams.last_mut().expect("there is always one");
            let is_first = last.len() == head.len();
            if !is_first && last.len() + 1 + item.len() > DATAGRAM_BYTES_MAX {
                datagrams.push(head.clone() + &item);
            } else {
                let _ = write!(last, "{}{item}", if is_first { "" } else { ";" });
            }
        }
        datagrams
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// When it is none of ours.
    pub(super) fn decode(datagram: &[u8]) -> Result<Self, MessageError> {
        let [group, sender, kind, body] = parts(datagram)?;
        let group = group.strip_prefix(OURS).ok_or(MessageError::Kind)?;
        let group = group.parse().map_err(AnnouncementError::Group)?;
        let sender = identity(sender).ok_or(AnnouncementError::Identity)?;
        let body = body.strip_prefix("hailer:").ok_or(MessageError::Item)?;
        let items = || body.split(';').filter(|item| !item.is_empty());
        let members =
            || items().map(|item| identity(item).ok_or(MessageError::Item)).collect::<Result<Vec<_>, _>>();
        let entries = || {
            items().map(|item| Entry::decode(item).ok_or(MessageError::Item)).collect::<Result<Vec<_>, _>>()
        };
        let message = match kind {
            "hailer:here" => {
                let entry = Entry::decode(body).filter(|entry| entry.member == sender);
                Message::Here(entry.ok_or(MessageError::Item)?)
            }
            "hailer:leave" => Message::Leave,
            "hailer:alive" => Message::Alive(entries()?),
            "hailer:suspect" => {
                let suspect = |item: &str| {
                    let (member, age_ms) = item.split_once(',')?;
                    Some((identity(member)?, age_ms.parse().ok()?))
                };
                let suspects = items().map(|item| suspect(item).ok_or(MessageError::Item));
                Message::Suspect(suspects.collect::<Result<_, _>>()?)
            }
            "hailer:ask" => Message::Ask(members()?),
            _ => return Err(MessageError::Kind),
        };
        Ok(Self { group, sender, message })
    }
}

impl Entry {
    /// What has to be checked.
    pub(super) fn target(&self) -> &HealthUri {
        self.check.as_ref().unwrap_or(&self.health)
    }

    fn encode(&self) -> String {
        let Self { member, version, port, health, service, check } = self;
        let check = check.as_ref().map(|check| escaped(&check.to_string())).unwrap_or_default();
        format!(
            "{member},{version},{port},{},{},{check}",
            escaped(&health.to_string()),
            escaped(service.as_str())
        )
    }

    fn decode(item: &str) -> Option<Self> {
        let mut fields = item.split(',');
        let mut next = || fields.next();
        let member = identity(next()?)?;
        let (version, port) = (next()?.parse().ok()?, next()?.parse().ok()?);
        let health =
            HealthUri::parse(&unescaped(next()?)?).ok().filter(|health| health.how == How::Answer)?;
        let service = Uri::parse(&unescaped(next()?)?).ok()?;
        let check = match next()? {
            "" => None,
            check => Some(HealthUri::parse(&unescaped(check)?).ok()?),
        };
        next().is_none().then_some(Self { member, version, port, health, service, check })
    }
}

/// What one member fetches from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct List {
    /// The members that it knows, itself among them; none when both know the same.
    pub(super) entries: Vec<Entry>,
    /// Who is gone, for some time.
    pub(super) gone: Vec<MemberId>,
}

/// The line that asks for a list: the digest of whom the asker knows.
pub(super) fn request(group: &GroupName, asker: MemberId, digest: u64) -> String {
    format!("{OURS}{group}|{asker}|hailer:list|hailer:{digest:016x}\n")
}

/// Reads the line that asks for a list, without its end: for which group, and the asker's digest.
pub(super) fn read_request(line: &[u8]) -> Option<(GroupName, u64)> {
    let [group, _, kind, digest] = parts(line).ok()?;
    let group = group.strip_prefix(OURS)?.parse().ok()?;
    let digest = digest.strip_prefix("hailer:").filter(|digest| digest.len() == 16)?;
    (kind == "hailer:list").then_some((group, u64::from_str_radix(digest, 16).ok()?))
}

/// The line that ends a list.
const END: &str = ".";

impl List {
    /// The lines of the list.
    pub(super) fn encode(&self) -> String {
        let mut text = String::new();
        for entry in &self.entries {
            let _ = writeln!(text, "+{}", entry.encode());
        }
        for member in &self.gone {
            let _ = writeln!(text, "-{member}");
        }
        text + END + "\n"
    }

    /// Takes a line in, without its end. `Some` when nothing more is to come: whether the list is whole.
    pub(super) fn take(&mut self, line: &[u8]) -> Option<bool> {
        let Ok(line) = std::str::from_utf8(line) else { return Some(false) };
        if line == END {
            return Some(true);
        }
        if self.entries.len() + self.gone.len() >= LINES_MAX {
            return Some(false);
        }
        // A line that a newer kind of member writes is passed over.
        match line.split_at_checked(1) {
            Some(("+", entry)) => self.entries.extend(Entry::decode(entry)),
            Some(("-", member)) => self.gone.extend(identity(member)),
            _ => {}
        }
        None
    }
}

fn escaped(uri: &str) -> String {
    uri.replace('%', "%25").replace(',', "%2C").replace(';', "%3B")
}

/// `None` when an escape is none of those three.
fn unescaped(item: &str) -> Option<String> {
    let mut text = String::with_capacity(item.len());
    let mut rest = item;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        text.push(match after.get(..2)? {
            "25" => '%',
            "2C" => ',',
            "3B" => ';',
            _ => return None,
        });
        rest = &after[2..];
    }
    text.push_str(rest);
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "91b36669-6225-4398-bc26-c153a1e10e61";

    fn entry() -> Entry {
        Entry {
            member: ID.parse().unwrap(),
            version: 3,
            port: 40123,
            health: HealthUri::parse("tcp://10.9.0.1:36215").unwrap(),
            service: Uri::parse("tcp://10.1.1.1:80/a,b;c%2F").unwrap(),
            check: Some(HealthUri::parse("http://10.9.0.1:80/up").unwrap()),
        }
    }

    fn told(message: Message) -> Told {
        Told { group: "abc".parse().unwrap(), sender: ID.parse().unwrap(), message }
    }

    /// Bytes on the wire: members of other versions read them.
    #[test]
    fn each_message_has_its_bytes() {
        let item = format!(
            "{ID},3,40123,tcp://10.9.0.1:36215,tcp://10.1.1.1:80/a%2Cb%3Bc%252F,http://10.9.0.1:80/up"
        );
        for (message, kind, body) in [
            (Message::Here(entry()), "here", item.clone()),
            (Message::Leave, "leave", String::new()),
            (Message::Alive(vec![entry(), entry()]), "alive", format!("{item};{item}")),
            (Message::Suspect(vec![(entry().member, 250)]), "suspect", format!("{ID},250")),
            (Message::Ask(vec![entry().member; 2]), "ask", format!("{ID};{ID}")),
        ] {
            let datagram = format!("hailer1+abc|{ID}|hailer:{kind}|hailer:{body}");
            assert_eq!(told(message.clone()).encode(), std::slice::from_ref(&datagram));
            assert_eq!(Told::decode(datagram.as_bytes()), Ok(told(message)));
        }
    }

    /// pir takes a datagram apart at the bars and compares the first part with the name of its group.
    #[test]
    fn pir_takes_every_message_for_another_group_s() {
        for message in [Message::Here(entry()), Message::Leave, Message::Suspect(vec![(entry().member, 0)])] {
            let datagram = told(message).encode().remove(0);
            let parts: Vec<_> = datagram.split('|').collect();
            assert_eq!(parts.len(), 4);
            assert!(parts[0].parse::<GroupName>().is_err(), "no group of anybody is called so");
        }
    }

    #[test]
    fn what_does_not_fit_one_datagram_comes_in_several() {
        let many = told(Message::Suspect(vec![(entry().member, 0); 100]));
        let datagrams = many.encode();
        assert!(datagrams.len() > 2 && datagrams.iter().all(|datagram| datagram.len() <= DATAGRAM_BYTES_MAX));
        let back =
            datagrams.iter().map(|datagram| match Told::decode(datagram.as_bytes()).unwrap().message {
                Message::Suspect(members) => members.len(),
                _ => 0,
            });
        assert_eq!(back.sum::<usize>(), 100);
    }

    #[test]
    fn what_is_none_of_ours_is_refused() {
        for datagram in [
            format!("abc|{ID}|hailer:leave|hailer:"),
            format!("hailer1+|{ID}|hailer:leave|hailer:"),
            "hailer1+abc|x|hailer:leave|hailer:".to_owned(),
            format!("hailer1+abc|{ID}|hailer:dance|hailer:"),
            format!("hailer1+abc|{ID}|hailer:leave|x"),
            format!("hailer1+abc|{ID}|hailer:suspect|hailer:{ID}"),
            format!("hailer1+abc|{ID}|hailer:suspect|hailer:x"),
            format!("hailer1+abc|{ID}|hailer:here|hailer:{ID},1,2,udp://10.0.0.1:1,tcp://x,"),
            format!("hailer1+abc|{ID}|hailer:here|hailer:{ID},1,2,http://10.0.0.1:1,tcp://x,"),
            format!("hailer1+abc|{ID}|hailer:here|hailer:{ID},1,2,tcp://10.0.0.1:1,tcp://x"),
            format!("hailer1+abc|{ID}|hailer:here|hailer:{ID},1,2,tcp://10.0.0.1:1,tcp://x,,"),
            format!("hailer1+abc|{ID}|hailer:here|hailer:{ID},1,2,tcp://10.0.0.1:1,tcp://%41,"),
            "hailer1+abc|91b36669-6225-4398-bc26-c153a1e10e62|hailer:here|hailer:".to_owned()
                + &format!("{ID},1,2,tcp://10.0.0.1:1,tcp://x,"),
        ] {
            assert!(Told::decode(datagram.as_bytes()).is_err(), "{datagram}");
        }
    }

    #[test]
    fn a_list_is_lines_and_ends_with_a_full_stop() {
        let list = List { entries: vec![entry()], gone: vec![entry().member] };
        let text = list.encode();
        let mut back = List::default();
        let ends: Vec<_> = text.lines().map(|line| back.take(line.as_bytes())).collect();
        assert_eq!(ends, [None, None, Some(true)]);
        assert_eq!(back, list);
        assert_eq!(back.take(b"?whatever comes later"), None);
        assert_eq!(back.take(b"\xff"), Some(false));
        let group: GroupName = "abc".parse().unwrap();
        let line = request(&group, entry().member, 0xAB);
        assert_eq!(line, format!("hailer1+abc|{ID}|hailer:list|hailer:00000000000000ab\n"));
        assert_eq!(read_request(line.trim_end().as_bytes()), Some((group, 0xAB)));
        assert_eq!(read_request(b"GET / HTTP/1.1"), None);
    }

    #[test]
    fn a_list_without_end_is_cut_off() {
        let mut list = List::default();
        let line = format!("-{ID}");
        let taken = (0..=LINES_MAX).take_while(|_| list.take(line.as_bytes()).is_none()).count();
        assert_eq!((taken, list.take(line.as_bytes())), (LINES_MAX, Some(false)));
    }

    proptest! {
        #[test]
        fn escaping_is_undone(text in "[%,;a-z]{0,20}") {
            prop_assert_eq!(unescaped(&escaped(&text)), Some(text));
        }

        #[test]
        fn no_datagram_is_a_panic_and_every_accepted_one_is_canonical(
            at in 0..200_usize, byte: u8, cut in 0..200_usize, noise in proptest::collection::vec(any::<u8>(), 0..60)
        ) {
            let mut flipped = told(Message::Alive(vec![entry()])).encode().remove(0).into_bytes();
            let len = flipped.len();
            flipped[at % len] = byte;
            flipped.truncate(cut.max(50));
            let ours = [OURS.as_bytes(), &noise].concat();
            for datagram in [flipped, noise, ours] {
                if let Ok(told) = Told::decode(&datagram) {
                    let again = told.encode();
                    prop_assert_eq!(again.len(), 1);
                    prop_assert_eq!(Told::decode(again[0].as_bytes()), Ok(told));
                }
                let _ = read_request(&datagram);
                let _ = List::default().take(&datagram);
            }
        }
    }
}
