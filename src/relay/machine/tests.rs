//! A relay's decisions, stepped by hand, and against any order of events.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

const BEAT: Duration = Duration::from_secs(15);

struct Bench {
    machine: RelayMachine,
    now: Timestamp,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        let mut bench = Self { machine: RelayMachine::new(BEAT), now: Timestamp::ZERO };
        let services = [("".into(), limits.clone()), ("ssh".into(), limits)];
        bench.give(Input::Services(BTreeMap::from(services)));
        bench
    }

    fn give(&mut self, input: Input) -> Vec<Output> {
        self.machine.handle(self.now, input);
        std::iter::from_fn(|| self.machine.poll()).collect()
    }

    fn host(&mut self, control: u64) -> Vec<Output> {
        self.give(Input::Host { control: ConnectionId(control), service: "ssh".into() })
    }

    fn data(&mut self, control: u64, data: u64, ticket: u64) -> Vec<Output> {
        self.give(Input::Data { data: ConnectionId(data), control: ConnectionId(control), ticket })
    }

    fn client(&mut self, client: u64) -> Vec<Output> {
        let from = Ipv4Addr::new(10, 0, 0, 1).into();
        self.give(Input::Client { client: ClientId(client), service: "ssh".into(), from })
    }

    fn advance(&mut self, by: Duration) -> Vec<Output> {
        self.now = self.now.after(by);
        self.give(Input::Timeout)
    }
}

fn want(control: u64, first: u64, count: u16) -> Output {
    Output::Want { control: ConnectionId(control), first, count }
}

fn join(client: u64, data: u64) -> Output {
    Output::Join(ClientId(client), ConnectionId(data))
}

#[test]
fn the_host_with_the_fewest_sessions_gets_the_next_client() {
    let mut bench = Bench::new(Limits { pool: 2, ..Limits::default() });
    assert_eq!(bench.host(1), [want(1, 0, 1)]);
    assert_eq!(bench.host(2), [want(2, 0, 1)]);
    // The rest of their pools, when the four connections that come are paid for.
    assert_eq!(bench.machine.deadline(), Some(Timestamp::from_millis(4)));
    assert_eq!(bench.advance(Duration::from_millis(4)), [want(1, 1, 1)]);
    assert_eq!(bench.advance(Duration::from_millis(1)), [want(2, 1, 1)]);
    for (control, data, ticket) in [(1, 11, 0), (1, 12, 1), (2, 21, 0), (2, 22, 1)] {
        assert_eq!(bench.data(control, data, ticket), []);
    }
    assert_eq!(bench.client(100), [join(100, 12), want(1, 2, 1)]);
    assert_eq!(bench.client(101), [join(101, 22), want(2, 2, 1)]);
    // A connection that is free again needs no other one in its place.
    assert_eq!(bench.give(Input::Free(ConnectionId(22))), []);
    assert_eq!(bench.client(102), [join(102, 22)]);
}

#[test]
fn hosts_that_come_together_fill_their_pools_in_turn_and_who_is_needed_at_once() {
    let mut bench = Bench::new(Limits { pool: 4, hosts: 2000, ..Limits::default() });
    for control in 1..=1000 {
        assert_eq!(bench.host(control), [want(control, 0, 1)]);
    }
    // A client takes the first connection, and its host's pool is filled: there may be more clients.
    assert_eq!(bench.data(700, 10_000, 0), []);
    assert_eq!(bench.client(1), [join(1, 10_000), want(700, 1, 4)]);
    let (mut asked, mut latest) = (0, 0);
    for millisecond in 1..5000_u32 {
        for output in bench.advance(Duration::from_millis(1)) {
            if let Output::Want { count, .. } = output {
                assert!(millisecond >= 2000, "after the two thousand that came at once");
                asked += u32::from(count);
                latest = millisecond;
            }
        }
        assert!(asked <= (millisecond + 6).saturating_sub(2000), "{asked} at {millisecond} ms");
    }
    assert_eq!((asked, latest), (999 * 3, 2000 + 998 * 3));
}

#[test]
fn one_client_that_waits_makes_one_pool_grow_and_not_that_of_each_host_that_comes() {
    let mut bench = Bench::new(Limits { pool: 2, ..Limits::default() });
    assert_eq!(bench.client(100), []);
    assert_eq!(bench.host(1), [want(1, 0, 4)]);
    assert_eq!(bench.host(2), [want(2, 0, 1)]);
    // More than are on their way for them do again.
    (101..104).for_each(|client| assert_eq!(bench.client(client), []));
    assert_eq!(bench.client(104), []);
    assert_eq!(bench.client(105), [want(2, 1, 3)]);
}

#[test]
fn a_ticket_is_good_once_and_for_its_own_host() {
    let mut bench = Bench::new(Limits { pool: 1, ..Limits::default() });
    bench.host(1);
    bench.host(2);
    assert_eq!(bench.data(1, 11, 0), []);
    let refused = |data| vec![Output::Close(ConnectionId(data))];
    assert_eq!(bench.data(1, 12, 0), refused(12));
    assert_eq!(bench.data(1, 13, 7), refused(13));
    assert_eq!(bench.data(9, 14, 0), refused(14));
}

