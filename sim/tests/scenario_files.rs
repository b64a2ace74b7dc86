//! Scenario files become the scenarios that they say, and those of the repository are in order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hailer_sim::fabric::nat::{
    Dependence, Hairpin, Policy, PortPolicy, Preset, TcpTimeouts, Timeouts, Unsolicited,
};
use hailer_sim::scenario::profiles::{PROFILES, Profile};
use hailer_sim::scenario::{
    Action, Burst, Chance, Crash, Delay, Direction, Forward, Nat, Node, NodeIndex, Property, Protocol, Route,
    Scenario, SegmentIndex, TrafficKind,
};

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

/// Every scenario file of the repository.
fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(scenarios()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    files.sort();
    files
}

#[test]
fn every_scenario_of_the_repository_loads_and_says_what_it_shows() {
    for file in files() {
        let scenario = Scenario::load(&file).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(Some(scenario.name.as_str()), file.file_stem().and_then(|stem| stem.to_str()));
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("# "), "{} has no sentence at its top", file.display());
        assert_eq!(
            scenario.about.contains("must fail"),
            scenario.name.starts_with("canary-"),
            "{}: canaries, and only they, say that they must fail",
            file.display()
        );
    }
    assert!(files().len() >= 7);
}

#[test]
fn a_nat_is_its_preset_with_what_the_file_changes() {
    let file = |nat: &str| {
        format!(
            r#"[scenario]
            about = "a home"
            duration = "1 s"
            [[segment]]
            name = "home"
            prefix = "192.168.1.0/24"
            [[segment]]
            name = "internet"
            prefix = "203.0.113.0/24"
            [[router]]
            name = "router"
            interfaces = [{{ segment = "internet", outside = true }}, {{ segment = "home" }}]
            nat = {nat}
            [[node]]
            name = "n"
            count = 2
            segment = "home"
            [[expect]]
            always = "nobody-unknown-appears""#
        )
    };
    let nat = |nat: &str| {
        let scenario = Scenario::parse("home.toml", &file(nat)).unwrap();
        scenario.nodes.last().unwrap().nat.clone().unwrap()
    };
    for preset in Preset::ALL {
        let expected =
            Nat { policy: preset.policy(), outside: 0, forwards: Vec::new(), userland_proxy: None };
        assert_eq!(nat(&format!("\"{}\"", preset.name())), expected);
        assert_eq!(nat(&format!("{{ preset = \"{}\" }}", preset.name())), expected);
    }
    let changed = nat(
        r#"{ preset = "symmetric", mapping = "address-dependent", filtering = "endpoint-independent", ports = "sequential",
            hairpin = true, unsolicited = "accept", udp_timeout = "7 s", tcp_timeout = "8 s", sessions = 9,
            forward = [{ port = 53, to = "n2", to_port = 5353, protocol = "udp" }, { port = 80, to = "10.0.0.7" }] }"#,
    );
    let base = Preset::Symmetric.policy();
    let udp = Duration::from_secs(7);
    let tcp = TcpTimeouts { established: Duration::from_secs(8), ..base.timeouts.tcp };
    let policy = Policy {
        mapping: Dependence::AddressDependent,
        filtering: Dependence::EndpointIndependent,
        ports: PortPolicy::Sequential,
        hairpin: Hairpin::Always,
        unsolicited: Unsolicited::Accept,
        timeouts: Timeouts { udp_unreplied: udp, udp_replied: udp, tcp, ..base.timeouts },
        sessions_max: 9,
        ..base
    };
    assert_eq!(changed.policy, policy);
    let forward = |protocol, port, to: &str| Forward { protocol, port, to: to.parse().unwrap() };
    let forwards = [
        forward(Protocol::Udp, 53, "192.168.1.3:5353"),
        forward(Protocol::Udp, 80, "10.0.0.7:80"),
        forward(Protocol::Tcp, 80, "10.0.0.7:80"),
    ];
    assert_eq!(changed.forwards, forwards);
}

