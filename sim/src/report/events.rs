//! `events.csv`: every record of a run, one in a row.

use std::io;

use crate::scenario::Scenario;
use crate::trace::{GroupSubject, GroupWhat, RepeaterWhat, Subject, Trace, What};

use super::text;

const COLUMNS: [&str; 10] =
    ["at_s", "node", "what", "peer", "peer_life", "group", "number", "bytes", "intact", "text"];

/// One row; what a record does not have stays empty.
#[derive(Default)]
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) peer: String,
    pub(super) peer_life: String,
    pub(super) group: String,
    pub(super) number: String,
    pub(super) bytes: String,
    pub(super) intact: &'static str,
    pub(super) text: String,
}

pub(super) fn write(out: impl io::Write, scenario: &Scenario, trace: &Trace) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(COLUMNS)?;
    for record in &trace.records {
        let nanos = record.at.as_nanos();
        let at = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
        let row = row(scenario, &record.what);
        let node = &scenario.nodes[record.node.0 as usize].name;
        csv.write_record([
            &at,
            node,
            row.what,
            &row.peer,
            &row.peer_life,
            &row.group,
            &row.number,
            &row.bytes,
            row.intact,
            &row.text,
        ])?;
    }
    csv.flush()
}

pub(super) fn row(scenario: &Scenario, what: &What) -> Row {
    let with_peer = |what: &'static str, subject: &Subject| match subject {
        Subject::Life(node, life) => {
            let peer = scenario.nodes[node.0 as usize].name.clone();
            Row { what, peer, peer_life: life.to_string(), ..Row::default() }
        }
        Subject::Stranger(peer) => Row { what, peer: format!("stranger {peer}"), ..Row::default() },
    };
    let number_text = |number: &Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    let intact_text = |is_intact: &bool| if *is_intact { "yes" } else { "no" };
    match what {
        What::Up { life, peer } => {
            Row { what: "up", peer_life: life.to_string(), text: peer.to_string(), ..Row::default() }
        }
        What::Down(how) => Row { what: "down", text: text::crash(*how).to_owned(), ..Row::default() },
        What::Paused => Row { what: "paused", ..Row::default() },
        What::Resumed => Row { what: "resumed", ..Row::default() },
        What::Joined(group) => Row { what: "joined", group: group.clone(), ..Row::default() },
        What::Left(group) => Row { what: "left", group: group.clone(), ..Row::default() },
        What::SentShout { group, number, bytes } => Row {
            what: "sent shout",
            group: group.clone(),
            number: number.to_string(),
            bytes: bytes.to_string(),
            ..Row::default()
        },
        What::SentWhisper { to, number, bytes } => {
            Row { number: number.to_string(), bytes: bytes.to_string(), ..with_peer("sent whisper", to) }
        }
        What::SessionOpened { number, bytes } => Row {
            what: "session opened",
            number: number.to_string(),
            bytes: bytes.to_string(),
            ..Row::default()
        },
        What::SessionEnded { number, problem } => Row {
            what: "session ended",
            number: number.to_string(),
            text: problem.clone().unwrap_or_default(),
            ..Row::default()
        },
        What::Refused(why) => Row { what: "refused", text: why.clone(), ..Row::default() },
        What::Enter(peer) => with_peer("ENTER", peer),
        What::Exit(peer, reason) => Row { text: reason.clone(), ..with_peer("EXIT", peer) },
        What::Evasive(peer) => with_peer("EVASIVE", peer),
        What::Silent(peer) => with_peer("SILENT", peer),
        What::Join(peer, group) => Row { group: group.clone(), ..with_peer("JOIN", peer) },
        What::Leave(peer, group) => Row { group: group.clone(), ..with_peer("LEAVE", peer) },
        What::Leader(peer, group) => Row { group: group.clone(), ..with_peer("LEADER", peer) },
        What::GotShout { from, group, number, is_intact } => Row {
            group: group.clone(),
            number: number_text(number),
            intact: intact_text(is_intact),
            ..with_peer("SHOUT", from)
        },
        What::GotWhisper { from, number, is_intact } => {
            Row { number: number_text(number), intact: intact_text(is_intact), ..with_peer("WHISPER", from) }
        }
        What::Stopped => Row { what: "STOP", ..Row::default() },
        What::Group(group, what) => group_row(scenario, group, what),
        What::Cut(how) => Row { what: "cut off", text: how.clone(), ..Row::default() },
        What::Mended(how) => Row { what: "mended", text: how.clone(), ..Row::default() },
        What::Repeater(what) => repeater_row(what),
    }
}

fn repeater_row(what: &RepeaterWhat) -> Row {
    match what {
        RepeaterWhat::Up => Row { what: "repeater up", ..Row::default() },
        RepeaterWhat::Found(place) => {
            Row { what: "REPEATER-FOUND", text: place.to_string(), ..Row::default() }
        }
        RepeaterWhat::Gone(place) => Row { what: "REPEATER-GONE", text: place.to_string(), ..Row::default() },
    }
}

fn group_row(scenario: &Scenario, group: &str, what: &GroupWhat) -> Row {
    let with_member = |what: &'static str, subject: &GroupSubject, text: &str| {
        let (peer, peer_life) = match subject {
            GroupSubject::Life(node, life) => {
                (scenario.nodes[node.0 as usize].name.clone(), life.to_string())
            }
            GroupSubject::Stranger(member) => (format!("stranger {member}"), String::new()),
        };
        Row { what, peer, peer_life, group: group.to_owned(), text: text.to_owned(), ..Row::default() }
    };
    match what {
        GroupWhat::Up { life, member, .. } => Row {
            what: "member up",
            peer_life: life.to_string(),
            group: group.to_owned(),
            text: member.to_string(),
            ..Row::default()
        },
        GroupWhat::Added(member) => with_member("ADDED", member, ""),
        GroupWhat::Removed(member, reason) => with_member("REMOVED", member, reason),
        GroupWhat::Changed(member, health) => with_member("CHANGED", member, health),
        GroupWhat::Suspect(member) => with_member("SUSPECT", member, ""),
        GroupWhat::Left => Row { what: "LEFT", group: group.to_owned(), ..Row::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::Script;

    #[test]
    fn each_record_is_a_row_and_names_are_quoted() {
        let mut run = Script::new(2).up(0.0, 0).enter(1.5, 0, (1, 0)).got_shout(2.0, 0, (1, 0), 7).run(9.0);
        run.scenario.nodes[1].name = "a,\"b".to_owned();
        let mut out = Vec::new();
        write(&mut out, &run.scenario, &run.trace).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "at_s,node,what,peer,peer_life,group,number,bytes,intact,text\n\
             0.000000000,n00,up,,0,,,,,00000000000000000000000000000000\n\
             1.500000000,n00,ENTER,\"a,\"\"b\",0,,,,,\n\
             2.000000000,n00,SHOUT,\"a,\"\"b\",0,g,7,,yes,\n"
        );
    }
}
