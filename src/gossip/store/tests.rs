//! The store alone: what its claims come to. Whole conversations are in the tests of the hub.

use proptest::prelude::*;

use super::*;

fn key(number: u8) -> Key {
    Key::Peer(PeerId::from_bytes([number; 16]))
}

fn hub(number: u8) -> Store {
    let id = PeerId::from_bytes([number; 16]);
    Store::new(id, Duration::from_secs(30), Limits::default(), Timestamp::ZERO)
}

fn own(link: u64) -> Source {
    let lives = Some(Duration::from_secs(30));
    Source { link: LinkId::from_number(link), is_own: true, may_echo: false, lives }
}

fn news(changes: &[Change]) -> Vec<News> {
    let news = |change: &Change| if let Change::News(news) = change { Some(news.clone()) } else { None };
    changes.iter().filter_map(news).collect()
}

#[test]
fn news_go_round_a_ring_of_hubs_once() {
    let mut ring = [hub(1), hub(2), hub(3)];
    let now = Timestamp::ZERO;
    let mut said = news(&ring[0].publish(now, own(1), &key(9), &"there".into()));
    for at in [1, 2, 0] {
        let told = ring[at].hear(now, said.remove(0));
        said = news(&told);
        assert_eq!(ring[at].value(&key(9)), Some(&"there".into()));
        assert_eq!(said.len(), usize::from(at != 0), "hub {at}");
    }
    assert_eq!(ring[0].counters.news_repeated, 1);
}

#[test]
fn older_news_that_come_late_do_not_bring_back_what_was_withdrawn() {
    let (mut one, mut two) = (hub(1), hub(2));
    let now = Timestamp::ZERO;
    let born = news(&one.publish(now, own(1), &key(9), &"there".into())).remove(0);
    let gone = news(&one.withdraw(now, LinkId::from_number(1), &key(9))).remove(0);
    two.hear(now, born.clone());
    two.hear(now, gone.clone());
    assert!(two.hear(now, born.clone()).is_empty());
    assert_eq!(two.value(&key(9)), None);
    // Also when the withdrawal is faster on its way.
    let mut three = hub(3);
    three.hear(now, gone);
    assert!(three.hear(now, born).is_empty());
    assert_eq!(three.value(&key(9)), None);
}

#[test]
fn what_a_hub_says_goes_when_it_says_it_no_more() {
    let (mut one, mut two) = (hub(1), hub(2));
    let news = news(&one.publish(Timestamp::ZERO, own(1), &key(9), &"there".into())).remove(0);
    two.hear(Timestamp::ZERO, news);
    two.on_timeout(Timestamp::from_millis(29_000));
    assert!(two.value(&key(9)).is_some());
    let changes = two.on_timeout(Timestamp::from_millis(31_000));
    assert!(matches!(&changes[..], [Change::Gone { is_withdrawn: false, .. }]), "{changes:?}");
}

#[test]
fn a_node_at_two_hubs_is_there_until_neither_has_it() {
    let (mut one, mut two, mut three) = (hub(1), hub(2), hub(3));
    let now = Timestamp::ZERO;
    for (at, link) in [(&mut one, 1), (&mut two, 2)] {
        let said = news(&at.publish(now, own(link), &key(9), &"there".into())).remove(0);
        three.hear(now, said);
    }
    let gone = news(&one.withdraw(now, LinkId::from_number(1), &key(9))).remove(0);
    assert!(!three.hear(now, gone).iter().any(|change| matches!(change, Change::Gone { .. })));
    let gone = news(&two.withdraw(now, LinkId::from_number(2), &key(9))).remove(0);
    assert!(three.hear(now, gone).iter().any(|change| matches!(change, Change::Gone { .. })));
}

/// What can happen to a store.
#[derive(Clone, Debug)]
enum Step {
    Publish { link: u64, is_own: bool, may_echo: bool, key: u8, value: u8, lives_s: Option<u64> },
    Withdraw { link: u64, key: u8 },
    Close { link: u64 },
    Hear { origin: u8, stamp: u64, key: u8, value: u8, left_ms: u32 },
    Pass { ms: u64 },
}