#[test]
fn a_docker_host_translates_and_forwards_what_its_containers_publish() {
    let file = r#"[scenario]
        about = "a web server in a container"
        duration = "1 s"
        [[segment]]
        name = "lan"
        prefix = "192.168.1.0/24"
        [[docker_host]]
        name = "alpha"
        segment = "lan"
        [[container]]
        name = "web"
        host = "alpha"
        publish = ["8080:80", "53:5353/udp"]
        [[expect]]
        always = "nobody-unknown-appears""#;
    let scenario = Scenario::parse("docker.toml", file).unwrap();
    let named = |name: &str| scenario.nodes.iter().find(|node| node.name == name).unwrap();
    let nat = named("alpha").nat.clone().unwrap();
    assert_eq!((nat.outside, nat.policy, nat.userland_proxy), (0, Preset::Linux.policy(), Some(true)));
    let web = named("web").interfaces[0].address;
    let expected = [(Protocol::Tcp, 8080, 80), (Protocol::Udp, 53, 5353)]
        .map(|(protocol, port, to)| Forward { protocol, port, to: (web, to).into() });
    assert_eq!(nat.forwards, expected);
    assert_eq!(named("web").nat, None);
}

#[test]
fn the_index_lists_every_scenario() {
    let index = std::fs::read_to_string(scenarios().join("README.md")).unwrap();
    for file in files() {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(index.contains(&format!("[{name}]({name})")), "{name} is not in scenarios/README.md");
    }
}

/// What `scenarios/README.md` says between a heading with this text and the next one that is not below it.
fn section<'t>(document: &'t str, title: &str) -> Option<&'t str> {
    let is_about = |line: &&str| line.starts_with("## ") && line.contains(title);
    let heading = document.lines().find(is_about)?;
    let start = document.find(heading)? + heading.len();
    let length = document[start..].find("\n## ").unwrap_or(document.len() - start);
    Some(&document[start..start + length])
}

/// Whether a text has this key in backticks: alone, as a table, or with a value.
fn is_named(text: &str, key: &str) -> bool {
    let code = text.split('`').skip(1).step_by(2);
    code.into_iter().any(|code| {
        let is_key = |word: &str| word.trim_matches(['[', ']']).split('.').next_back() == Some(key);
        let mut given = code.split(['{', ',', '\n']).filter_map(|part| part.split_once('='));
        is_key(code) || given.any(|(name, _)| name.trim() == key)
    })
}

#[test]
fn the_documentation_has_every_key_that_a_file_may_have() {
    let document = std::fs::read_to_string(scenarios().join("README.md")).unwrap();
    // Roles whose keys are the daemon's own are explained there.
    let roles: String = ["relay", "repeater"]
        .map(|role| std::fs::read_to_string(scenarios().join(format!("../docs/{role}.md"))).unwrap())
        .concat();
    let whole = format!("{document}{roles}");
    assert_eq!(whole.matches('`').count() % 2, 0, "every backtick has its other one");
    let mut keys: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    // Tables that no scenario has, some of which belong into files of the daemon only: empty ones are enough to be asked for keys.
    let empty = r#"
        [[segment]]
        link = { burst = {}, replan = {}, delay = {}, up = {}, down = {} }
        [[router]]
        nat = { forward = [{}] }
        [[node]]
        repeater = { dns = {}, consul = { tls = {} }, multicast_registry = {}, publish = {}, accept = {} }
        relay = { tls = {}, compatible = {}, service = [{}] }
        host = { tls = {}, compatible = {}, service = [{}] }
        [[step]]
        interface = {}
        [[step]]
        broadcast_storm = {}
    "#;
    let texts = files().into_iter().map(|file| std::fs::read_to_string(file).unwrap());
    for text in texts.chain([empty.to_owned()]) {
        for (title, known) in Scenario::keys(&text) {
            keys.entry(title).or_default().extend(known);
        }
    }
    for title in ["relay.tls", "relay.compatible", "host.tls", "host.compatible", "repeater.consul.tls"] {
        assert!(keys.contains_key(&format!("[node.{title}]")), "{title} was not asked for its keys");
    }
    let mut missing = Vec::new();
    for (title, known) in &keys {
        let place = match title.as_str() {
            // What holds for nodes holds for containers.
            "[[container]]" => {
                format!("{}{}", section(&document, title).unwrap(), section(&document, "[[node]]").unwrap())
            }
            "this file" => whole.clone(),
            title if title.contains('.') => whole.clone(),
            title => section(&document, title).unwrap_or_else(|| panic!("no section on {title}")).to_owned(),
        };
        let is_missing = |key: &&&str| !is_named(&place, key);
        missing.extend(known.iter().filter(is_missing).map(|key| format!("`{key}` of {title}")));
    }
    assert_eq!(missing, Vec::<String>::new(), "undocumented in scenarios/README.md");
    // A table that no scenario has would not be looked at.
    let top = keys["this file"].iter();
    let unseen = top.filter(|key| !keys.contains_key(&format!("[[{key}]]")) && **key != "scenario");
    assert_eq!(unseen.collect::<Vec<_>>(), Vec::<&&str>::new());
}

