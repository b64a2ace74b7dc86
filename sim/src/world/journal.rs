//! The records of a run as lines of JSON, written while it lives, with a line for every packet that is dropped.
//!
//! Records come from the log and drops from the fabric; both hold a handle on the one file, and both write in the order
//! in which things happen.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Mutex};

use hailer::Timestamp;

use crate::fabric::HostId;
use crate::fabric::packet::Packet;
use crate::fabric::tap::Tap;
use crate::report::lines;
use crate::scenario::Scenario;
use crate::trace::{Drop, Record};

/// A journal being written. Cloning gives another handle on the same file.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    scenario: Arc<Scenario>,
    beacon_port: u16,
    page: Arc<Mutex<Page>>,
}

#[derive(Debug)]
struct Page {
    file: BufWriter<File>,
    /// After the first error nothing more is written.
    error: Option<io::Error>,
}

impl Journal {
    pub(super) fn new(file: BufWriter<File>, scenario: Arc<Scenario>, beacon_port: u16) -> Self {
        Self { scenario, beacon_port, page: Arc::new(Mutex::new(Page { file, error: None })) }
    }

    /// Writes the line of a record.
    pub(super) fn record(&self, record: &Record) {
        self.write(&lines::record(&self.scenario, record));
    }

    fn write(&self, line: &str) {
        let mut page = self.page.lock().expect("nothing panics while it holds this lock");
        if page.error.is_none() {
            page.error = writeln!(page.file, "{line}").err();
        }
    }
}

impl Tap for Journal {
    fn dropped(&mut self, at: Timestamp, host: HostId, cause: Drop, packet: &Packet) {
        // Hosts are made in the order of the nodes.
        let node = &self.scenario.nodes[host.index()].name;
        self.write(&lines::drop(at, node, cause, packet, self.beacon_port));
    }

    fn finish(&mut self) -> io::Result<()> {
        let mut page = self.page.lock().expect("nothing panics while it holds this lock");
        page.error.take().map_or(Ok(()), Err)?;
        page.file.flush()
    }
}
