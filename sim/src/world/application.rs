//! What stands where a user's program would stand: it does what the script says and writes down what it is told.

use std::net::SocketAddr;

use hailer::daemon::{self, Config};
use hailer::net::{Net, Task};
use hailer::zre::{Events, Node, PeerId};
use tokio::sync::mpsc;

use super::log::Author;
use super::message::Label;
use super::{queries, sessions};
use crate::scenario::Manner;
use crate::trace::What;

/// What the script asks of a program.
#[derive(Clone, Debug)]
pub(super) enum Command {
    Join(String),
    Leave(String),
    Shout { group: String, bytes: usize },
    Whisper { to: PeerId, bytes: usize },
    Connect { to: SocketAddr, manner: Manner, bytes: usize },
    Stop,
}

/// One life of a program: starts the roles that the daemon would start, and obeys.
pub(super) async fn run<N: Net>(
    net: N,
    config: Config,
    echo: Option<u16>,
    author: Author,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let groups = config.zre.iter().flat_map(|zre| &zre.groups).map(ToString::to_string).collect::<Vec<_>>();
    let mut roles = match daemon::start(&net, config).await {
        Ok(roles) => roles,
        Err(error) => return author.record(What::Refused(format!("start: {error}"))),
    };
    for group in groups {
        author.record(What::Joined(group));
    }
    let _echo = echo.map(|port| {
        let connections = net.spawn("echo", sessions::echo(net.clone(), port, author.clone()));
        (connections, net.spawn("echo", queries::echo(net.clone(), port, author.clone())))
    });
    let (client, mut opened) = (author.clone(), 0);
    let mut member = roles.zre.take().map(|(node, events)| Member::new(&net, node, events, author.clone()));
    loop {
        tokio::select! {
            biased;
            command = commands.recv() => match (command, &mut member) {
                (Some(Command::Stop), _) => break,
                (Some(Command::Connect { to, manner, bytes }), _) => {
                    let pause = match manner {
                        Manner::Echo => None,
                        Manner::Slow => Some(sessions::SLOW_PAUSE),
                        Manner::Query => {
                            let query = queries::query(net.clone(), to, opened, bytes, client.clone());
                            net.spawn("query", query).detach();
                            opened += 1;
                            continue;
                        }
                        Manner::Idle | Manner::Trickle => {
                            let stay = sessions::stay(net.clone(), to, manner == Manner::Trickle);
                            net.spawn("session", stay).detach();
                            continue;
                        }
                    };
                    let session = sessions::session(net.clone(), to, opened, (bytes, pause), client.clone());
                    net.spawn("session", session).detach();
                    opened += 1;
                }
                (Some(command), Some(member)) => member.obey(command).await,
                (Some(_), None) => {}
                (None, _) => return,
            },
            Some(event) = roles.next(), if !roles.is_empty() => author.role_event(&event),
        }
    }
    if let Some(member) = member {
        // The last events, STOP among them, still come; the task ends with their stream.
        member.node.stop().await;
        member.listening.detach();
    }
    roles.stop().await;
    while let Some(event) = roles.next().await {
        author.role_event(&event);
    }
}

/// A user of the ZRE node.
struct Member {
    node: Node,
    /// Writes down what the node tells.
    listening: Task,
    author: Author,
    messages: u64,
}

impl Member {
    fn new<N: Net>(net: &N, node: Node, mut events: Events, author: Author) -> Self {
        let listener = author.clone();
        let listening = net.spawn("events", async move {
            while let Some(event) = events.next().await {
                listener.event(&event);
            }
        });
        Self { node, listening, author, messages: 0 }
    }

    fn next_label(&mut self) -> Label {
        let number = self.messages;
        self.messages += 1;
        Label { node: self.author.node, life: self.author.life, number }
    }

    async fn obey(&mut self, command: Command) {
        let outcome = match command {
            Command::Join(group) => {
                self.author.record(What::Joined(group.clone()));
                self.node.join(group).await
            }
            Command::Leave(group) => {
                self.author.record(What::Left(group.clone()));
                self.node.leave(group).await
            }
            Command::Shout { group, bytes } => {
                let label = self.next_label();
                self.author.record(What::SentShout { group: group.clone(), number: label.number, bytes });
                self.node.shout(group, label.message(bytes)).await.map(drop)
            }
            Command::Whisper { to, bytes } => {
                let label = self.next_label();
                let to_whom = self.author.subject(to);
                self.author.record(What::SentWhisper { to: to_whom, number: label.number, bytes });
                self.node.whisper(to, label.message(bytes)).await
            }
            // The whole program's, not the node's alone.
            Command::Connect { .. } | Command::Stop => return,
        };
        if let Err(error) = outcome {
            self.author.record(What::Refused(error.to_string()));
        }
    }
}
