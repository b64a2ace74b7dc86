//! What stands where a user's program would stand: it does what the script says and writes down what it is told.

use std::net::SocketAddr;

use hailer::daemon::{self, Config, Roles};
use hailer::net::Net;
use hailer::relay::{Host, Relay};
use hailer::zre::PeerId;
use tokio::sync::mpsc;

use super::log::Author;
use super::message::Label;
use super::sessions;
use crate::trace::What;

/// What the script asks of a program.
#[derive(Clone, Debug)]
pub(super) enum Command {
    Join(String),
    Leave(String),
    Shout { group: String, bytes: usize },
    Whisper { to: PeerId, bytes: usize },
    Connect { to: SocketAddr, bytes: usize },
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
    let roles = match daemon::start(&net, config).await {
        Ok(roles) => roles,
        Err(error) => return author.record(What::Refused(format!("start: {error}"))),
    };
    let _echo = echo.map(|port| net.spawn("echo", sessions::echo(net.clone(), port, author.clone())));
    let Roles { zre, relay, host } = roles;
    let Some((node, mut events)) = zre else {
        return serve(&net, author, commands, relay, host).await;
    };
    for group in groups {
        author.record(What::Joined(group));
    }
    let listener = author.clone();
    let listening = net.spawn("events", async move {
        while let Some(event) = events.next().await {
            listener.event(&event);
        }
    });
    let mut number = 0;
    let mut next_label = || {
        let label = Label { node: author.node, life: author.life, number };
        number += 1;
        label
    };
    while let Some(command) = commands.recv().await {
        let outcome = match command {
            Command::Join(group) => {
                author.record(What::Joined(group.clone()));
                node.join(group).await
            }
            Command::Leave(group) => {
                author.record(What::Left(group.clone()));
                node.leave(group).await
            }
            Command::Shout { group, bytes } => {
                let label = next_label();
                author.record(What::SentShout { group: group.clone(), number: label.number, bytes });
                node.shout(group, label.message(bytes)).await.map(drop)
            }
            Command::Whisper { to, bytes } => {
                let label = next_label();
                let what = What::SentWhisper { to: author.subject(to), number: label.number, bytes };
                author.record(what);
                node.whisper(to, label.message(bytes)).await
            }
            Command::Connect { to, bytes } => {
                let number = next_label().number;
                net.spawn("session", sessions::session(net.clone(), to, number, bytes, author.clone()))
                    .detach();
                Ok(())
            }
            Command::Stop => {
                node.stop().await;
                break;
            }
        };
        if let Err(error) = outcome {
            author.record(What::Refused(error.to_string()));
        }
    }
    // The last events, STOP among them, still come; the task ends with their stream.
    listening.detach();
}

/// A program without a ZRE node: its other roles run, and it opens sessions.
async fn serve<N: Net>(
    net: &N,
    author: Author,
    mut commands: mpsc::UnboundedReceiver<Command>,
    relay: Option<Relay>,
    host: Option<Host>,
) {
    let mut number = 0;
    while let Some(command) = commands.recv().await {
        match command {
            Command::Connect { to, bytes } => {
                let session = sessions::session(net.clone(), to, number, bytes, author.clone());
                net.spawn("session", session).detach();
                number += 1;
            }
            Command::Stop => break,
            // The file is refused when it asks this of a node that is no ZRE node.
            _ => {}
        }
    }
    if let Some(relay) = relay {
        relay.stop().await;
    }
    if let Some(host) = host {
        host.stop(net).await;
    }
}
