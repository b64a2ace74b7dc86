//! A host as its relay sees it: what it has free, and what it was asked for.

use std::collections::{BTreeMap, VecDeque};

use super::{ConnectionId, Name};
use crate::Timestamp;

/// Tickets that one host may owe connections for.
pub(super) const TICKETS_MAX: usize = 256;

/// One control connection and what belongs to it.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) service: Name,
    /// Free data connections; the one used last is used next, so that those nobody needs stay at the front.
    pub(super) free: VecDeque<ConnectionId>,
    /// The fewest free ones since the last beat.
    pub(super) low: usize,
    /// Free ones that there should be.
    pub(super) target: usize,
    /// Sessions that go on.
    pub(super) active: usize,
    /// What it was asked for and has not opened, with the time when it is too late.
    pub(super) tickets: BTreeMap<u64, Timestamp>,
    pub(super) next_ticket: u64,
    pub(super) heard: Timestamp,
    /// How many hosts it was told there are.
    pub(super) crowd: u32,
    pub(super) is_well: bool,
    pub(super) is_leaving: bool,
    /// It has what was wanted when it came, and waits for its turn to fill its pool.
    pub(super) is_unfilled: bool,
}

impl Host {
    pub(super) const fn new(now: Timestamp, service: Name, pool: usize) -> Self {
        Self {
            service,
            free: VecDeque::new(),
            low: 0,
            target: pool,
            active: 0,
            tickets: BTreeMap::new(),
            next_ticket: 0,
            heard: now,
            crowd: 1,
            is_well: true,
            is_leaving: false,
            is_unfilled: false,
        }
    }

    /// Whether it takes sessions.
    pub(super) const fn is_open(&self) -> bool {
        self.is_well && !self.is_leaving
    }

    /// How many connections its pool has too few, with those that it was asked for.
    pub(super) fn missing(&self) -> usize {
        self.target.saturating_sub(self.free.len() + self.tickets.len())
    }

    /// At a beat: lets the pool become smaller when nobody needed it. Returns what is too much.
    pub(super) fn shrink(&mut self, pool: usize) -> Vec<ConnectionId> {
        let unused = std::mem::replace(&mut self.low, self.free.len());
        if unused >= self.target {
            self.target = (self.target / 2).max(pool);
        }
        let surplus = unused.saturating_sub(self.target).div_ceil(2).min(self.free.len());
        let surplus = self.free.drain(..surplus).collect();
        self.low = self.free.len();
        surplus
    }
}
