//! The tuples of a hub: who says so, how long they live, and what is news to whom.
//!
//! # Who says so
//!
//! A tuple is known by one or more *claims*: at most one of our own clients', and one for each hub that told us. It is there
//! as long as one of them lives. Clients are told one value of each key, that which changed last.
//!
//! czmq's clients repeat what they hear: each sends every tuple back, and after a reconnect everything that it ever heard,
//! whether or not those nodes still live. So there is a difference between a node's *own* word and *hearsay*. A node's own
//! word lives with its connection, and a time longer; hearsay is believed when the node itself is not there to say
//! otherwise, and never about a node that we have seen go.
//!
//! # News between hubs
//!
//! Each hub numbers its news: a tuple of its own clients that is new, has changed, is still there or has gone. News that are
//! not newer than what is known of the same hub and key go no further, so they can't run in circles, whatever the hubs'
//! connections look like. What a hub says lives for as long as it says; a hub that lives says it again in time. What has
//! gone is remembered for the rest of that time, so that older news that come late do not bring it back.
//!
//! It does no IO and reads no clock. Who hears of a change is the hub's business.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::dialect::{Key, Stamped};
use super::{Config, Counters, Limits, LinkId};
use crate::Timestamp;
use crate::zre::{PeerId, Text};

/// Expired tuples are looked for no more often than this: it walks the table.
const SWEEP: Duration = Duration::from_millis(500);
/// How long a node's end is remembered, so that those who repeat what they heard do not bring it back.
const MEMORY: Duration = Duration::from_secs(600);

/// Who publishes a tuple, and how far that is to be believed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) link: LinkId,
    /// The node itself says so.
    pub(super) is_own: bool,
    /// What is known already may be an echo of what we sent.
    pub(super) may_echo: bool,
    /// How long it lives if it is not said again; `None` for as long as the link.
    pub(super) lives: Option<Duration>,
}

/// What a change of the store means for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A key has this value now.
    Set { key: Key, value: Text },
    /// A key has gone.
    Gone { key: Key, value: Text, is_withdrawn: bool },
    /// Other hubs have to hear this.
    News(News),
}

/// A piece of news between hubs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) stamped: Stamped,
    pub(super) value: Text,
    /// How long it lives, 0 when it has gone.
    pub(super) left_ms: u32,
}

#[derive(Debug)]
pub(super) struct Store {
    own: PeerId,
    ttl: Duration,
    limits: Limits,
    last_stamp: u64,
    tuples: BTreeMap<Key, Tuple>,
    by_link: BTreeMap<LinkId, BTreeSet<Key>>,
    /// Nodes that went, with what they had said.
    dead: BTreeMap<Key, (Text, Timestamp)>,
    claims: usize,
    bytes: usize,
    next_sweep: Timestamp,
    last_sweep: Timestamp,
    next_refresh: Timestamp,
    pub(super) counters: Counters,
}

#[derive(Debug, Default)]
struct Tuple {
    /// What clients were told; `None` when all claims are dead.
    current: Option<Text>,
    local: Option<Local>,
    distant: BTreeMap<PeerId, Distant>,
}

/// The claim of our own clients.
#[derive(Debug)]
struct Local {
    value: Text,
    is_own: bool,
    /// Who says so, and how long that counts.
    vouchers: BTreeMap<LinkId, Timestamp>,
    /// How long it lives when nobody says so any more.
    grace: Timestamp,
}

/// The claim of another hub.
#[derive(Debug)]
struct Distant {
    stamp: u64,
    /// `None` when it has gone.
    value: Option<Text>,
    expires: Timestamp,
}

impl Local {
    fn expires(&self) -> Timestamp {
        self.vouchers.values().copied().max().unwrap_or_default().max(self.grace)
    }
}

impl Tuple {
    fn values(&self) -> impl Iterator<Item = &Text> {
        let distant = self.distant.values().filter_map(|claim| claim.value.as_ref());
        self.local.iter().map(|local| &local.value).chain(distant)
    }

