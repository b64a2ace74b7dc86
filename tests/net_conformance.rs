//! The real network passes the suite: on loopback what loopback can do, and all of it between network namespaces.
//!
//! What it does not do: test hailer's protocols.

#[cfg(target_os = "linux")]
#[path = "namespaces/inside.rs"]
mod inside;
#[cfg(target_os = "linux")]
#[path = "namespaces/lab.rs"]
mod lab;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hailer::net::OsNet;
use hailer::net::conformance::{Site, cases};

/// Runs all cases that the site offers, and returns how many.
async fn run_all<N: hailer::net::Net>(site: &Site<N>) -> usize {
    let mut count = 0;
    for case in cases::<N>() {
        if site.offers(case.needs) {
            println!("{} -> {}: {}", site.a_address, site.b_address, case.name);
            case.run(site).await;
            count += 1;
        }
    }
    count
}

async fn run_on_loopback(address: IpAddr) {
    let net = OsNet::new();
    let site = Site { a: net.clone(), a_address: address, b: net, b_address: address, are_neighbours: false };
    assert!(run_all(&site).await > 0);
}

/// Past the test harness, which hides what a passing test prints. No failure in CI: containers often lack IPv6.
fn say_no_ipv6() {
    writeln!(std::io::stderr(), "NOT RUN: conformance over IPv6: this machine has none").expect("it is open");
}

#[tokio::test]
async fn the_real_network_conforms_on_loopback() {
    run_on_loopback(Ipv4Addr::LOCALHOST.into()).await;
}

#[tokio::test]
async fn the_real_network_conforms_on_loopback_over_ipv6() {
    if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        say_no_ipv6();
        return;
    }
    run_on_loopback(Ipv6Addr::LOCALHOST.into()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_network_conforms_on_many_threads() {
    run_on_loopback(Ipv4Addr::LOCALHOST.into()).await;
}

/// On one thread: a namespace is a property of the thread, and [`inside::Inside`] changes it around every call.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_real_network_conforms_between_namespaces() {
    use hailer::net::Net;

    if !lab::is_available_or_say_so() {
        return;
    }
    let lab = lab::Lab::new(2);
    let [a, b] = [0, 1].map(|host| inside::Inside::new(lab.namespace(host)));
    let versions: [[IpAddr; 2]; 2] = [
        [lab.address(0).into(), lab.address(1).into()],
        [lab.address_v6(0).into(), lab.address_v6(1).into()],
    ];
    for [a_address, b_address] in versions {
        if a_address.is_ipv6() && !a.interfaces().unwrap().iter().any(|it| it.address == a_address) {
            say_no_ipv6();
            continue;
        }
        let site = Site { a: a.clone(), a_address, b: b.clone(), b_address, are_neighbours: true };
        let offered = run_all(&site).await;
        assert!(a_address.is_ipv6() || offered == cases::<inside::Inside>().len());
    }
}

/// A namespace whose only free port is the one that nobody listens on makes certain what is rare elsewhere.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_connection_to_oneself_by_accident_is_refused() {
    use hailer::net::Net;

    if !lab::is_available_or_say_so() {
        return;
    }
    let lab = lab::Lab::new(1);
    let narrow = "echo 40000 40000 > /proc/sys/net/ipv4/ip_local_port_range";
    assert!(lab.command(0, "sh").args(["-c", narrow]).status().expect("sh").success());
    let net = inside::Inside::new(lab.namespace(0));
    let error = net.connect((Ipv4Addr::LOCALHOST, 40000).into(), None).await.expect_err("nobody listens");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{error}");
}
