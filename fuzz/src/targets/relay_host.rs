//! A host and whatever its relay says: no more data connections than may be, and one control connection at a time.

use std::time::Duration;

use super::feed;
use hailer::Timestamp;
use hailer::fuzzing::Source;
use hailer::relay::host::machine::{HostMachine, Input, Output};
use hailer::relay::message::Refusal;

const CONNECTIONS_MAX: usize = 8;

/// One execution.
pub fn run(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let check = (source.below(2) == 0).then_some(Duration::from_secs(5));
    let mut machine = HostMachine::new(Timestamp::ZERO, 7, CONNECTIONS_MAX, check);
    let (mut now, mut open, mut is_connected) = (Timestamp::ZERO, 0_usize, false);
    while !source.is_empty() {
        let input = match source.below(12) {
            0 => Input::Welcomed { heartbeat: Duration::from_millis(source.number()) },
            1 => Input::Refused(source.pick(&[Refusal::Unknown, Refusal::Full])),
            2 => Input::Lost,
            3 => Input::Heard,
            4 | 5 => Input::Want { first: source.number(), count: source.u16() },
            6 => Input::RelayLeaves,
            7 if open > 0 => {
                open -= 1;
                Input::DataEnded
            }
            8 => Input::Checked(source.below(2) == 0),
            9 if source.below(16) == 0 => Input::Leave,
            _ => {
                now = now.after(Duration::from_millis(u64::from(source.byte()) * 50));
                Input::Timeout
            }
        };
        for output in feed(&mut machine, now, input) {
            match output {
                Output::OpenData(_) => open += 1,
                Output::Connect => {
                    assert!(!is_connected, "the old connection was given up");
                    is_connected = true;
                }
                Output::Disconnect => is_connected = false,
                _ => {}
            }
        }
        assert!(open <= CONNECTIONS_MAX);
    }
}
