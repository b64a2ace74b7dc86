//! `hailer chat`: what is typed goes to the group joined last, what any group says is shown.

use std::future::Future;
use std::io;

use tokio::io::{AsyncBufReadExt, BufReader};

use super::output::Output;
use crate::zre::{CommandError, Events, Node, PeerId, PeerInfo};

/// What can be typed.
pub(super) const HELP: &str = "\
What you type is shouted to the group. A line that starts with / is a command:
  /whisper PEER TEXT   say something to one peer: its name or the first digits of its identity
  /join GROUP          join another group and shout there from now on
  /leave GROUP         leave a group; what you type goes to the one you joined before it
  /peers               who is here
  /help                this list
  /quit                leave (so do Ctrl-C and the end of the input)";

/// A line of input, understood.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Nothing,
    Shout(&'a str),
    Whisper { peer: &'a str, text: &'a str },
    Join(&'a str),
    Leave(&'a str),
    Peers,
    Help,
    Quit,
    Wrong(&'static str),
}

fn understand(line: &str) -> Line<'_> {
    let line = line.trim_end_matches(['\r', '\n']);
    let Some(command) = line.strip_prefix('/') else {
        return if line.is_empty() { Line::Nothing } else { Line::Shout(line) };
    };
    let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
    let rest = rest.trim_start();
    match verb {
        "whisper" => match rest.split_once(' ') {
            Some((peer, text)) => Line::Whisper { peer, text },
            None => Line::Wrong("write /whisper PEER TEXT"),
        },
        "join" if !rest.is_empty() => Line::Join(rest),
        "leave" if !rest.is_empty() => Line::Leave(rest),
        "join" | "leave" => Line::Wrong("write the name of a group after it"),
        "peers" => Line::Peers,
        "help" => Line::Help,
        "quit" => Line::Quit,
        _ => Line::Wrong("no such command; /help lists them"),
    }
}

/// Talks until the input ends or `stop` is ready. The node is in `group` already.
pub(super) async fn run(
    node: &Node,
    events: &mut Events,
    output: &Output,
    group: String,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    output.remark(&format!("{} at {}, in {group}; /help lists commands", node.name(), node.endpoint()));
    let mut input = BufReader::new(tokio::io::stdin()).split(b'\n');
    let mut groups = vec![group];
    tokio::pin!(stop);
    loop {
        let line = tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            event = events.next() => {
                match event {
                    Some(event) => output.event(&event)?,
                    None => return Ok(()),
                }
                continue;
            }
            line = input.next_segment() => match line? {
                Some(line) => line,
                None => return Ok(()),
            },
        };
        // A stray byte that is no UTF-8 is no reason to end a conversation.
        let line = String::from_utf8_lossy(&line);
        match understand(&line) {
            Line::Quit => return Ok(()),
            line => match obey(node, &mut groups, line).await {
                Ok(None) => {}
                Ok(Some(remark)) => output.remark(&remark),
                Err(problem) => output.remark(&format!("not done: {problem}")),
            },
        }
    }
}

/// Does what a line asks for. Returns what the person should know.
///
/// `groups` are those the person is in, the one joined last at the end: lines go there.
async fn obey(node: &Node, groups: &mut Vec<String>, line: Line<'_>) -> Result<Option<String>, CommandError> {
    Ok(match line {
        Line::Nothing | Line::Quit => None,
        Line::Shout(text) => match groups.last() {
            None => Some("you are in no group; /join one to shout to it".to_owned()),
            Some(group) => match node.shout(group.as_str(), text).await? {
                0 => Some(format!("nobody else is in {group} yet")),
                _ => None,
            },
        },
        Line::Whisper { peer, text } => match find(&node.peers().await?, peer) {
            Ok(peer) => node.whisper(peer, text).await.map(|()| None)?,
            Err(problem) => Some(problem),
        },
        Line::Join(group) => {
            node.join(group).await?;
            groups.retain(|other| other != group);
            groups.push(group.to_owned());
            Some(format!("what you type goes to {group} now"))
        }
        Line::Leave(group) if !groups.iter().any(|other| other == group) => {
            Some(format!("you are not in {group}"))
        }
        Line::Leave(group) => {
            node.leave(group).await?;
            groups.retain(|other| other != group);
            Some(match groups.last() {
                Some(group) => format!("what you type goes to {group} now"),
                None => "you are in no group now".to_owned(),
            })
        }
        Line::Peers => {
            let peers = node.peers().await?;
            let lines: Vec<String> = peers.iter().map(describe).collect();
            Some(if lines.is_empty() { "nobody yet".to_owned() } else { lines.join("\n") })
        }
        Line::Help => Some(HELP.to_owned()),
        Line::Wrong(why) => Some(why.to_owned()),
    })
}

fn describe(peer: &PeerInfo) -> String {
    let groups: Vec<String> = peer.groups.iter().map(ToString::to_string).collect();
    let line = format!("  {}  {}  {}  {}", peer.name, peer.peer, peer.endpoint, groups.join(" "));
    // One peer is one line, whatever it calls itself.
    line.trim_end().replace(char::is_control, "\u{fffd}")
}

/// The peer with this name, or whose identity starts with these digits.
fn find(peers: &[PeerInfo], wanted: &str) -> Result<PeerId, String> {
    let upper = wanted.to_ascii_uppercase();
    let named: Vec<&PeerInfo> = peers.iter().filter(|peer| peer.name == wanted).collect();
    let found = if named.is_empty() {
        peers.iter().filter(|peer| peer.peer.to_string().starts_with(&upper)).collect()
    } else {
        named
    };
    match found.as_slice() {
        [only] => Ok(only.peer),
        [] => Err(format!("nobody here is called {wanted}; /peers lists who is")),
        several => {
            Err(format!("{} peers are called {wanted}; use the first digits of an identity", several.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shouts_unless_they_start_with_a_slash() {
        assert_eq!(understand("hello / there\r\n"), Line::Shout("hello / there"));
        assert_eq!(
            understand("/whisper bob how are you"),
            Line::Whisper { peer: "bob", text: "how are you" }
        );
        assert_eq!(understand("/join  A B"), Line::Join("A B"));
        assert_eq!(understand("/quit"), Line::Quit);
        assert_eq!(understand(""), Line::Nothing);
        for wrong in ["/whisper bob", "/join", "/leave ", "/dance"] {
            assert!(matches!(understand(wrong), Line::Wrong(_)), "{wrong}");
        }
    }
}