#[test]
fn the_lossy_lan_is_as_lossy_and_as_large_as_it_says() {
    let scenario = Scenario::load(scenarios().join("lan-loss.toml")).unwrap();
    let ten_percent = Chance { ppm: 100_000 };
    assert_eq!(scenario.nodes.len(), 30);
    for node in &scenario.nodes {
        let link = &node.interfaces[0].link;
        // Lost where it comes in: once on each way from node to node.
        assert_eq!((link.up.loss, link.down.loss), (Chance::default(), ten_percent), "{}", node.name);
        assert_eq!(link.up.delay, Delay::Uniform(Duration::from_micros(200), Duration::from_micros(600)));
    }
    let crashes = scenario.steps.iter().filter_map(|step| match step.action {
        Action::Crash(crash) => Some(crash),
        _ => None,
    });
    assert_eq!(crashes.collect::<Vec<_>>(), [Crash::PowerCut, Crash::ProcessExit]);
    assert!(scenario.traffic.iter().any(|traffic| traffic.from.len() == 30));
    assert!(scenario.traffic.iter().any(|traffic| matches!(traffic.kind, TrafficKind::Whisper(_))));
    for property in [Property::NoLivePeerExits, Property::ShoutsArriveOnceAndInOrder] {
        assert!(scenario.expects.iter().any(|expect| expect.that == property && expect.by.is_none()));
    }
}

/// A scenario whose tables between `[scenario]` and `[[expect]]` are these.
fn with(tables: &str) -> Scenario {
    let text = format!(
        "[scenario]\nabout = \"a test\"\nduration = \"60 s\"\n{tables}\n[[expect]]\nalways = \"no-live-peer-exits\"\n"
    );
    Scenario::parse("dir/some.name.toml", &text).unwrap_or_else(|error| panic!("{error}"))
}

const LAN: &str = "[[segment]]\nname = \"lan\"\nprefix = \"10.0.0.0/24\"\n";

#[test]
fn what_a_file_leaves_out_has_its_default() {
    let scenario = with(&format!("{LAN}[[node]]\nname = \"n\"\nsegment = \"lan\"\n"));
    assert_eq!((scenario.name.as_str(), scenario.seed), ("some.name", 1));
    assert_eq!((scenario.duration, scenario.tick), (Duration::from_secs(60), Duration::from_millis(10)));
    let node = &scenario.nodes[0];
    assert_eq!((node.name.as_str(), node.group.as_str(), node.start), ("n", "n", Duration::ZERO));
    assert_eq!(node.interfaces[0].link.up, Direction::default());
    assert!(node.config.zre.is_none());
}

#[test]
fn a_count_makes_names_of_one_width_and_starts_at_even_distances() {
    let scenario = with(&format!(
        "{LAN}[[node]]\nname = \"n\"\ncount = 11\nsegment = \"lan\"\nstart = \"1 s..2 s\"\n[node.zre]\n"
    ));
    let names: Vec<_> = scenario.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!((names[0], names[8], names[10]), ("n01", "n09", "n11"));
    let starts: Vec<_> = scenario.nodes.iter().map(|node| node.start.as_millis()).collect();
    assert_eq!(starts, [1000, 1100, 1200, 1300, 1400, 1500, 1600, 1700, 1800, 1900, 2000]);
    assert_eq!(scenario.nodes[8].config.zre.as_ref().unwrap().name, Some("n09".into()));
}

