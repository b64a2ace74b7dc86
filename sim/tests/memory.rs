//! The memory that nodes hold is counted, when the program's allocator counts: all of it, and nothing else.

use std::alloc::System;
use std::sync::Arc;

use hailer::Timestamp;
use hailer_sim::check;
use hailer_sim::memory::{self, Account};
use hailer_sim::scenario::Scenario;
use hailer_sim::world::{self, Options};
use tracking_allocator::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator<System> = memory::counting(System);

fn account() -> Account {
    Account::open(Arc::new(|| Timestamp::from_millis(7))).expect("this program's allocator counts")
}

#[test]
fn what_is_allocated_on_an_account_is_on_it_until_it_is_freed_wherever_that_is() {
    let (one, other) = (account(), account());
    let kept = one.during(|| vec![0_u8; 1000]);
    let moved = other.during(|| vec![0_u8; 500]);
    assert_eq!((one.held(), other.held()), (1000, 500));
    one.during(|| drop(moved));
    assert_eq!((one.held(), other.held()), (1000, 0));
    drop(kept);
    assert_eq!((one.held(), one.peak().most, one.peak().at), (0, 1000, Timestamp::from_millis(7)));
}

#[test]
fn what_is_allocated_outside_is_on_no_account_though_it_is_freed_on_one() {
    let one = account();
    let kernel = one.during(|| memory::outside(|| vec![0_u8; 1000]));
    assert_eq!(one.held(), 0);
    let told = one.during(|| memory::taken_outside("a".repeat(100)));
    assert_eq!(one.held(), 0);
    one.during(|| drop((kernel, told)));
    assert_eq!((one.held(), one.peak().most), (0, 100));
}

#[test]
fn a_vector_that_grows_on_an_account_counts_as_long_as_it_is() {
    let one = account();
    one.during(|| {
        let mut grown: Vec<u8> = Vec::with_capacity(16);
        (0..2000).for_each(|byte| grown.push(byte as u8));
        assert_eq!(one.held(), grown.capacity() as u64);
    });
    assert_eq!(one.held(), 0);
}

fn scenario(nodes: u32, limit: &str) -> Scenario {
    let text = format!(
        "[scenario]\nabout = \"a test\"\nduration = \"12 s\"\n\
         [[segment]]\nname = \"lan\"\nprefix = \"10.0.0.0/24\"\nlink = {{ delay = \"1 ms\", loss = \"1 %\" }}\n\
         [[node]]\nname = \"n\"\ncount = {nodes}\nsegment = \"lan\"\n[node.zre]\ngroups = [\"ALL\"]\n\
         [[traffic]]\nfrom = \"n\"\nshout = \"ALL\"\nevery = \"200 ms\"\nstart = \"2 s\"\nbytes = 5000\n\
         [[expect]]\nalways = \"memory-stays-below\"\nbytes = \"{limit}\"\n"
    );
    Scenario::parse("memory.toml", &text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn peaks(scenario: &Scenario) -> Vec<u64> {
    let trace = world::run(scenario, Options::default()).unwrap();
    trace.loads.iter().map(|load| load.memory.most).collect()
}

#[test]
fn a_node_with_more_peers_holds_more_and_each_run_counts_the_same() {
    let (few, many) = (peaks(&scenario(2, "1 MiB")), peaks(&scenario(12, "1 MiB")));
    let most = |peaks: &[u64]| peaks.iter().copied().max().unwrap();
    assert!(most(&few) > 1_000, "{few:?}");
    assert!(most(&many) > 2 * most(&few), "{few:?} {many:?}");
    // What libraries allocate once has been allocated by now.
    assert_eq!(peaks(&scenario(12, "1 MiB")), many);
}

#[test]
fn counting_changes_nothing_else() {
    let counted = scenario(6, "1 MiB");
    let uncounted = Scenario { expects: Vec::new(), ..counted.clone() };
    let digest = |scenario: &Scenario| world::run(scenario, Options::default()).unwrap().digest;
    assert_eq!(digest(&counted), digest(&uncounted));
}

#[test]
fn who_holds_too_much_is_found() {
    let judge = |limit| {
        let scenario = scenario(4, limit);
        let trace = world::run(&scenario, Options::default()).unwrap();
        check::judge(&scenario, &trace).exit_code()
    };
    assert_eq!((judge("16 MiB"), judge("1 kB")), (0, 129));
}