#[test]
fn a_client_waits_for_a_host_and_no_longer_than_it_may() {
    let mut bench = Bench::new(Limits { pool: 1, waiting: 1, ..Limits::default() });
    assert_eq!(bench.client(100), []);
    assert_eq!(bench.client(101), [Output::Deny(ClientId(101), Denial::Full)]);
    assert_eq!(bench.machine.deadline(), Some(Timestamp::from_millis(10_000)));
    assert_eq!(bench.advance(Duration::from_secs(10)), [Output::Deny(ClientId(100), Denial::NoHost)]);
    assert_eq!(bench.client(102), []);
    assert_eq!(bench.host(1), [want(1, 0, 2)]);
    assert_eq!(bench.data(1, 11, 0), [join(102, 11), want(1, 2, 1)]);
}

#[test]
fn a_host_that_is_silent_or_ill_or_leaves_gets_nobody() {
    let mut bench = Bench::new(Limits { pool: 1, ..Limits::default() });
    bench.host(1);
    bench.data(1, 11, 0);
    bench.give(Input::Health(ConnectionId(1), false));
    assert_eq!(bench.client(100), []);
    assert_eq!(bench.give(Input::Health(ConnectionId(1), true))[0], join(100, 11));
    assert_eq!(bench.give(Input::Leaving(ConnectionId(1))), []);
    assert_eq!(bench.give(Input::Free(ConnectionId(11))), [Output::Close(ConnectionId(11))]);
    bench.host(2);
    let outputs = bench.advance(BEAT);
    assert!(
        outputs.contains(&Output::Ping(ConnectionId(1))) && outputs.contains(&want(2, 1, 1)),
        "{outputs:?}"
    );
    bench.give(Input::Heard(ConnectionId(2)));
    bench.advance(BEAT);
    let outputs = bench.advance(BEAT);
    assert!(outputs.contains(&Output::Close(ConnectionId(1))), "{outputs:?}");
    assert!(!outputs.contains(&Output::Close(ConnectionId(2))), "{outputs:?}");
}

#[test]
fn a_pool_that_grew_shrinks_when_nobody_needs_it() {
    let mut bench = Bench::new(Limits { pool: 2, pool_max: 16, ..Limits::default() });
    bench.host(1);
    let mut data = 1000;
    let mut tickets: VecDeque<u64> = (0..2).collect();
    let answer = |bench: &mut Bench, outputs: Vec<Output>, tickets: &mut VecDeque<u64>| {
        for output in outputs {
            if let Output::Want { first, count, .. } = output {
                tickets.extend(first..first + u64::from(count));
            }
        }
        let _ = bench;
    };
    for client in 0..40 {
        let outputs = bench.client(client);
        answer(&mut bench, outputs, &mut tickets);
    }
    while let Some(ticket) = tickets.pop_front() {
        data += 1;
        let outputs = bench.data(1, data, ticket);
        answer(&mut bench, outputs, &mut tickets);
    }
    assert_eq!(bench.machine.sessions(), 40);
    let all: Vec<_> = bench.machine.data.iter().filter(|(_, d)| d.is_busy).map(|(id, _)| *id).collect();
    all.into_iter().for_each(|id| drop(bench.give(Input::Free(id))));
    let grown = bench.machine.hosts[&ConnectionId(1)].free.len();
    assert!(grown >= 40, "{grown}");
    for _ in 0..12 {
        bench.give(Input::Heard(ConnectionId(1)));
        bench.advance(BEAT);
    }
    assert_eq!(bench.machine.hosts[&ConnectionId(1)].free.len(), 2);
}

#[test]
fn only_so_many_clients_come_in_a_second() {
    let mut bench = Bench::new(Limits { rate: Some(10), ..Limits::default() });
    let denied = (0..30).filter(|client| !bench.client(*client).is_empty()).count();
    assert_eq!(denied, 20);
    bench.now = bench.now.after(Duration::from_millis(500));
    let denied = (30..60).filter(|client| !bench.client(*client).is_empty()).count();
    assert_eq!(denied, 25);
}

#[test]
fn the_original_protocol_announces_both_ends_of_a_session_on_every_command_channel() {
    let mut bench = Bench::new(Limits::default());
    let client = |bench: &mut Bench, client| {
        let from = Ipv4Addr::LOCALHOST.into();
        bench.give(Input::Client { client: ClientId(client), service: "".into(), from })
    };
    assert_eq!(bench.give(Input::CompatibleData { data: ConnectionId(11), session: 0 }), []);
    // Without a command channel there is no host process.
    assert_eq!(client(&mut bench, 100), []);
    let open = |control| Output::Announce(ConnectionId(control), Announcement::Open(0));
    assert_eq!(bench.give(Input::Commands(ConnectionId(1))), [join(100, 11), open(1)]);
    bench.give(Input::Commands(ConnectionId(2)));
    let drop = |control| Output::Announce(ConnectionId(control), Announcement::Drop(0));
    assert_eq!(bench.give(Input::Gone(ConnectionId(11))), [drop(1), drop(2)]);
}

