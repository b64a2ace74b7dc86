//! Runs what the command line asks for until a signal asks to stop, and shows what the roles tell.

use std::future::Future;
use std::io;
use std::io::IsTerminal;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::super::output::Output;
use super::super::{Config, Roles, chat, editor, start, tools};
use super::{NodeOptions, relay};
use crate::net::{Alarm, Net, OsNet, Task};
use crate::zre::{self, Events, Node};

/// How long the end may take once a signal asked for it. The goodbyes take a second at most; the rest is for output that
/// its reader takes slowly, or not at all.
const END_TIME: Duration = Duration::from_secs(5);

/// What is printed, and how.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shown {
    pub(super) is_json: bool,
    pub(super) with_counters: bool,
}

/// Stops the roles and shows what they still have to tell.
async fn finish(mut roles: Roles, output: &Output, shown: Shown) -> io::Result<()> {
    let counters = match &roles.zre {
        Some((node, _)) if shown.with_counters => node.counters().await.ok(),
        _ => None,
    };
    roles.stop().await;
    drain(&mut roles, output).await?;
    counters.map_or(Ok(()), |counters| output.event(&counters))
}

/// Runs the roles and shows what they tell until told to stop. A relay reads `file` again on SIGHUP.
pub(super) async fn watch(net: &OsNet, config: Config, shown: Shown, file: Option<&Path>) -> io::Result<()> {
    let output = Output::new(shown.is_json);
    let _force = force_end(net, &config);
    let mut roles = start(net, config).await.map_err(io::Error::other)?;
    if let Some((node, _)) = &roles.zre {
        output.remark(&format!("{} at {}, looking for peers; Ctrl-C ends", node.name(), node.endpoint()));
    }
    if let Some((hub, _)) = &roles.gossip {
        output.remark(&format!("gossip hub at tcp://{}; Ctrl-C ends", hub.address()));
    }
    if let Some((repeater, _)) = &roles.repeater {
        output.remark(&format!("repeater for {}; Ctrl-C ends", repeater.lans().join(", ")));
    }
    relay::announce(&roles, &output).await;
    let outcome = show(&mut roles, &output, file).await;
    outcome.and(finish(roles, &output, shown).await)
}

/// Shows what the roles tell until told to stop.
pub(super) async fn show(roles: &mut Roles, output: &Output, file: Option<&Path>) -> io::Result<()> {
    let stop = stop_requested(output);
    tokio::pin!(stop);
    // It lives across rounds, so that no request is missed. Without a relay SIGHUP means what it means to every program.
    let mut requests = roles.relay.as_ref().map(|_| relay::Requests::new());
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            () = relay::requested(&mut requests) => relay::reload(roles, file).await,
            event = roles.next() => match event {
                Some(event) => output.event(&event)?,
                None => return Ok(()),
            },
        }
    }
}

/// Holds a conversation in a group.
pub(super) async fn talk(net: &OsNet, config: Config, shown: Shown, group: String) -> io::Result<()> {
    let mut output = Output::new(shown.is_json);
    // Lines can be edited where a person types them and sees what comes.
    let lines = if io::stdin().is_terminal() && io::stdout().is_terminal() {
        let (editor, lines) = editor::start(chat::COMMANDS)?;
        output = output.at(Arc::clone(&editor));
        chat::Lines::Typed(editor, lines)
    } else {
        chat::Lines::of_stdin()
    };
    with_node(net, config, output, shown, async |(node, events), output, stop| {
        chat::run(node, events, output, (group, lines), stop).await
    })
    .await
}

/// Starts a node, lets a tool use it, and stops it.
pub(super) async fn with_node<Tool>(
    net: &OsNet,
    config: Config,
    output: Output,
    shown: Shown,
    tool: Tool,
) -> io::Result<()>
where
    Tool: AsyncFnOnce(
        (&Node, &mut Events),
        &Output,
        Pin<Box<dyn Future<Output = ()> + Send + '_>>,
    ) -> io::Result<()>,
{
    let _force = force_end(net, &config);
    let mut roles = start(net, config).await.map_err(io::Error::other)?;
    let Some((node, events)) = &mut roles.zre else { return Ok(()) };
    let outcome = tool((&*node, events), &output, Box::pin(stop_requested(&output))).await;
    outcome.and(finish(roles, &output, shown).await)
}

/// Measures with a server: this program's own, unless another one is meant.
pub(super) async fn bench(
    net: &OsNet,
    options: &NodeOptions,
    is_server: bool,
    (bench, peer): (tools::bench::Bench, Option<String>),
) -> io::Result<()> {
    let group = [tools::bench::GROUP.to_owned()];
    let shown = options.shown();
    if is_server {
        let output = Output::new(shown.is_json);
        return with_node(net, options.config(&group), output, shown, async |node, output, stop| {
            tools::bench::serve(node, output, stop).await
        })
        .await;
    }
    let mut own_server = None;
    let mut wanted = peer.clone();
    if peer.is_none() {
        let config = zre::Config { name: None, ..options.config(&group).zre.unwrap_or_default() };
        let (node, mut events) = Node::start(net, config).await.map_err(io::Error::other)?;
        wanted = Some(node.name().to_string());
        own_server = Some(net.spawn("bench server", async move {
            let quiet = Output::new(false).quiet();
            // It is measured until the program ends.
            let _ = tools::bench::serve((&node, &mut events), &quiet, std::future::pending()).await;
        }));
    }
    let output = Output::new(shown.is_json).quiet();
    let outcome = with_node(net, options.config(&[]), output, shown, async |node, output, stop| {
        tools::bench::run(net, node, output, (bench, wanted), stop).await
    })
    .await;
    drop(own_server);
    outcome
}

/// Shows the last events of roles that were asked to stop.
pub(super) async fn drain(roles: &mut Roles, output: &Output) -> io::Result<()> {
    while let Some(event) = roles.next().await {
        output.event(&event)?;
    }
    Ok(())
}

/// Waits for a signal to stop, or until nobody reads what is printed.
pub(super) async fn stop_requested(output: &Output) {
    tokio::select! {
        biased;
        () = stop_signal() => {}
        () = output.is_unread() => {}
    }
}

/// Ends the program some time after it was asked to stop, if it is still there: a write to an output that nobody reads can't be
/// called off. The sessions of a relay or a host may go on for as long as the configuration says, or until the second signal.
pub(super) fn force_end(net: &OsNet, config: &Config) -> Task {
    let has_sessions = config.relay.is_some() || config.host.is_some();
    let own = net.clone();
    net.spawn("end by force", async move {
        stop_signal().await;
        if has_sessions {
            stop_signal().await;
        } else {
            let mut alarm = own.alarm();
            alarm.set(Some(own.now().after(END_TIME)));
            alarm.ring().await;
        }
        std::process::exit(1);
    })
}

/// Waits for Ctrl-C or, on Unix, a request to terminate.
async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                biased;
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    // Without signals only the end of the process ends the node.
    let _ = tokio::signal::ctrl_c().await;
}