fn any_step() -> impl Strategy<Value = Step> {
    let publish = (1..4_u64, any::<bool>(), any::<bool>(), 0..4_u8, 0..3_u8, prop::option::of(0..60_u64));
    prop_oneof![
        publish.prop_map(|(link, is_own, may_echo, key, value, lives_s)| Step::Publish {
            link,
            is_own,
            may_echo,
            key,
            value,
            lives_s
        }),
        (1..4_u64, 0..4_u8).prop_map(|(link, key)| Step::Withdraw { link, key }),
        (1..4_u64).prop_map(|link| Step::Close { link }),
        (0..4_u8, 0..6_u64, 0..4_u8, 0..3_u8, prop_oneof![Just(0), 1..60_000_u32]).prop_map(
            |(origin, stamp, key, value, left_ms)| Step::Hear { origin, stamp, key, value, left_ms }
        ),
        (0..40_000_u64).prop_map(|ms| Step::Pass { ms }),
    ]
}

proptest! {
    /// Whatever happens: what was told is what there is, the counts are right, and in the end nothing is left.
    #[test]
    fn what_was_told_is_what_there_is(steps in prop::collection::vec(any_step(), 0..60)) {
        let limits = Limits { tuples: 6, tuples_per_client: 3, ..Limits::default() };
        let mut store = Store::new(PeerId::from_bytes([0; 16]), Duration::from_secs(30), limits.clone(), Timestamp::ZERO);
        let mut now = Timestamp::ZERO;
        let mut told: BTreeMap<Key, Text> = BTreeMap::new();
        let mut hear = |changes: Vec<Change>| for change in changes {
            match change {
                Change::Set { key, value } => {
                    assert_ne!(told.insert(key, value.clone()), Some(value), "no news");
                }
                Change::Gone { key, value, .. } => assert_eq!(told.remove(&key), Some(value)),
                Change::News(_) => {}
            }
        };
        let value = |value: u8| Text::from(value.to_string());
        let ends = [Step::Close { link: 1 }, Step::Close { link: 2 }, Step::Close { link: 3 }];
        let ends = ends.into_iter().chain((0..40).map(|_| Step::Pass { ms: 100_000 }));
        for step in steps.into_iter().chain(ends) {
            hear(match step {
                Step::Publish { link, is_own, may_echo, key: k, value: v, lives_s } => {
                    let lives = lives_s.map(Duration::from_secs);
                    let source = Source { link: LinkId::from_number(link), is_own, may_echo, lives };
                    store.publish(now, source, &key(k), &value(v))
                }
                Step::Withdraw { link, key: k } => store.withdraw(now, LinkId::from_number(link), &key(k)),
                Step::Close { link } => {
                    store.close(now, LinkId::from_number(link));
                    Vec::new()
                }
                Step::Hear { origin, stamp, key: k, value: v, left_ms } => {
                    let stamped = Stamped { origin: PeerId::from_bytes([origin; 16]), stamp, key: key(k) };
                    store.hear(now, News { stamped, value: value(v), left_ms })
                }
                Step::Pass { ms } => {
                    let until = now.after(Duration::from_millis(ms));
                    let mut changes = Vec::new();
                    while store.deadline() <= until {
                        let due = store.deadline();
                        now = now.max(due);
                        changes.extend(store.on_timeout(now));
                        prop_assert!(store.deadline() > due, "it goes on");
                    }
                    now = until;
                    changes
                }
            });
            prop_assert!(store.claims <= limits.tuples);
            let claims: usize =
                store.tuples.values().map(|tuple| usize::from(tuple.local.is_some()) + tuple.distant.len()).sum();
            prop_assert_eq!(store.claims, claims);
            let bytes: usize = store.tuples.iter().map(|(key, tuple)| {
                let distant = tuple.distant.values().map(|claim| key.len() + claim.value.as_ref().map_or(0, Text::len));
                tuple.local.iter().map(|local| key.len() + local.value.len()).chain(distant).sum::<usize>()
            }).sum();
            prop_assert_eq!(store.bytes, bytes);
            prop_assert!(store.by_link.values().all(|keys| !keys.is_empty() && keys.len() <= 3));
        }
        prop_assert!(store.tuples.is_empty() && store.dead.is_empty() && store.by_link.is_empty());
        prop_assert!(told.is_empty());
        prop_assert_eq!(store.deadline(), Timestamp::NEVER);
    }
}