#[test]
fn addresses_are_given_out_in_order_and_leave_out_those_given_by_hand() {
    let scenario = with(&format!(
        "{LAN}[[segment]]\nname = \"other\"\nprefix = \"10.0.0.0/24\"\n\
         [[node]]\nname = \"n\"\ncount = 3\nsegment = \"lan\"\n\
         [[node]]\nname = \"hand\"\nsegment = \"lan\"\naddress = \"10.0.0.2\"\n\
         [[node]]\nname = \"router\"\ninterfaces = [{{ segment = \"lan\" }}, {{ segment = \"other\" }}]\n"
    ));
    let addresses: Vec<Vec<Ipv4Addr>> = scenario
        .nodes
        .iter()
        .map(|node| node.interfaces.iter().map(|interface| interface.address).collect())
        .collect();
    let at = |last| Ipv4Addr::new(10, 0, 0, last);
    assert_eq!(addresses, [vec![at(1)], vec![at(3)], vec![at(4)], vec![at(2)], vec![at(5), at(1)]]);
}

#[test]
fn the_smallest_prefix_can_be_full_and_no_address_is_given_twice() {
    let file = |prefix, count| {
        with(&format!(
            "[[segment]]\nname = \"lan\"\nprefix = \"{prefix}\"\n\
             [[node]]\nname = \"n\"\ncount = {count}\nsegment = \"lan\"\n"
        ))
    };
    for (prefix, count) in [("10.0.0.0/30", 2), ("10.0.0.0/24", 254), ("10.77.0.0/16", 10_000)] {
        let scenario = file(prefix, count);
        let addresses: BTreeSet<_> = scenario.nodes.iter().map(|node| node.interfaces[0].address).collect();
        assert_eq!(addresses.len(), count);
        let prefix = scenario.segments[0].prefix;
        assert!(!addresses.contains(&prefix.network()) && !addresses.contains(&prefix.broadcast()));
    }
}

#[test]
fn a_link_changes_what_it_names_and_keeps_the_rest_of_its_segment() {
    let scenario = with(
        "[[segment]]\nname = \"lan\"\nprefix = \"10.0.0.0/24\"\n\
         link = { delay = \"2 ms\", loss = \"1 %\", up = { loss = \"2.5 %\" } }\n\
         [[node]]\nname = \"plain\"\nsegment = \"lan\"\n\
         [[node]]\nname = \"own\"\nsegment = \"lan\"\n\
         [node.link]\nloss = \"4 %\"\nreorder = \"0.0001 %\"\nreorder_by = \"5 ms\"\n\
         down = { delay = { mean = \"1 ms\", deviation = \"100 us\" }, duplicate = \"100 %\" }\n",
    );
    let (plain, own) = (&scenario.nodes[0].interfaces[0].link, &scenario.nodes[1].interfaces[0].link);
    let fixed = Delay::Fixed(Duration::from_millis(2));
    assert_eq!(*plain, scenario.segments[0].link);
    assert_eq!((plain.up.loss.ppm, plain.down.loss.ppm), (25_000, 10_000));
    assert_eq!((own.up.loss.ppm, own.down.loss.ppm), (40_000, 40_000));
    assert_eq!((own.up.reorder.ppm, own.down.duplicate.ppm, own.up.duplicate.ppm), (1, 1_000_000, 0));
    assert_eq!(own.down.reorder_by, Duration::from_millis(5));
    assert_eq!((&own.up.delay, &plain.down.delay), (&fixed, &fixed));
    let (mean, deviation) = (Duration::from_millis(1), Duration::from_micros(100));
    assert_eq!(own.down.delay, Delay::Normal { mean, deviation });
}

