//! Nodes on this machine's loopback: handle, driver, connections and machine together.

use std::net::UdpSocket;

use bytes::Bytes;

use super::*;
use crate::net::{Alarm, OsNet};
use crate::zre::{ExitReason, Headers};

/// A beacon port that nobody else uses, most likely: tests that run side by side must not meet.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn builder(port: u16, name: &str) -> NodeBuilder {
    Node::builder().interface("lo").port(port).name(name).interval(Duration::from_millis(50))
}

/// Gives a future ten seconds, which is for ever on a loopback.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    let net = OsNet::new();
    let mut alarm = net.alarm();
    alarm.set(Some(net.now().after(Duration::from_secs(10))));
    tokio::select! {
        biased;
        value = future => value,
        () = alarm.ring() => panic!("nothing happened"),
    }
}

async fn next(events: &mut Events) -> Event {
    soon(events.next()).await.expect("the node runs")
}

#[tokio::test]
async fn two_nodes_meet_talk_and_part() {
    let (net, port) = (OsNet::new(), free_port());
    let (alice, mut to_alice) =
        builder(port, "alice").header("X-ROLE", "demo").group("CHAT").start(&net).await.unwrap();
    let (bob, mut to_bob) = builder(port, "bob").start(&net).await.unwrap();
    let bobs_headers = Headers::new();

    let Event::Enter { peer, name, headers, endpoint } = next(&mut to_alice).await else { panic!() };
    assert_eq!((peer, name, headers), (bob.id(), Text::from("bob"), bobs_headers));
    assert_eq!(endpoint, bob.endpoint().to_string().as_str());
    let Event::Enter { peer, headers, .. } = next(&mut to_bob).await else { panic!() };
    assert_eq!((peer, headers.get(&Text::from("X-ROLE"))), (alice.id(), Some(&"demo".into())));
    assert!(matches!(next(&mut to_bob).await, Event::Join { group, .. } if group == "CHAT"));

    bob.join("CHAT").await.unwrap();
    assert!(matches!(next(&mut to_alice).await, Event::Join { group, .. } if group == "CHAT"));
    assert_eq!(alice.peers_in("CHAT").await.unwrap(), [bob.id()]);
    assert_eq!(bob.own_groups().await.unwrap(), ["CHAT"]);
    assert_eq!(alice.peer(bob.id()).await.unwrap().unwrap().groups, ["CHAT"]);

    assert_eq!(alice.shout("CHAT", "hello").await, Ok(1));
    let Event::Shout { group, content, .. } = next(&mut to_bob).await else { panic!() };
    assert_eq!((group, content), ("CHAT".into(), vec![Bytes::from_static(b"hello")]));
    bob.whisper(alice.id(), ["multi", "", "frame"]).await.unwrap();
    let Event::Whisper { content, .. } = next(&mut to_alice).await else { panic!() };
    assert_eq!(content, ["multi", "", "frame"]);
    bob.leave("CHAT").await.unwrap();
    assert!(matches!(next(&mut to_alice).await, Event::Leave { group, .. } if group == "CHAT"));
    assert_eq!(alice.shout("CHAT", "nobody").await, Ok(0));

    soon(bob.stop()).await;
    assert_eq!(next(&mut to_bob).await, Event::Stop);
    assert_eq!(soon(to_bob.next()).await, None);
    assert_eq!(bob.join("LATE").await, Err(CommandError::Stopped));
    let Event::Exit { peer, reason, .. } = next(&mut to_alice).await else { panic!() };
    assert_eq!((peer, reason), (bob.id(), ExitReason::Left));
    assert_eq!(alice.peers().await.unwrap(), []);
    assert_eq!(alice.whisper(bob.id(), "gone").await, Err(CommandError::UnknownPeer(bob.id())));
}

#[tokio::test]
async fn a_node_without_beacons_says_goodbye_on_its_connections() {
    let (net, port) = (OsNet::new(), free_port());
    let (alice, mut to_alice) = builder(port, "alice").without_beacons().start(&net).await.unwrap();
    let place = alice.endpoint();
    let (bob, mut to_bob) = builder(port, "bob").without_beacons().peer(place).start(&net).await.unwrap();
    assert!(matches!(next(&mut to_alice).await, Event::Enter { .. }));
    assert!(matches!(next(&mut to_bob).await, Event::Enter { .. }));
    bob.whisper(alice.id(), "the last word").await.unwrap();
    soon(bob.stop()).await;
    assert!(matches!(next(&mut to_alice).await, Event::Whisper { .. }));
    // Not "refused", which is what a connection that just closes comes to.
    assert!(matches!(next(&mut to_alice).await, Event::Exit { reason: ExitReason::Left, .. }));
}

#[tokio::test]
async fn what_was_sent_before_stop_arrives() {
    let (net, port) = (OsNet::new(), free_port());
    let (alice, mut to_alice) = builder(port, "alice").start(&net).await.unwrap();
    let (bob, mut to_bob) = builder(port, "bob").start(&net).await.unwrap();
    next(&mut to_alice).await;
    next(&mut to_bob).await;
    let big = Bytes::from(vec![7; 100_000]);
    for _ in 0..100 {
        alice.whisper(bob.id(), big.clone()).await.unwrap();
    }
    soon(alice.stop()).await;
    for number in 0..100 {
        let event = next(&mut to_bob).await;
        assert!(
            matches!(&event, Event::Whisper { content, .. } if content[0] == big),
            "{number}: {event:.100?}"
        );
    }
    assert!(matches!(next(&mut to_bob).await, Event::Exit { reason: ExitReason::Left, .. }));
}

