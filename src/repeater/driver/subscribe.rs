//! Listens to another repeater: subscribes to all that it publishes, and starts anew whenever that ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tracing::{debug, info};

use super::{Note, Notes, Pause, Pulse, within};
use crate::net::{Alarm, Net};
use crate::repeater::machine::Input;
use crate::zmtp::{Connection, ConnectionError, Limits, Session, SessionConfig, SocketType, Subscription};

/// How long connecting may take: some repetitions of a lost SYN.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Packets have a hundred bytes; whoever sends more is no repeater.
pub(super) const LIMITS: Limits =
    Limits { command_bytes: 1024, frame_bytes: 1024, message_bytes: 1024, frames: 4 };

/// Follows a repeater until the task is ended. When it is noticed to be there, a pause after a failure is cut short, so
/// that repeaters that start one after the other need not wait for each other.
pub(super) async fn follow<N: Net>(net: N, place: SocketAddr, notes: Notes, is_there: Arc<Notify>) {
    let mut pause = Pause::new(&net);
    loop {
        match listen(&net, place, &notes, &mut pause).await {
            Ok(()) => info!(%place, "the repeater has closed the connection"),
            Err(error) => debug!(%place, %error, "not connected to the repeater"),
        }
        tokio::select! {
            biased;
            () = is_there.notified() => {}
            () = pause.wait() => {}
        }
    }
}

async fn listen<N: Net>(
    net: &N,
    place: SocketAddr,
    notes: &Notes,
    pause: &mut Pause<N>,
) -> Result<(), ConnectionError> {
    let stream = within(net, CONNECT_TIMEOUT, net.connect(place, None)).await?;
    let session = SessionConfig {
        limits: LIMITS,
        handshake_timeout: HANDSHAKE_TIMEOUT,
        ..SessionConfig::new(SocketType::Sub, Bytes::new())
    };
    let mut alarm = net.alarm();
    let mut connection = Connection::new(stream, Session::new(session, net.now()));
    connection.subscribe(Subscription::Subscribe(Bytes::new()));
    let is_asked = connection.handshake(|| net.now(), &mut alarm).await?.minor > 0;
    info!(%place, "listening to the repeater");
    let mut pulse = Pulse::new(net.now());
    loop {
        alarm.set(Some(pulse.next()));
        tokio::select! {
            biased;
            message = connection.recv(|| net.now()) => {
                let Some(message) = message? else { return Ok(()) };
                pause.succeed();
                notes.tell(Note::Input(Input::Published { by: place, message })).await;
            }
            () = alarm.ring() => {
                if !pulse.beat(net.now(), connection.received_bytes(), is_asked) {
                    return Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
                }
                pause.succeed();
                connection.ping();
            }
        }
    }
}
