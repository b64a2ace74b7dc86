//! From a scenario file to a [`Scenario`]: the order in which its tables are read, and what belongs to none of them.
//!
//! `scenarios/README.md` lists every key for people. Checks that need the whole file come last, and only when everything
//! they need was read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use hailer::daemon::diagnostic::{Span, position};
use hailer::daemon::reader::{Refused, Table, Value, duration, integer, one_of, text_up_to, written};
use hailer::daemon::{Diagnostics, LoadError, reader};

use super::nodes::Nodes;
use super::{
    Expect, NodeIndex, Property, Scenario, churn, consul, docker, limits, machine, nodes, original_repeater,
    script, segments, timeline,
};
use crate::check::property_name;

/// Seed of a file that names none.
const SEED_DEFAULT: u64 = 1;
const TICK_DEFAULT: Duration = Duration::from_millis(10);
/// The outer engine's clock is in whole milliseconds, and a step of more than a second delays what a run prints.
const TICK_MAX: Duration = Duration::from_secs(1);
/// The longest text about a scenario, so that it fits at the top of a report.
const ABOUT_BYTES_MAX: usize = 1000;

/// Names of properties, and whether each is about every moment. Limits are in keys of their own.
const PROPERTIES: [(&str, Property, bool); 17] = [
    ("everyone-knows-everyone", Property::EveryoneKnowsEveryone, false),
    ("the-dead-are-gone", Property::TheDeadAreGone, false),
    ("membership-is-symmetric", Property::MembershipIsSymmetric, false),
    ("leaders-are-agreed", Property::LeadersAreAgreed, false),
    ("repeaters-know-each-other", Property::RepeatersKnowEachOther, false),
    ("sessions-complete", Property::SessionsComplete, false),
    ("no-live-peer-exits", Property::NoLivePeerExits, true),
    ("nobody-unknown-appears", Property::NobodyUnknownAppears, true),
    ("never-meet", Property::NeverMeet(Vec::new()), true),
    ("shouts-arrive-once-and-in-order", Property::ShoutsArriveOnceAndInOrder, true),
    ("whispers-arrive-once-and-in-order", Property::WhispersArriveOnceAndInOrder, true),
    ("group-membership-converges", Property::GroupMembershipConverges, false),
    ("no-false-removal", Property::NoFalseRemoval, true),
    ("no-stranger-is-added", Property::NoStrangerIsAdded, true),
    ("the-dead-leave-the-group", Property::TheDeadLeaveTheGroup(Duration::ZERO), true),
    ("traffic-stays-below", Property::TrafficStaysBelow(limits::NO_TRAFFIC_LIMIT), true),
    ("memory-stays-below", Property::MemoryStaysBelow(limits::NO_MEMORY_LIMIT), true),
];

impl Scenario {
    /// Reads a scenario file's text. `source_name` is what messages call the file; its last part without the ending is
    /// the name of the scenario.
    ///
    /// # Errors
    /// All its mistakes, except that those in the grammar hide the others.
    pub fn parse(source_name: &str, text: &str) -> Result<Self, Diagnostics> {
        let stem = Path::new(source_name).file_stem().unwrap_or_default();
        let name = stem.to_string_lossy().into_owned();
        reader::read(source_name, text, |file| scenario(file, name, |span| position(text, span.start).0))
    }

    /// The keys that a scenario file may have in each of the tables that this one has, by the title of the table. The
    /// documentation is held to it.
    pub fn keys(text: &str) -> BTreeMap<String, BTreeSet<&'static str>> {
        reader::keys(text, |file| scenario(file, String::new(), |span| position(text, span.start).0))
    }

    /// Reads the scenario file at `path`.
    ///
    /// # Errors
    /// When it can't be read, or has mistakes.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, LoadError> {
        LoadError::load(path.as_ref(), Self::parse)
    }
}

/// The table `[scenario]`.
struct Header {
    about: String,
    seed: u64,
    duration: Duration,
    tick: Duration,
}

