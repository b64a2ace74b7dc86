//! The targets: each takes the bytes of one execution, and panics when something is wrong.

use hailer::Timestamp;
use hailer::fuzzing;
use hailer::machine::Machine;

mod beacon;
mod daemon_config;
mod gossip_client;
mod gossip_hub;
mod gossip_message;
mod gossip_words;
mod group_announcement;
mod node_machine;
mod relay_compatible;
mod relay_host;
mod relay_machine;
mod relay_message;
mod repeater_machine;
mod repeater_packet;
#[cfg(feature = "scenarios")]
mod scenario;
mod zmtp_command;
mod zmtp_frames;
mod zmtp_greeting;
mod zmtp_session;
mod zre_message;

/// A target: its name, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them, in the order of their names. What is private in `hailer` has its target behind a door there.
pub const ALL: &[Target] = &[
    ("beacon", beacon::run),
    ("consul", fuzzing::consul_answer),
    ("daemon_config", daemon_config::run),
    ("gossip_client", gossip_client::run),
    ("gossip_hub", gossip_hub::run),
    ("gossip_message", gossip_message::run),
    ("group_announcement", group_announcement::run),
    ("group_list", fuzzing::group_list),
    ("group_machine", fuzzing::group_machine),
    ("group_message", fuzzing::group_message),
    ("node_machine", node_machine::run),
    ("relay_callers", fuzzing::relay_callers),
    ("relay_compatible", relay_compatible::run),
    ("relay_datagrams", fuzzing::relay_datagrams),
    ("relay_frames", fuzzing::relay_frames),
    ("relay_host", relay_host::run),
    ("relay_machine", relay_machine::run),
    ("relay_message", relay_message::run),
    ("repeater_machine", repeater_machine::run),
    ("repeater_packet", repeater_packet::run),
    #[cfg(feature = "scenarios")]
    ("scenario", scenario::run),
    ("zmtp_command", zmtp_command::run),
    ("zmtp_frames", zmtp_frames::run),
    ("zmtp_greeting", zmtp_greeting::run),
    ("zmtp_session", zmtp_session::run),
    ("zre_message", zre_message::run),
];

/// Outputs that may follow one input of any machine here; the tables are small.
const OUTPUTS_MAX: usize = 4096;

/// Gives a machine one input, and takes everything that follows.
fn feed<M: Machine>(machine: &mut M, now: Timestamp, input: M::Input) -> Vec<M::Output> {
    machine.handle(now, input);
    let outputs: Vec<M::Output> = std::iter::from_fn(|| machine.poll()).take(OUTPUTS_MAX).collect();
    assert!(outputs.len() < OUTPUTS_MAX, "one input, and no end of outputs");
    outputs
}
