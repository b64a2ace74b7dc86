//! `hailer chat`: what is typed goes to the group joined last, what any group says is shown.

use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, BufReader, Split, Stdin};
use tokio::sync::mpsc;

use super::editor::Editor;
use super::output::Output;
use crate::zre::{CommandError, Event, Events, Node, PeerId, PeerInfo, Text};

/// What can be typed.
pub(super) const HELP: &str = "\
What you type is shouted to the group. A line that starts with / is a command:
  /whisper PEER TEXT   say something to one peer: its name or the first digits of its identity
  /join GROUP          join another group and shout there from now on
  /leave GROUP         leave a group; what you type goes to the one you joined before it
  /peers               who is here
  /groups              which groups there are, who is in them and who leads them
  /headers PEER        what a peer tells about itself
  /ping PEER           how long a peer takes to answer
  /help                this list
  /quit                leave (so do Ctrl-C and the end of the input)";

/// For completion.
pub(super) const COMMANDS: &[&str] =
    &["/groups", "/headers", "/help", "/join", "/leave", "/peers", "/ping", "/quit", "/whisper"];

/// Where lines come from.
#[derive(Debug)]
pub(super) enum Lines {
    /// Standard input as it is.
    Pipe(Split<BufReader<Stdin>>),
    /// A terminal, with a line editor.
    Typed(Arc<Editor>, mpsc::UnboundedReceiver<String>),
}

impl Lines {
    /// Standard input, when it is no terminal that one can edit lines on.
    pub(super) fn of_stdin() -> Self {
        Self::Pipe(BufReader::new(tokio::io::stdin()).split(b'\n'))
    }

    /// The next line. A stray byte that is no UTF-8 is no reason to end a conversation.
    async fn next(&mut self) -> io::Result<Option<String>> {
        Ok(match self {
            Self::Pipe(input) => {
                input.next_segment().await?.map(|line| String::from_utf8_lossy(&line).into_owned())
            }
            Self::Typed(_, lines) => lines.recv().await,
        })
    }

    fn learn(&self, event: &Event) {
        if let Self::Typed(editor, _) = self {
            editor.learn(event);
        }
    }
}

/// A line of input, understood.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Nothing,
    Shout(&'a str),
    Whisper { peer: &'a str, text: &'a str },
    Join(&'a str),
    Leave(&'a str),
    Peers,
    Groups,
    Headers(&'a str),
    Ping(&'a str),
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
        "headers" | "ping" if rest.is_empty() => Line::Wrong("write the name of a peer after it"),
        "headers" => Line::Headers(rest.trim_end()),
        "ping" => Line::Ping(rest.trim_end()),
        "groups" => Line::Groups,
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
    (group, mut lines): (String, Lines),
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    output.remark(&format!("{} at {}, in {group}; /help lists commands", node.name(), node.endpoint()));
    let mut groups = vec![group];
    tokio::pin!(stop);
    loop {
        let line = tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            event = events.next() => {
                match event {
                    Some(event) => {
                        lines.learn(&event);
                        output.event(&event)?;
                    }
                    None => return Ok(()),
                }
                continue;
            }
            line = lines.next() => match line? {
                Some(line) => line,
                None => return Ok(()),
            },
        };
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
        Line::Groups => Some(describe_groups(node).await?),
        Line::Headers(peer) => Some(match found(&node.peers().await?, peer) {
            Ok(peer) if peer.headers.is_empty() => format!("{} tells nothing about itself", peer.name),
            Ok(peer) => {
                let lines = peer.headers.iter().map(|(key, value)| one_line(&format!("  {key} = {value}")));
                lines.collect::<Vec<_>>().join("\n")
            }
            Err(problem) => problem,
        }),
        Line::Ping(peer) => Some(match find(&node.peers().await?, peer) {
            Ok(id) => format!("{peer} answered in {:.3} ms", node.ping(id).await?.as_secs_f64() * 1e3),
            Err(problem) => problem,
        }),
        Line::Help => Some(HELP.to_owned()),
        Line::Wrong(why) => Some(why.to_owned()),
    })
}

fn describe(peer: &PeerInfo) -> String {
    let groups: Vec<String> = peer.groups.iter().map(ToString::to_string).collect();
    let line = format!("  {}  {}  {}  {}", peer.name, peer.peer, peer.endpoint, groups.join(" "));
    one_line(line.trim_end())
}

/// One peer is one line, whatever it calls itself.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// A line for each group: whether we are in it, who else is, and who leads.
async fn describe_groups(node: &Node) -> Result<String, CommandError> {
    let (own, peers) = (node.own_groups().await?, node.peers().await?);
    let mut lines = Vec::new();
    for group in node.groups().await? {
        let leader = node.leader(group.clone()).await?;
        let mut members: Vec<String> = Vec::new();
        let mut add = |id: PeerId, name: &Text| {
            let star = if leader == Some(id) { "*" } else { "" };
            members.push(format!("{name}{star}"));
        };
        if own.contains(&group) {
            add(node.id(), node.name());
        }
        for peer in peers.iter().filter(|peer| peer.groups.contains(&group)) {
            add(peer.peer, &peer.name);
        }
        lines.push(one_line(&format!("  {group}: {}", members.join(" "))));
    }
    Ok(if lines.is_empty() { "nobody is in any group".to_owned() } else { lines.join("\n") })
}

/// The peer with this name, or whose identity starts with these digits.
fn find(peers: &[PeerInfo], wanted: &str) -> Result<PeerId, String> {
    found(peers, wanted).map(|peer| peer.peer)
}

fn found<'a>(peers: &'a [PeerInfo], wanted: &str) -> Result<&'a PeerInfo, String> {
    let upper = wanted.to_ascii_uppercase();
    let named: Vec<&PeerInfo> = peers.iter().filter(|peer| peer.name == wanted).collect();
    let found = if named.is_empty() {
        peers.iter().filter(|peer| peer.peer.to_string().starts_with(&upper)).collect()
    } else {
        named
    };
    match found.as_slice() {
        [only] => Ok(only),
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
