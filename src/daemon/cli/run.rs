//! Runs what the command line asks for until a signal asks to stop, and shows what the roles tell.

use std::future::Future;
use std::io;
use std::io::IsTerminal;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::super::output::Output;
use super::super::tools::bench::{Bench, Servers};
use super::super::{Config, Roles, chat, editor, start, tools};
use super::counted::{Counted, Meter};
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
    /// What was counted, at the end.
    pub(super) with_counters: bool,
    /// ... and so often before.
    pub(super) counters_every: Option<Duration>,
}

/// Stops the roles and shows what they still have to tell.
async fn finish(mut roles: Roles, output: &Output, shown: Shown) -> io::Result<()> {
    let counted = if shown.with_counters { Counted::of(&roles).await } else { Counted::default() };
    roles.stop().await;
    drain(&mut roles, output).await?;
    counted.tell(output)
}

/// Runs the roles and shows what they tell until told to stop. Relay and host read `file` again on SIGHUP.
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
    let meter = Meter::new(net, shown.counters_every);
    let outcome = show(&mut roles, &output, file, meter).await;
    outcome.and(finish(roles, &output, shown).await)
}

/// Shows what the roles tell until told to stop, and every so often what they have counted.
pub(super) async fn show(
    roles: &mut Roles,
    output: &Output,
    file: Option<&Path>,
    mut meter: Meter<'_>,
) -> io::Result<()> {
    let stop = stop_requested(output);
    tokio::pin!(stop);
    // It lives across rounds, so that no request is missed. Without relay and host SIGHUP means what it means to every program.
    let can_reload = roles.relay.is_some() || roles.host.is_some();
    let mut requests = can_reload.then(relay::Requests::new);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            () = meter.due() => Counted::of(roles).await.tell(output)?,
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

/// Is a server that others measure with.
pub(super) async fn serve_bench(net: &OsNet, options: &NodeOptions) -> io::Result<()> {
    let shown = options.shown();
    let config = options.config(&[tools::bench::GROUP.to_owned()]);
    with_node(net, config, Output::new(shown.is_json), shown, async |node, output, stop| {
        tools::bench::serve(node, output, stop).await
    })
    .await
}

/// Measures with a server: this program's own, unless another one is meant.
pub(super) async fn bench(net: &OsNet, options: &NodeOptions, mut bench: Bench) -> io::Result<()> {
    let shown = options.shown();
    let mut own_server = None;
    if let Servers::One(name @ None) = &mut bench.servers {
        let config = options.config(&[tools::bench::GROUP.to_owned()]).zre.unwrap_or_default();
        let config = zre::Config { name: None, ..config };
        let (node, mut events) = Node::start(net, config).await.map_err(io::Error::other)?;
        *name = Some(node.name().to_string());
        own_server = Some(net.spawn("bench server", async move {
            let quiet = Output::new(false).quiet();
            // It is measured until the program ends.
            let _ = tools::bench::serve((&node, &mut events), &quiet, std::future::pending()).await;
        }));
    }
    let output = Output::new(shown.is_json).quiet();
    let outcome = with_node(net, options.config(&[]), output, shown, async |node, output, stop| {
        tools::bench::run(net, node, output, bench, stop).await
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