/// Any event, with few different numbers, so that they meet.
fn event() -> impl Strategy<Value = Input> {
    let id = || (0..12_u64).prop_map(ConnectionId);
    let service = || prop_oneof![Just(Name::from("")), Just(Name::from("ssh")), Just(Name::from("none"))];
    prop_oneof![
        (id(), service()).prop_map(|(control, service)| Input::Host { control, service }),
        id().prop_map(Input::Commands),
        id().prop_map(Input::Heard),
        (id(), any::<bool>()).prop_map(|(id, is_well)| Input::Health(id, is_well)),
        id().prop_map(Input::Leaving),
        (id(), id(), 0..9_u64).prop_map(|(data, control, ticket)| Input::Data { data, control, ticket }),
        (id(), 0..9_i32).prop_map(|(data, session)| Input::CompatibleData { data, session }),
        id().prop_map(Input::Free),
        id().prop_map(Input::Gone),
        (0..1000_u64, service()).prop_map(|(client, service)| Input::Client {
            client: ClientId(client),
            service,
            from: Ipv4Addr::LOCALHOST.into()
        }),
        Just(Input::Services(BTreeMap::from([(Name::from("ssh"), Limits::default())]))),
        Just(Input::Drain),
        Just(Input::Timeout),
    ]
}

proptest! {
    #[test]
    fn no_order_of_events_panics_or_serves_a_client_twice(
        events in proptest::collection::vec((event(), 0..20_000_u64), 1..200),
    ) {
        let limits = Limits { pool: 1, connections: 20, waiting: 10, ..Limits::default() };
        let mut bench = Bench::new(limits);
        // A driver gives each connection and each client a number of its own.
        let mut born = BTreeSet::new();
        let mut clients = BTreeSet::new();
        for (event, wait) in events {
            bench.now = bench.now.after(Duration::from_millis(wait));
            let is_fresh = match &event {
                Input::Host { control: id, .. } | Input::Commands(id) => born.insert(*id),
                Input::Data { data: id, .. } | Input::CompatibleData { data: id, .. } => born.insert(*id),
                Input::Client { client, .. } => clients.insert(*client),
                _ => true,
            };
            if !is_fresh {
                continue;
            }
            let gone = if let Input::Gone(id) = &event { Some(*id) } else { None };
            for output in bench.give(event) {
                match output {
                    Output::Join(client, data) => {
                        prop_assert!(clients.contains(&client) && born.contains(&data));
                    }
                    Output::Close(id) => drop(bench.give(Input::Gone(id))),
                    _ => {}
                }
            }
            if let Some(id) = gone {
                prop_assert!(!bench.machine.data.contains_key(&id) && !bench.machine.hosts.contains_key(&id));
            }
            let waiting: usize = bench.machine.doors.values().map(|door| door.waiting.len()).sum();
            prop_assert!(waiting <= 20 && bench.machine.sessions() <= 40);
            prop_assert!(bench.machine.timers.len() < 3000);
        }
    }
}

#[test]
fn a_client_that_came_back_is_the_next_in_turn_and_counts_against_no_limit_again() {
    let mut bench = Bench::new(Limits { pool: 1, pool_max: 1, rate: Some(1), ..Limits::default() });
    bench.host(1);
    bench.data(1, 11, 0);
    assert_eq!(bench.client(100), [join(100, 11), want(1, 1, 1)]);
    bench.now = bench.now.after(Duration::from_secs(1));
    bench.client(101);
    // The data connection broke before the client came to it.
    bench.give(Input::Gone(ConnectionId(11)));
    let returned = |client| Input::Returned { client: ClientId(client), service: "ssh".into() };
    assert_eq!(bench.give(returned(102)), [want(1, 2, 1)]);
    assert_eq!(bench.data(1, 12, 1), [join(102, 12)]);
    bench.give(Input::Drain);
    assert_eq!(bench.give(returned(103)), [Output::Deny(ClientId(103), Denial::Draining)]);
}

#[test]
fn hosts_are_told_how_many_they_are_when_that_has_changed() {
    let mut bench = Bench::new(Limits { pool: 0, ..Limits::default() });
    bench.host(1);
    bench.host(2);
    let crowd = |outputs: Vec<Output>| -> Vec<_> {
        outputs.into_iter().filter(|output| matches!(output, Output::Crowd(..))).collect()
    };
    let told = [Output::Crowd(ConnectionId(1), 2), Output::Crowd(ConnectionId(2), 2)];
    assert_eq!(crowd(bench.advance(BEAT)), told);
    assert_eq!(crowd(bench.advance(BEAT)), []);
    bench.give(Input::Gone(ConnectionId(2)));
    bench.give(Input::Heard(ConnectionId(1)));
    assert_eq!(crowd(bench.advance(BEAT)), [Output::Crowd(ConnectionId(1), 1)]);
}