    #[cfg(any(test, feature = "fuzzing"))]
    fn claims(&self) -> impl Iterator<Item = &Distant> {
        self.distant.values()
    }

    fn next_due(&self) -> Timestamp {
        let distant = self.distant.values().map(|claim| claim.expires);
        self.local.iter().map(Local::expires).chain(distant).min().unwrap_or(Timestamp::NEVER)
    }
}

impl Store {
    pub(super) fn new(own: PeerId, ttl: Duration, limits: Limits, now: Timestamp) -> Self {
        Self {
            own,
            ttl,
            limits,
            last_stamp: 0,
            tuples: BTreeMap::new(),
            by_link: BTreeMap::new(),
            dead: BTreeMap::new(),
            claims: 0,
            bytes: 0,
            next_sweep: Timestamp::NEVER,
            last_sweep: now,
            next_refresh: Timestamp::NEVER,
            counters: Counters::default(),
        }
    }

    /// The tuples that there are, in the order of their keys.
    pub(super) fn tuples(&self) -> impl Iterator<Item = (&Key, &Text)> {
        self.tuples.iter().filter_map(|(key, tuple)| Some((key, tuple.current.as_ref()?)))
    }

    /// What a tuple's value is.
    pub(super) fn value(&self, key: &Key) -> Option<&Text> {
        self.tuples.get(key)?.current.as_ref()
    }

    /// Whether this link vouches for a tuple.
    pub(super) fn is_of(&self, link: LinkId, key: &Key) -> bool {
        self.by_link.get(&link).is_some_and(|keys| keys.contains(key))
    }

    /// Everything that a hub has to know that knows nothing.
    pub(super) fn all_news(&mut self, now: Timestamp) -> Vec<News> {
        let mut news = Vec::new();
        for (key, tuple) in &self.tuples {
            for (origin, claim) in &tuple.distant {
                if let Some(value) = &claim.value {
                    let stamped = Stamped { origin: *origin, stamp: claim.stamp, key: key.clone() };
                    news.push(News { stamped, value: value.clone(), left_ms: left_ms(now, claim.expires) });
                }
            }
        }
        let keys: Vec<Key> = self.local_keys();
        news.extend(keys.iter().filter_map(|key| self.local_news(now, key)));
        news.retain(|news| news.left_ms > 0);
        news
    }

    fn local_keys(&self) -> Vec<Key> {
        self.tuples.iter().filter(|(_, tuple)| tuple.local.is_some()).map(|(key, _)| key.clone()).collect()
    }

    /// What our own clients say of a key, with a number of its own; `None` when it does not fit between hubs.
    fn local_news(&mut self, now: Timestamp, key: &Key) -> Option<News> {
        let local = self.tuples.get(key)?.local.as_ref()?;
        let (value, left) = (local.value.clone(), left_ms(now, local.expires()));
        let left_ms = left.min(u32::try_from(self.ttl.as_millis()).unwrap_or(u32::MAX));
        let stamped = self.stamped(key)?;
        Some(News { stamped, value, left_ms })
    }

    fn stamped(&mut self, key: &Key) -> Option<Stamped> {
        if key.len() > Stamped::KEY_MAX {
            return None;
        }
        self.last_stamp += 1;
        Some(Stamped { origin: self.own, stamp: self.last_stamp, key: key.clone() })
    }