#[test]
fn a_link_may_start_from_a_profile_and_change_it() {
    let scenario = with(
        "[[segment]]\nname = \"lan\"\nprefix = \"10.0.0.0/24\"\nlink = \"lte\"\n\
         [[node]]\nname = \"plain\"\nsegment = \"lan\"\n\
         [[node]]\nname = \"own\"\nsegment = \"lan\"\n\
         link = { queue = \"4 KiB\", mtu = 1400, burst = { loss = \"50 %\", good = \"9 s\", bad = \"200 ms\" }, \
         up = { bandwidth = \"0.5 Mbit/s\" } }\n\
         [[node]]\nname = \"other\"\nsegment = \"lan\"\n\
         link = { profile = \"dsl\", loss = \"1 %\", corruption = \"0.1 %\" }\n",
    );
    let [plain, own, other] = [0, 1, 2].map(|node: usize| scenario.nodes[node].interfaces[0].link.clone());
    let profile = |name| PROFILES.iter().find(|profile| profile.name == name).map(Profile::link);
    assert_eq!(Some(&plain), profile("lte").as_ref());
    assert_eq!((plain.up.bandwidth, plain.down.bandwidth), (Some(20_000_000), Some(50_000_000)));
    // A tenth of a second's worth.
    assert_eq!((plain.up.queue_bytes(), plain.down.queue_bytes(), plain.mtu), (250_000, 625_000, 1500));

    assert_eq!((own.up.bandwidth, own.down.bandwidth), (Some(500_000), Some(50_000_000)));
    assert_eq!((own.up.queue_bytes(), own.down.queue_bytes(), own.mtu), (4096, 4096, 1400));
    let (good, bad) = (Duration::from_secs(9), Duration::from_millis(200));
    assert_eq!(own.down.burst, Some(Burst { loss: Chance { ppm: 500_000 }, good, bad }));
    assert_eq!(own.down.delay, plain.down.delay);

    let dsl = profile("dsl").unwrap();
    let changed = |direction: Direction| Direction {
        loss: Chance { ppm: 10_000 },
        corruption: Chance { ppm: 1_000 },
        ..direction
    };
    assert_eq!((other.up, other.down), (changed(dsl.up), changed(dsl.down)));
    assert_eq!((other.mtu, dsl.mtu), (1500, 1500));
}

#[test]
fn nodes_are_named_one_by_one_or_together_and_steps_are_sorted_by_time() {
    let scenario = with(&format!(
        "{LAN}[[node]]\nname = \"n\"\ncount = 3\nsegment = \"lan\"\n[node.zre]\n\
         [[node]]\nname = \"m\"\nsegment = \"lan\"\n[node.zre]\ngroups = [\"G\"]\n\
         [[step]]\nat = \"9 s\"\nnode = \"n\"\njoin = \"G\"\n\
         [[step]]\nat = \"3 s\"\nnode = [\"m\", \"n2\", \"n2\"]\nshout = \"G\"\nbytes = 16\n\
         [[step]]\nat = \"9 s\"\nnode = \"*\"\ncrash = \"stop\"\n\
         [[traffic]]\nfrom = \"*\"\nwhisper = \"n\"\nevery = \"1 ms\"\nbytes = 1048576\n"
    ));
    let steps: Vec<_> =
        scenario.steps.iter().map(|step| (step.at.as_secs(), step.nodes.clone(), &step.action)).collect();
    let nodes = |indices: &[u32]| indices.iter().copied().map(NodeIndex).collect::<Vec<_>>();
    assert_eq!(
        steps,
        [
            (3, nodes(&[1, 3]), &Action::Shout { group: "G".to_owned(), bytes: 16 }),
            (9, nodes(&[0, 1, 2]), &Action::Join("G".to_owned())),
            (9, nodes(&[0, 1, 2, 3]), &Action::Crash(Crash::Stop)),
        ]
    );
    assert_eq!(scenario.steps.iter().map(|step| step.line).collect::<Vec<_>>(), [21, 17, 26]);
    let traffic = &scenario.traffic[0];
    assert_eq!(
        (&traffic.from, &traffic.kind),
        (&nodes(&[0, 1, 2, 3]), &TrafficKind::Whisper(nodes(&[0, 1, 2])))
    );
    assert_eq!((traffic.start, traffic.stop, traffic.bytes), (Duration::ZERO, scenario.duration, 1 << 20));
}

#[test]
fn a_node_may_crash_pause_and_come_back_as_often_as_it_makes_sense() {
    let step = |at: u32, what: &str| format!("[[step]]\nat = \"{at} s\"\nnode = \"n\"\n{what}\n");
    let steps = [
        step(1, "pause = true"),
        step(2, "crash = \"process-exit\""),
        step(3, "restart = true"),
        step(4, "pause = true"),
        step(5, "resume = true"),
        step(6, "crash = \"stop\""),
        step(6, "restart = true"),
        step(7, "join = \"G\""),
    ];
    let scenario =
        with(&format!("{LAN}[[node]]\nname = \"n\"\nsegment = \"lan\"\n[node.zre]\n{}", steps.concat()));
    assert_eq!(scenario.steps.len(), steps.len());
}

