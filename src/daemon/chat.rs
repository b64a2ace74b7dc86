//! `hailer chat`: what is typed goes to the group, what the group says is shown.

use std::future::Future;
use std::io;

use tokio::io::{AsyncBufReadExt, BufReader};

use super::output::Output;
use crate::zre::{Events, Node, PeerId, PeerInfo};

/// What can be typed.
pub(super) const HELP: &str = "\
What you type is shouted to the group. A line that starts with / is a command:
  /whisper PEER TEXT   say something to one peer: its name or the first digits of its identity
  /join GROUP          join another group and shout there
  /leave GROUP         leave a group
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

/// Talks until the input ends or `stop` is ready.
pub(super) async fn run(
    node: &Node,
    events: &mut Events,
    output: &Output,
    mut group: String,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    output.remark(&format!("{} at {}, in {group}; /help lists commands", node.name(), node.endpoint()))?;
    let mut input = BufReader::new(tokio::io::stdin()).lines();
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
            line = input.next_line() => match line? {
                Some(line) => line,
                None => return Ok(()),
            },
        };
        let done = match understand(&line) {
            Line::Nothing => Ok(()),
            Line::Shout(text) => node.shout(group.as_str(), text).await.map(drop),
            Line::Whisper { peer, text } => match find(&node.peers().await.unwrap_or_default(), peer) {
                Ok(peer) => node.whisper(peer, text).await,
                Err(problem) => {
                    output.remark(&problem)?;
                    Ok(())
                }
            },
            Line::Join(name) => {
                name.clone_into(&mut group);
                node.join(name).await
            }
            Line::Leave(name) => node.leave(name).await,
            Line::Peers => {
                for peer in node.peers().await.unwrap_or_default() {
                    let groups: Vec<String> = peer.groups.iter().map(ToString::to_string).collect();
                    output.remark(&format!(
                        "  {}  {}  {}  {}",
                        peer.name,
                        peer.peer,
                        peer.endpoint,
                        groups.join(" ")
                    ))?;
                }
                Ok(())
            }
            Line::Help => output.remark(HELP).map(|()| Ok(()))?,
            Line::Quit => return Ok(()),
            Line::Wrong(why) => output.remark(why).map(|()| Ok(()))?,
        };
        if let Err(problem) = done {
            output.remark(&format!("not sent: {problem}"))?;
        }
    }
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