    /// A client says that a key has a value.
    pub(super) fn publish(&mut self, now: Timestamp, source: Source, key: &Key, value: &Text) -> Vec<Change> {
        let until = source.lives.map_or(Timestamp::NEVER, |lives| now.after(lives.min(Config::TTL_MAX)));
        let local = self.tuples.get_mut(key).and_then(|tuple| tuple.local.as_mut());
        let (mut is_news, mut added) = (true, value.len());
        if let Some(local) = local {
            let is_same = local.value == *value;
            if !source.is_own && local.is_own && !(is_same && local.vouchers.contains_key(&source.link)) {
                self.counters.hearsay_refused += u64::from(!is_same);
                return Vec::new();
            }
            if is_same && !source.is_own && source.may_echo {
                return Vec::new();
            }
            is_news = !is_same;
            added = added.saturating_sub(local.value.len());
        } else if !source.is_own && self.dead.get(key).is_some_and(|(said, _)| said == value) {
            self.counters.hearsay_refused += 1;
            return Vec::new();
        } else if let Some(said) = self.value(key).filter(|_| !source.is_own) {
            // Another hub knows better, or told us what we told this client.
            let is_same = said == value;
            self.counters.hearsay_refused += u64::from(!is_same);
            if !is_same || source.may_echo {
                return Vec::new();
            }
        }
        let is_new = self.tuples.get(key).is_none_or(|tuple| tuple.local.is_none());
        if is_new {
            added += key.len();
        }
        let is_mine = self.is_of(source.link, key);
        let of_client = self.by_link.get(&source.link).map_or(0, BTreeSet::len);
        let is_full = (is_new && self.claims >= self.limits.tuples)
            || self.bytes + added > self.limits.tuple_bytes
            || (!is_mine && of_client >= self.limits.tuples_per_client);
        if is_full {
            self.counters.tuples_over_limit += 1;
            return Vec::new();
        }
        self.put_local(source, key, value, until);
        if source.is_own {
            self.dead.remove(key);
        }
        self.sweep_by(now, until);
        if self.next_refresh == Timestamp::NEVER {
            self.next_refresh = now.after(self.ttl / 3);
        }
        if !is_news {
            return Vec::new();
        }
        let mut changes = self.choose(key, Some(value.clone()), false);
        changes.extend(self.local_news(now, key).map(Change::News));
        changes
    }

    fn put_local(&mut self, source: Source, key: &Key, value: &Text, until: Timestamp) {
        let tuple = self.tuples.entry(key.clone()).or_default();
        let mut unvouched = Vec::new();
        match &mut tuple.local {
            Some(local) => {
                // A node's own word is worth more than all hearsay, and a new value more than who said the old one.
                if local.value != *value || (source.is_own && !local.is_own) {
                    unvouched.extend(std::mem::take(&mut local.vouchers).into_keys());
                    local.grace = Timestamp::ZERO;
                }
                self.bytes = self.bytes - local.value.len() + value.len();
                local.value = value.clone();
                local.is_own |= source.is_own;
                local.vouchers.insert(source.link, until);
            }
            none => {
                self.claims += 1;
                self.bytes += key.len() + value.len();
                let vouchers = BTreeMap::from([(source.link, until)]);
                let (value, is_own) = (value.clone(), source.is_own);
                *none = Some(Local { value, is_own, vouchers, grace: Timestamp::ZERO });
            }
        }
        for link in unvouched {
            self.forget_voucher(link, key);
        }
        self.by_link.entry(source.link).or_default().insert(key.clone());
    }