#[test]
fn routes_follow_from_routers_gateways_and_what_nodes_say() {
    let scenario = Scenario::parse(
        "routes.toml",
        r#"
[scenario]
about = "three networks in a row"
duration = "1 s"
[[segment]]
name = "left"
prefix = "10.1.0.0/24"
prefix6 = "fd00:1::/64"
[[segment]]
name = "middle"
prefix = "10.2.0.0/24"
gateway = "10.2.0.2"
names = { far = "fd00:1::3" }
[[segment]]
name = "right"
prefix = "10.3.0.0/24"
[[node]]
name = "a"
count = 2
segment = "left"
[[node]]
name = "b"
segment = "middle"
routes = [{ to = "10.1.0.0/16", via = "10.2.0.1" }]
[[node]]
name = "c"
interfaces = [{ segment = "middle" }, { segment = "right" }]
gateway = "10.3.0.1"
[[router]]
name = "r1"
interfaces = [{ segment = "left" }, { segment = "middle" }]
gateway = "10.2.0.2"
[[router]]
name = "r2"
interfaces = [{ segment = "middle" }, { segment = "right" }]
routes = [{ to = "10.1.0.0/24", via = "10.2.0.1" }]
[[step]]
at = "500 ms"
node = "r1"
crash = "power-cut"
[[expect]]
always = "never-meet"
between = [["a", "r1"], "b", "c"]
"#,
    )
    .unwrap_or_else(|problems| panic!("{problems}"));
    let routes = |node: &Node| {
        let route = |route: &Route| format!("{} via {} on {}", route.to, route.via, route.interface);
        (node.name.clone(), node.routes.iter().map(route).collect::<Vec<_>>().join(", "))
    };
    let expected = [
        ("a1", "0.0.0.0/0 via 10.1.0.1 on 0, ::/0 via fd00:1::1 on 0"),
        ("a2", "0.0.0.0/0 via 10.1.0.1 on 0, ::/0 via fd00:1::1 on 0"),
        ("b", "10.1.0.0/16 via 10.2.0.1 on 0, 0.0.0.0/0 via 10.2.0.2 on 0"),
        ("c", "0.0.0.0/0 via 10.3.0.1 on 1"),
        ("r1", "0.0.0.0/0 via 10.2.0.2 on 1"),
        ("r2", "10.1.0.0/24 via 10.2.0.1 on 0"),
    ];
    let expected = expected.map(|(name, routes)| (name.to_owned(), routes.to_owned()));
    assert_eq!(scenario.nodes.iter().map(routes).collect::<Vec<_>>(), expected);
    assert_eq!(scenario.nodes[1].interfaces[0].address6, Some("fd00:1::3".parse().unwrap()));
    let groups = [vec![0, 1, 4], vec![2], vec![3]].map(|group| group.into_iter().map(NodeIndex).collect());
    assert_eq!(scenario.expects[0].that, Property::NeverMeet(groups.to_vec()));
}

#[test]
fn a_step_may_be_about_one_of_several_interfaces() {
    let scenario = Scenario::load(scenarios().join("lost-cable.toml")).unwrap();
    let air =
        SegmentIndex(scenario.segments.iter().position(|segment| segment.name == "air").unwrap() as u32);
    let laptop = NodeIndex(1);
    let Action::Link(links) = &scenario.steps[2].action else { panic!("{:?}", scenario.steps[2]) };
    let interfaces = &scenario.nodes[laptop.0 as usize].interfaces;
    for (link, interface) in links[&laptop].iter().zip(interfaces) {
        let loss = link.as_ref().map(|link| (link.up.loss, link.down.loss));
        let five_percent = Chance { ppm: 50_000 };
        assert_eq!(loss, (interface.segment == air).then_some((five_percent, five_percent)));
    }
    let wired = interfaces.iter().map(|interface| interface.segment).find(|segment| *segment != air);
    assert_eq!(scenario.steps[0].action, Action::Unplug(wired));
    assert_eq!(scenario.steps[1].action, Action::Plug(wired));
}