#[tokio::test]
async fn dropping_the_last_handle_stops_the_node_cleanly() {
    let (net, port) = (OsNet::new(), free_port());
    let (alice, mut to_alice) = builder(port, "alice").start(&net).await.unwrap();
    let (bob, mut to_bob) = builder(port, "bob").start(&net).await.unwrap();
    next(&mut to_alice).await;
    assert!(matches!(next(&mut to_bob).await, Event::Enter { .. }));
    let other_handle = bob.clone();
    drop(bob);
    assert_eq!(soon(other_handle.peers()).await.unwrap().len(), 1);
    drop(other_handle);
    assert!(matches!(next(&mut to_alice).await, Event::Exit { reason: ExitReason::Left, .. }));
    assert_eq!(next(&mut to_bob).await, Event::Stop);
    drop(alice);
}

#[tokio::test]
async fn an_application_that_takes_no_events_can_still_shout_and_stop() {
    let (net, port) = (OsNet::new(), free_port());
    let limits = Limits { events: 2, ..Limits::default() };
    let (alice, mut to_alice) =
        builder(port, "alice").group("CHAT").limits(limits).start(&net).await.unwrap();
    let (bob, mut to_bob) = builder(port, "bob").group("CHAT").start(&net).await.unwrap();
    next(&mut to_bob).await;
    for number in 0..1000 {
        bob.whisper(alice.id(), format!("{number}")).await.unwrap();
    }
    assert_eq!(soon(alice.shout("CHAT", "I still can")).await, Ok(1));
    assert!(matches!(next(&mut to_bob).await, Event::Join { .. }));
    assert!(matches!(next(&mut to_bob).await, Event::Shout { .. }));
    assert!(matches!(next(&mut to_alice).await, Event::Enter { .. }));
    assert!(matches!(next(&mut to_alice).await, Event::Join { .. }));
    for number in 0..1000 {
        let Event::Whisper { content, .. } = next(&mut to_alice).await else { panic!() };
        assert_eq!(content[0], number.to_string());
    }
    for number in 0..1000 {
        bob.whisper(alice.id(), format!("{number}")).await.unwrap();
    }
    soon(alice.stop()).await;
}

#[tokio::test]
async fn events_that_nobody_wants_hold_nobody_back() {
    let (net, port) = (OsNet::new(), free_port());
    let limits = Limits { events: 1, ..Limits::default() };
    let (alice, to_alice) = builder(port, "alice").limits(limits).start(&net).await.unwrap();
    drop(to_alice);
    let (bob, mut to_bob) = builder(port, "bob").start(&net).await.unwrap();
    next(&mut to_bob).await;
    for group in 0..100 {
        bob.join(format!("G{group}")).await.unwrap();
    }
    soon(async {
        while alice.peers().await.unwrap().first().is_none_or(|bob| bob.groups.len() < 100) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_too_slow_and_costs_no_more_than_its_queue() {
    let (net, port) = (OsNet::new(), free_port());
    let limits = Limits { queue_bytes: 1 << 20, ..Limits::default() };
    let (alice, mut to_alice) = builder(port, "alice").limits(limits).start(&net).await.unwrap();
    let few = Limits { events: 1, ..Limits::default() };
    let (bob, to_bob) = builder(port, "bob").limits(few).start(&net).await.unwrap();
    assert!(matches!(next(&mut to_alice).await, Event::Enter { .. }));
    let big = Bytes::from(vec![7; 100_000]);
    let exit = soon(async {
        loop {
            tokio::select! {
                biased;
                event = to_alice.next() => break event,
                sent = alice.whisper(bob.id(), big.clone()) => sent.unwrap_or_default(),
            }
        }
    })
    .await;
    assert!(matches!(exit, Some(Event::Exit { reason: ExitReason::TooSlow, .. })), "{exit:?}");
    drop(to_bob);
}

#[tokio::test]
async fn an_application_that_sends_faster_than_a_peer_takes_waits_for_it() {
    let (net, port) = (OsNet::new(), free_port());
    let limits = Limits { queue_bytes: 1 << 20, queue_messages: 64, ..Limits::default() };
    let (alice, mut to_alice) = builder(port, "alice").limits(limits).start(&net).await.unwrap();
    let few = Limits { events: 1, ..Limits::default() };
    let (bob, mut to_bob) = builder(port, "bob").limits(few).start(&net).await.unwrap();
    assert!(matches!(next(&mut to_alice).await, Event::Enter { .. }));
    assert!(matches!(next(&mut to_bob).await, Event::Enter { .. }));
    let big = Bytes::from(vec![7; 100_000]);
    let sending = async {
        for _ in 0..1000 {
            alice.whisper(bob.id(), big.clone()).await.unwrap();
        }
    };
    let taking = async {
        for _ in 0..1000 {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            assert!(matches!(next(&mut to_bob).await, Event::Whisper { .. }));
        }
    };
    tokio::join!(sending, taking);
}

#[tokio::test]
async fn nodes_on_one_address_listen_on_successive_ports() {
    let (net, port) = (OsNet::new(), free_port());
    let (alice, _) = builder(port, "alice").start(&net).await.unwrap();
    let (bob, _) = builder(port, "bob").start(&net).await.unwrap();
    assert!(alice.endpoint().port >= Config::TCP_PORT_FIRST && bob.endpoint().port > alice.endpoint().port);
    let taken = alice.endpoint().port;
    let error = builder(port, "carol").tcp_port(taken).start(&net).await.unwrap_err();
    assert!(matches!(error, StartError::Listen { at, .. } if at.port() == taken), "{error}");
}

#[tokio::test]
async fn an_interface_that_does_not_exist_is_answered_with_those_that_do() {
    let error = Node::builder().interface("none0").start(&OsNet::new()).await.unwrap_err();
    assert!(error.to_string().contains("none0") && error.to_string().contains("lo 127.0.0.1"), "{error}");
}