    fn forget_voucher(&mut self, link: LinkId, key: &Key) {
        if let Some(keys) = self.by_link.get_mut(&link) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_link.remove(&link);
            }
        }
    }

    /// A client withdraws what it published.
    pub(super) fn withdraw(&mut self, now: Timestamp, link: LinkId, key: &Key) -> Vec<Change> {
        if !self.is_of(link, key) {
            return Vec::new();
        }
        self.forget_voucher(link, key);
        let local = self.tuples.get_mut(key).and_then(|tuple| tuple.local.as_mut());
        let Some(local) = local else { return Vec::new() };
        local.vouchers.remove(&link);
        if local.vouchers.is_empty() { self.drop_local(now, key, true) } else { Vec::new() }
    }

    /// A client is gone: what it published lives a while longer.
    pub(super) fn close(&mut self, now: Timestamp, link: LinkId) {
        let grace = now.after(self.ttl);
        for key in self.by_link.remove(&link).unwrap_or_default() {
            let local = self.tuples.get_mut(&key).and_then(|tuple| tuple.local.as_mut());
            let Some(local) = local else { continue };
            if let Some(until) = local.vouchers.remove(&link) {
                local.grace = local.grace.max(until.min(grace));
                let due = local.expires();
                self.sweep_by(now, due);
            }
        }
    }

    /// Another hub has news.
    pub(super) fn hear(&mut self, now: Timestamp, news: News) -> Vec<Change> {
        let News { stamped, value, left_ms } = news;
        let known = self.tuples.get(&stamped.key).and_then(|tuple| tuple.distant.get(&stamped.origin));
        if stamped.origin == self.own || known.is_some_and(|known| known.stamp >= stamped.stamp) {
            self.counters.news_repeated += 1;
            return Vec::new();
        }
        let was = known.and_then(|known| known.value.clone());
        let (is_known, known_expires) = (known.is_some(), known.map(|known| known.expires));
        let added = stamped.key.len() * usize::from(!is_known) + value.len();
        if (!is_known && self.claims >= self.limits.tuples) || self.bytes + added > self.limits.tuple_bytes {
            self.counters.tuples_over_limit += 1;
            return Vec::new();
        }
        let lives = Duration::from_millis(left_ms.into()).min(Config::TTL_MAX);
        // What has gone is remembered for as long as older news could live.
        let expires = match (left_ms, known_expires) {
            (0, Some(expires)) => expires,
            (0, None) => now.after(self.ttl),
            _ => now.after(lives),
        };
        let said = (left_ms > 0).then(|| value.clone());
        self.bytes += said.as_ref().map_or(0, Text::len);
        self.bytes -= was.as_ref().map_or(0, Text::len);
        if !is_known {
            self.claims += 1;
            self.bytes += stamped.key.len();
        }
        let claim = Distant { stamp: stamped.stamp, value: said.clone(), expires };
        self.tuples.entry(stamped.key.clone()).or_default().distant.insert(stamped.origin, claim);
        self.sweep_by(now, expires);
        let mut changes =
            if was == said { Vec::new() } else { self.choose(&stamped.key, said, left_ms == 0) };
        changes.push(Change::News(News { stamped, value, left_ms }));
        changes
    }

    /// Decides what clients are told of a key, after one of its claims has a new value or none.
    fn choose(&mut self, key: &Key, new: Option<Text>, is_withdrawn: bool) -> Vec<Change> {
        let Some(tuple) = self.tuples.get_mut(key) else { return Vec::new() };
        let kept = tuple.current.clone().filter(|current| tuple.values().any(|value| value == current));
        let chosen = new.or(kept).or_else(|| tuple.values().next().cloned());
        let told = std::mem::replace(&mut tuple.current, chosen.clone());
        match (told, chosen) {
            (told, Some(value)) if told.as_ref() != Some(&value) => {
                self.counters.published += 1;
                vec![Change::Set { key: key.clone(), value }]
            }
            (Some(value), None) => {
                *(if is_withdrawn { &mut self.counters.withdrawn } else { &mut self.counters.expired }) += 1;
                vec![Change::Gone { key: key.clone(), value, is_withdrawn }]
            }
            _ => Vec::new(),
        }
    }

    fn drop_local(&mut self, now: Timestamp, key: &Key, is_withdrawn: bool) -> Vec<Change> {
        let stamped = self.stamped(key);
        let Some(tuple) = self.tuples.get_mut(key) else { return Vec::new() };
        let Some(local) = tuple.local.take() else { return Vec::new() };
        self.claims -= 1;
        self.bytes -= key.len() + local.value.len();
        for link in local.vouchers.into_keys() {
            self.forget_voucher(link, key);
        }
        let mut changes = self.choose(key, None, is_withdrawn);
        changes.extend(
            stamped.map(|stamped| Change::News(News { stamped, value: local.value.clone(), left_ms: 0 })),
        );
        if local.is_own && self.dead.len() < self.limits.tuples {
            let until = now.after(MEMORY);
            self.dead.insert(key.clone(), (local.value, until));
            self.sweep_by(now, until);
        }
        self.forget_empty(key);
        changes
    }

    fn forget_empty(&mut self, key: &Key) {
        if self.tuples.get(key).is_some_and(|tuple| tuple.local.is_none() && tuple.distant.is_empty()) {
            self.tuples.remove(key);
        }
    }

    fn sweep_by(&mut self, now: Timestamp, due: Timestamp) {
        if due < Timestamp::NEVER {
            let earliest = self.last_sweep.after(SWEEP).max(now);
            self.next_sweep = self.next_sweep.min(due.max(earliest));
        }
    }

    /// When it wants [`Store::on_timeout`].
    pub(super) fn deadline(&self) -> Timestamp {
        self.next_sweep.min(self.next_refresh)
    }

    /// Lets go what has had its time, and says again what our own clients have.
    pub(super) fn on_timeout(&mut self, now: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.next_sweep <= now {
            changes = self.sweep(now);
        }
        if self.next_refresh <= now {
            let keys = self.local_keys();
            self.next_refresh = if keys.is_empty() { Timestamp::NEVER } else { now.after(self.ttl / 3) };
            changes.extend(keys.iter().filter_map(|key| self.local_news(now, key)).map(Change::News));
        }
        changes
    }

    fn sweep(&mut self, now: Timestamp) -> Vec<Change> {
        (self.last_sweep, self.next_sweep) = (now, Timestamp::NEVER);
        let due = self.tuples.iter().filter(|(_, tuple)| tuple.next_due() <= now);
        let due: Vec<Key> = due.map(|(key, _)| key.clone()).collect();
        let mut changes = Vec::new();
        for key in due {
            let Some(tuple) = self.tuples.get_mut(&key) else { continue };
            let is_local_due = tuple.local.as_ref().is_some_and(|local| local.expires() <= now);
            let (mut claims, mut bytes) = (0, 0);
            tuple.distant.retain(|_, claim| {
                let is_over = claim.expires <= now;
                if is_over {
                    claims += 1;
                    bytes += key.len() + claim.value.as_ref().map_or(0, Text::len);
                }
                !is_over
            });
            self.claims -= claims;
            self.bytes -= bytes;
            changes.extend(self.choose(&key, None, false));
            if is_local_due {
                changes.extend(self.drop_local(now, &key, false));
            }
            self.forget_empty(&key);
        }
        self.dead.retain(|_, (_, until)| *until > now);
        let next = self.tuples.values().map(Tuple::next_due);
        let next = next.chain(self.dead.values().map(|(_, until)| *until)).min();
        self.sweep_by(now, next.unwrap_or(Timestamp::NEVER));
        changes
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Store {
    /// Panics when a table is over its limit, or a count is not what it counts.
    pub(super) fn assert_sound(&self) {
        let locals = || self.tuples.iter().filter_map(|(key, tuple)| Some((key, tuple.local.as_ref()?)));
        let distant = || {
            let claims = |(key, tuple)| std::iter::repeat(key).zip(Tuple::claims(tuple));
            self.tuples.iter().flat_map(claims)
        };
        let claims = locals().count() + distant().count();
        let bytes = locals().map(|(key, local)| key.len() + local.value.len()).sum::<usize>()
            + distant()
                .map(|(key, claim)| key.len() + claim.value.as_ref().map_or(0, Text::len))
                .sum::<usize>();
        assert_eq!((self.claims, self.bytes), (claims, bytes));
        assert!(claims <= self.limits.tuples && bytes <= self.limits.tuple_bytes);
        assert!(self.dead.len() <= self.limits.tuples);
        let vouchers: usize = locals().map(|(_, local)| local.vouchers.len()).sum();
        assert_eq!(vouchers, self.by_link.values().map(BTreeSet::len).sum::<usize>());
        assert!(self.by_link.values().all(|keys| keys.len() <= self.limits.tuples_per_client));
        assert!(self.tuples.values().all(|tuple| tuple.local.is_some() || !tuple.distant.is_empty()));
    }
}

fn left_ms(now: Timestamp, expires: Timestamp) -> u32 {
    // Rounded up: what is there is never said to have gone.
    u32::try_from(expires.since(now).as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