fn scenario(
    file: &mut Table<'_>,
    name: String,
    line_of: impl Fn(Span) -> usize + Copy,
) -> Result<Scenario, Refused> {
    let header = file.required("scenario", "[scenario]", |value| value.table(header));
    let end = header.as_ref().ok().map(|header| header.value.duration);
    let mut segments = segments::segments(file);
    let docker = docker::docker(file, &mut segments, end);
    let nodes = nodes::nodes(file, &mut segments, docker, end);
    let traffic = script::traffic(file, &nodes, end);
    let steps = script::steps(file, &nodes, end, line_of);
    let churns = churn::churn(file, &nodes, end, line_of);
    let consuls = consul::consul(file, &nodes);
    let originals = original_repeater::originals(file, &nodes);
    let expects = expects(file, &nodes, end, line_of);

    let (Header { about, seed, duration, tick }, mut steps, traffic) = (header?.value, steps?, traffic?);
    let churns = churns?;
    nodes.complete()?;
    steps.sort_by_key(|written| written.step.at);
    let groups = script::refuse_empty_groups(file, &nodes, &steps, &traffic);
    let churned = churn::refuse_other_steps(file, &nodes, &churns, &steps);
    let moved = machine::settle_addresses(file, &segments, &nodes.list, &mut steps);
    timeline::refuse_contradictions(file, &nodes.list, &steps).and(groups).and(churned).and(moved)?;
    Ok(Scenario {
        name,
        about,
        seed,
        duration,
        tick,
        segments: segments.list,
        nodes: nodes.list,
        steps: steps.into_iter().map(|written| written.step).collect(),
        churn: churns.into_iter().map(|written| written.churn).collect(),
        traffic: traffic.into_iter().map(|written| written.traffic).collect(),
        expects: expects?,
        consuls: consuls?,
        originals: originals?,
    })
}

fn header(table: &mut Table<'_>) -> Result<Header, Refused> {
    let about = table.required("about", "about = \"what it shows\"", text_up_to(ABOUT_BYTES_MAX));
    let seed = table.optional("seed", integer(0..=u64::MAX, SEED_DEFAULT));
    let end = table.required("duration", "duration = \"90 s\"", |value| {
        let end = duration(value.clone())?;
        if end.is_zero() {
            return Err(value.refuse("a run of no length shows nothing", "write for example \"90 s\""));
        }
        Ok(end)
    });
    let tick = table.optional("tick", tick);
    Ok(Header {
        about: about?.value,
        seed: seed?.map_or(SEED_DEFAULT, |seed| seed.value),
        duration: end?.value,
        tick: tick?.map_or(TICK_DEFAULT, |tick| tick.value),
    })
}

fn tick(value: Value<'_>) -> Result<Duration, Refused> {
    let tick = duration(value.clone())?;
    if tick.is_zero() || tick > TICK_MAX || tick.subsec_nanos() % 1_000_000 != 0 {
        let message = format!("`tick` can't be {}", written(tick));
        let help = format!("write whole milliseconds from \"1 ms\" to \"{}\"", written(TICK_MAX));
        return Err(value.refuse(message, help));
    }
    Ok(tick)
}

fn expects(
    file: &mut Table<'_>,
    nodes: &Nodes,
    end: Option<Duration>,
    line_of: impl Fn(Span) -> usize,
) -> Result<Vec<Expect>, Refused> {
    let read = |table: &mut Table<'_>| expect(table, nodes, end, line_of(table.span()));
    let tables = file.optional("expect", |value| value.tables(read))?;
    let Some(tables) = tables.filter(|tables| !tables.value.is_empty()) else {
        let help = "add an `[[expect]]`, for example with `always = \"no-live-peer-exits\"`";
        return Err(file.refuse_missing(&["expect"], "this file expects nothing, so no run can fail", help));
    };
    tables.value.into_iter().collect()
}

