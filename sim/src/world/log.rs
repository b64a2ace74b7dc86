//! Who is who, and the records of a run.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hailer::Timestamp;
use hailer::group::MemberId;
use hailer::zre::{Event, PeerId};

pub(super) mod group;
mod repeater;

use super::journal::Journal;
use super::message::Label;
use crate::memory;
use crate::scenario::NodeIndex;
use crate::trace::{Record, Subject, Trace, Traffic, What};

/// The true time, which no program can see.
pub(super) type TrueTime = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The log of one run. Cloning gives another handle on the same log.
#[derive(Clone)]
pub(super) struct Log {
    state: Arc<Mutex<State>>,
    now: TrueTime,
}

#[derive(Default)]
struct State {
    records: Vec<Record>,
    /// Whose identity is whose. An identity that a node keeps over its lives stands for the last one, and one that several
    /// nodes have for the first of them.
    subjects: BTreeMap<PeerId, Subject>,
    /// The identity of each node's last life.
    peers: BTreeMap<NodeIndex, PeerId>,
    journal: Option<Journal>,
    /// Whose identity in a LAN group is whose.
    members: BTreeMap<MemberId, (NodeIndex, u32)>,
}

/// The pen of one life of one node.
#[derive(Clone)]
pub(super) struct Author {
    log: Log,
    pub(super) node: NodeIndex,
    pub(super) life: u32,
}

impl Log {
    /// An empty log. What programs write down is stamped by this clock, and not by their own.
    pub(super) fn new(now: TrueTime) -> Self {
        Self { state: Arc::default(), now }
    }

    /// A node begins a life.
    pub(super) fn born(&self, at: Timestamp, node: NodeIndex, life: u32, peer: Option<PeerId>) -> Author {
        let mut state = self.lock();
        if let Some(peer) = peer {
            let is_anothers =
                matches!(state.subjects.get(&peer), Some(Subject::Life(owner, _)) if *owner != node);
            if !is_anothers {
                state.subjects.insert(peer, Subject::Life(node, life));
            }
            state.peers.insert(node, peer);
            state.push(Record { at, node, what: What::Up { life, peer } });
        }
        Author { log: self.clone(), node, life }
    }

    pub(super) fn record(&self, at: Timestamp, node: NodeIndex, what: What) {
        self.lock().push(Record { at, node, what });
    }

    /// From now on every record is a line of this journal, too.
    pub(super) fn write_to(&self, journal: Journal) {
        self.lock().journal = Some(journal);
    }

    /// The identity of a node's last life.
    pub(super) fn peer_of(&self, node: NodeIndex) -> Option<PeerId> {
        self.lock().peers.get(&node).copied()
    }

    /// The trace of a finished run.
    pub(super) fn into_trace(
        self,
        seed: u64,
        duration: Duration,
        traffic: Vec<Traffic>,
        fingerprint: u64,
    ) -> Trace {
        let records = std::mem::take(&mut self.lock().records);
        let mut digest = Digest::default();
        (seed, duration, fingerprint).hash(&mut digest);
        records.hash(&mut digest);
        traffic.hash(&mut digest);
        let digest = digest.hashed().finalize().to_hex()[..32].to_owned();
        Trace { seed, duration, records, traffic, loads: Vec::new(), digest }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

impl State {
    fn push(&mut self, record: Record) {
        // The program that tells of something does not keep it.
        let record = memory::taken_outside(record);
        memory::outside(|| self.keep(record));
    }

    fn keep(&mut self, record: Record) {
        if let Some(journal) = &self.journal {
            journal.record(&record);
        }
        self.records.push(record);
    }
}

impl Author {
    /// Writes down something that the program did.
    pub(super) fn record(&self, what: What) {
        self.log.record((self.log.now)(), self.node, what);
    }

    /// Who has this identity.
    pub(super) fn subject(&self, peer: PeerId) -> Subject {
        self.log.lock().subjects.get(&peer).copied().unwrap_or(Subject::Stranger(peer))
    }

    /// Writes down something that the program was told.
    pub(super) fn event(&self, event: &Event) {
        let what = match event {
            Event::Enter { peer, .. } => What::Enter(self.subject(*peer)),
            Event::Exit { peer, reason, .. } => What::Exit(self.subject(*peer), reason.to_string()),
            Event::Evasive { peer, .. } => What::Evasive(self.subject(*peer)),
            Event::Silent { peer, .. } => What::Silent(self.subject(*peer)),
            Event::Join { peer, group, .. } => What::Join(self.subject(*peer), group.to_string()),
            Event::Leave { peer, group, .. } => What::Leave(self.subject(*peer), group.to_string()),
            Event::Leader { peer, group, .. } => What::Leader(self.subject(*peer), group.to_string()),
            Event::Shout { peer, group, content, .. } => {
                let from = self.subject(*peer);
                let (number, is_intact) = identify(from, content);
                What::GotShout { from, group: group.to_string(), number, is_intact }
            }
            Event::Whisper { peer, content, .. } => {
                let from = self.subject(*peer);
                let (number, is_intact) = identify(from, content);
                What::GotWhisper { from, number, is_intact }
            }
            Event::Stop => What::Stopped,
            _ => return,
        };
        self.record(what);
    }
}

/// The number of a received message, and whether it is whole and really its sender's.
fn identify(from: Subject, content: &[bytes::Bytes]) -> (Option<u64>, bool) {
    match Label::read(content) {
        Some((label, is_intact)) => {
            (Some(label.number), is_intact && from == Subject::Life(label.node, label.life))
        }
        None => (None, false),
    }
}

/// Feeds what derives `Hash` to a hash that is the same in every process. `Hash` comes in crumbs, so they are gathered.
#[derive(Default)]
struct Digest {
    hasher: blake3::Hasher,
    crumbs: Vec<u8>,
}

/// How much is gathered before it is hashed.
const CRUMBS_BYTES: usize = 16 << 10;

impl Digest {
    fn hashed(&self) -> blake3::Hasher {
        let mut hasher = self.hasher.clone();
        hasher.update(&self.crumbs);
        hasher
    }
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.crumbs.extend_from_slice(bytes);
        if self.crumbs.len() >= CRUMBS_BYTES {
            self.hasher.update(&self.crumbs);
            self.crumbs.clear();
        }
    }

    fn finish(&self) -> u64 {
        let hash = self.hashed().finalize();
        u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
    }
}
