//! A node's environment: clock, alarms, tasks, randomness, its own addresses.

use std::future::{pending, poll_fn};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Site, within};
use crate::Timestamp;
use crate::net::{Alarm, Net};

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_millis(60);

/// Whether the alarm rings right now.
async fn rings(alarm: &mut impl Alarm) -> bool {
    poll_fn(|context| Poll::Ready(alarm.poll_ring(context).is_ready())).await
}

pub(super) async fn time_never_runs_backwards<N: Net>(site: &Site<N>) {
    let start = site.a.now();
    let mut last = start;
    for _ in 0..10_000 {
        let now = site.a.clone().now();
        assert!(now >= last, "{now} after {last}");
        last = now;
    }
    let mut alarm = site.a.alarm();
    alarm.set(Some(last.after(SHORT)));
    alarm.ring().await;
    assert!(site.a.now().since(start) >= SHORT, "waiting takes time");
}

pub(super) async fn an_alarm_rings_once_and_never_early<N: Net>(site: &Site<N>) {
    let mut alarm = site.a.alarm();
    assert!(!rings(&mut alarm).await, "a new alarm is not set");
    let deadline = site.a.now().after(SHORT);
    alarm.set(Some(deadline));
    alarm.ring().await;
    assert!(site.a.now() >= deadline, "{} before {deadline}", site.a.now());
    assert_eq!(within(&site.a, LONG, alarm.ring()).await, None, "it rang twice");
}

pub(super) async fn a_later_alarm_never_rings_before_an_earlier_one<N: Net>(site: &Site<N>) {
    let start = site.a.now();
    let mut earlier = Vec::new();
    for place in [3, 1, 2] {
        let mut alarm = site.a.alarm();
        alarm.set(Some(start.after(SHORT * place)));
        let has_rung = rings(&mut alarm).await;
        earlier.push((alarm, has_rung));
    }
    let mut last = site.a.alarm();
    last.set(Some(start.after(SHORT * 4)));
    last.ring().await;
    for (mut alarm, has_rung) in earlier {
        assert!(has_rung || rings(&mut alarm).await, "the last alarm rang before another one");
    }
}

pub(super) async fn an_alarm_can_be_set_earlier_later_and_off<N: Net>(site: &Site<N>) {
    let mut alarm = site.a.alarm();
    alarm.set(Some(site.a.now().after(Duration::from_secs(86_400))));
    assert!(!rings(&mut alarm).await);
    alarm.set(Some(site.a.now().after(SHORT)));
    alarm.ring().await;

    alarm.set(Some(site.a.now().after(SHORT)));
    let deadline = site.a.now().after(LONG);
    alarm.set(Some(deadline));
    alarm.ring().await;
    assert!(site.a.now() >= deadline, "the earlier deadline rang although a later one replaced it");

    alarm.set(Some(site.a.now().after(SHORT)));
    alarm.set(None);
    assert_eq!(within(&site.a, LONG, alarm.ring()).await, None, "an alarm rang that was not set");
    alarm.set(Some(Timestamp::NEVER));
    assert_eq!(within(&site.a, SHORT, alarm.ring()).await, None, "never came");
}

pub(super) async fn a_deadline_in_the_past_rings_at_once<N: Net>(site: &Site<N>) {
    let mut alarm = site.a.alarm();
    for deadline in [Timestamp::ZERO, site.a.now()] {
        alarm.set(Some(deadline));
        assert!(rings(&mut alarm).await, "{deadline} at {}", site.a.now());
        assert!(!rings(&mut alarm).await, "it rang twice");
    }
}

pub(super) async fn dropping_a_task_ends_it<N: Net>(site: &Site<N>) {
    let (started, is_started) = oneshot::channel();
    let (alive, is_gone) = oneshot::channel::<()>();
    let task = site.a.spawn("conformance", async move {
        let _alive = alive;
        started.send(()).expect("the case waits");
        pending::<()>().await;
    });
    is_started.await.expect("the task starts");
    assert!(!task.is_finished());
    drop(task);
    is_gone.await.expect_err("the task's own values are dropped with it");
}

pub(super) async fn a_detached_task_goes_on<N: Net>(site: &Site<N>) {
    let (question, asked) = oneshot::channel::<u32>();
    let (answer, answered) = oneshot::channel();
    let net = site.a.clone();
    let task = site.a.spawn("conformance", async move {
        let question = asked.await.expect("the case asks");
        let mut alarm = net.alarm();
        alarm.set(Some(net.now().after(SHORT)));
        alarm.ring().await;
        answer.send(question + 1).expect("the case listens");
    });
    task.detach();
    question.send(41).expect("the task is there");
    assert_eq!(answered.await, Ok(42));

    let short = site.a.spawn("conformance", async {});
    let mut alarm = site.a.alarm();
    while !short.is_finished() {
        alarm.set(Some(site.a.now().after(SHORT)));
        alarm.ring().await;
    }
}

pub(super) async fn randomness_differs_from_draw_to_draw<N: Net>(site: &Site<N>) {
    let draw = |net: &N| {
        let mut bytes = [0; 32];
        net.random(&mut bytes);
        bytes
    };
    let draws = [draw(&site.a), draw(&site.a), draw(&site.a.clone()), draw(&site.b)];
    for (place, one) in draws.iter().enumerate() {
        assert!(one.iter().any(|byte| *byte != 0), "nothing was drawn");
        assert!(!draws[place + 1..].contains(one), "two draws are the same");
    }
}

pub(super) async fn a_numeric_host_resolves_to_itself<N: Net>(site: &Site<N>) {
    for address in ["192.0.2.7", "2001:db8::7"] {
        let address: IpAddr = address.parse().expect("an address");
        let found = site.a.resolve(&address.to_string(), 5670).await.expect("an address is its own name");
        assert_eq!(found, [SocketAddr::new(address, 5670)]);
    }
}

pub(super) async fn a_node_lists_the_address_it_has<N: Net>(site: &Site<N>) {
    for interface in [site.a_interface(), site.b_interface()] {
        assert!(interface.is_up && interface.index > 0 && !interface.name.is_empty(), "{interface:?}");
        assert_eq!(interface.is_loopback, interface.address.is_loopback(), "{interface:?}");
        let bits = if interface.address.is_ipv4() { 32 } else { 128 };
        assert!((1..=bits).contains(&interface.prefix), "{interface:?}");
    }
}

pub(super) async fn neighbours_are_inside_each_others_prefix<N: Net>(site: &Site<N>) {
    let (a, b) = (site.a_interface(), site.b_interface());
    assert_ne!(a.address, b.address);
    assert_eq!(network(a.address, a.prefix), network(b.address, a.prefix), "{a:?} {b:?}");
    assert_eq!(network(a.address, b.prefix), network(b.address, b.prefix), "{a:?} {b:?}");
    for interface in [a, b] {
        assert!(!interface.is_loopback && !interface.is_point_to_point, "{interface:?}");
        let expected = match interface.address {
            IpAddr::V4(it) => Some(Ipv4Addr::from_bits(it.to_bits() | (u32::MAX >> interface.prefix)).into()),
            IpAddr::V6(_) => None,
        };
        assert_eq!(interface.broadcast, expected, "{interface:?}");
    }
}

/// The leading `prefix` bits of an address.
fn network(address: IpAddr, prefix: u8) -> u128 {
    let (bits, len) = match address {
        IpAddr::V4(it) => (u128::from(it.to_bits()), 32),
        IpAddr::V6(it) => (it.to_bits(), 128),
    };
    bits.checked_shr(len - u32::from(prefix)).unwrap_or(0)
}