/// Either `always`, or `by` with `that`.
fn expect(
    table: &mut Table<'_>,
    nodes: &Nodes,
    end: Option<Duration>,
    line: usize,
) -> Result<Expect, Refused> {
    let between = table.optional("between", |value| between(value, nodes));
    let among = table.optional("among", |value| nodes.select(value));
    let mut expect = expect_alone(table, nodes, end, line)?;
    let (between, among) = (between?, among?);
    let name = property_name(&expect.that);
    match (&mut expect.that, between) {
        (Property::NeverMeet(groups), Some(between)) => *groups = between.value,
        (Property::NeverMeet(_), None) => {
            let help = "add the groups that don't meet, for example `between = [\"left\", \"right\"]`";
            return Err(table.refuse_missing(&["between"], "nobody is said not to meet", help));
        }
        (_, Some(between)) => {
            let message = format!("`between` does not go with `{name}`");
            return Err(table.refuse(
                between.span,
                message,
                "leave it out, or write `always = \"never-meet\"`",
            ));
        }
        _ => {}
    }
    match (&expect.that, among) {
        (Property::EveryoneKnowsEveryone, among) => expect.among = among.map(|among| among.value),
        (_, Some(among)) => {
            let message = format!("`among` does not go with `{name}`");
            return Err(table.refuse(
                among.span,
                message,
                "leave it out: it is for `everyone-knows-everyone`",
            ));
        }
        _ => {}
    }
    Ok(expect)
}

/// Groups of nodes, none of them in two.
fn between(value: Value<'_>, nodes: &Nodes) -> Result<Vec<Vec<NodeIndex>>, Refused> {
    let groups =
        value.clone().list("a list of groups", "[\"left\", \"right\"]", |item| nodes.select(item))?;
    if groups.len() < 2 {
        return Err(value.refuse("one group has nobody not to meet", "write two groups or more"));
    }
    for (place, group) in groups.iter().enumerate() {
        let earlier = || groups[..place].iter().flat_map(|group| &group.value);
        if let Some(both) = group.value.iter().find(|node| earlier().any(|other| other == *node)) {
            let message = format!("`{}` is in two of these groups", nodes.list[both.0 as usize].name);
            return Err(value.refuse_at(
                group.span.clone(),
                message,
                "let each node be in one group at most",
            ));
        }
    }
    Ok(groups.into_iter().map(|group| group.value).collect())
}

fn expect_alone(
    table: &mut Table<'_>,
    nodes: &Nodes,
    end: Option<Duration>,
    line: usize,
) -> Result<Expect, Refused> {
    let keys = table.present(&["always", "by", "that"]);
    let limits = limits::limits(table, nodes);
    let always = keys.iter().find(|key| key.value == "always");
    let other = keys.iter().find(|key| key.value != "always");
    match (always, other) {
        (None, None) => {
            let help = "add `always = \"PROPERTY\"`, or `by = \"15 s\"` and `that = \"PROPERTY\"`";
            Err(table.refuse_missing(&["always", "by", "that"], "this [[expect]] expects nothing", help))
        }
        (Some(always), Some(other)) => {
            let message = format!("`always` and `{}` do not go together", other.value);
            let help = "a property is true always, or true `by` a moment";
            let related = (always.span.clone(), "`always` is here");
            Err(table.refuse_with(other.span.clone(), message, help, related))
        }
        (Some(_), None) => {
            let that = table.required("always", "", property_for(true))?;
            let that = limits?.of(table, that.value)?;
            Ok(Expect { that, among: None, by: None, line })
        }
        (None, Some(_)) => {
            let by = table.required("by", "by = \"15 s\"", duration);
            let that = table.required("that", "that = \"everyone-knows-everyone\"", property_for(false));
            let (by, that) = (by?, that?);
            if let Some(end) = end.filter(|end| by.value > *end) {
                return Err(script::refuse_late(table, by.span, end));
            }
            let that = limits?.of(table, that.value)?;
            Ok(Expect { that, among: None, by: Some(by.value), line })
        }
    }
}

/// The name of a property that goes with `always`, or of one that goes with `by`.
fn property_for(always: bool) -> impl Fn(Value<'_>) -> Result<Property, Refused> {
    move |value| {
        let names = PROPERTIES.map(|(name, property, is_always)| (name, (name, property, is_always)));
        let (name, property, is_always) = one_of(&names)(value.clone())?;
        match (always, is_always) {
            (true, false) => {
                let message = format!("`{name}` takes time to come true, so it can't be `always`");
                Err(value.refuse(message, format!("write `by = \"15 s\"` and `that = \"{name}\"`")))
            }
            (false, true) => {
                let message = format!("`{name}` is about every moment, so there is no `by`");
                Err(value.refuse(message, format!("write `always = \"{name}\"` alone")))
            }
            _ => Ok(property),
        }
    }
}
