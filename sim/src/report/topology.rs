//! The network of a scenario as a drawing: a bar for each segment, and under it a box for each machine that is plugged in.
//!
//! A machine on several segments has its box under the last of them, and a line along the left edge to each of the others;
//! a dot is where it is plugged in, a line that passes a bar without one is not. Alike machines of one `[[node]]` share a
//! box when there are many. What is drawn is the beginning of the run; steps move on from there.

use std::net::Ipv4Addr;

use plotters::style::Color;
use plotters::style::text_anchor::{HPos, VPos};

use super::plot::{ACCENT, Canvas, GRID, INK, LINE, MUTED, Plot, QUIET, SURFACE, draw, text_width};
use super::text::{self, printable};
use crate::scenario::{Delay, Direction, Kind, Link, Node, Scenario};

const WIDTH: i32 = 2080;
/// Alike machines are drawn one by one up to this many.
const ALONE_MAX: usize = 6;
/// Segments beyond this many are counted, not drawn.
const BARS_MAX: usize = 24;
/// Boxes under one segment beyond this many are counted, not drawn.
const BOXES_MAX: usize = 30;

/// The narrowest box, the space inside it and the space around it.
const BOX_MIN: i32 = 200;
const PAD: i32 = 18;
const GAP: i32 = 30;
/// A bar's height, and the space between it and what hangs under it.
const BAR: i32 = 60;
const DROP: i32 = 44;
/// Between two lines along the left edge.
const LANE: i32 = 22;

/// A machine, or several that are alike.
struct Machine {
    title: String,
    /// What else its box says.
    lines: Vec<String>,
    count: usize,
    /// The segments that it is plugged into, by their index; at least one.
    ports: Vec<usize>,
}

/// Draws the network of a scenario.
pub(super) fn topology(scenario: &Scenario) -> Plot {
    let machines = machines(scenario);
    let bars = scenario.segments.len().min(BARS_MAX);
    let lanes = lanes(&machines, bars);
    let left = lanes.iter().map(|lane| lane.place + 1).max().map_or(0, |lanes| lanes as i32 * LANE + GAP);
    let rows: Vec<Rows<'_>> = (0..bars).map(|bar| Rows::of(&machines, bar, left)).collect();
    let mut tops = Vec::new();
    let mut height = 4;
    for rows in &rows {
        tops.push(height);
        height += BAR + rows.height() + GAP;
    }
    let more = scenario.segments.len() - bars;
    if more > 0 {
        height += LINE;
    }
    let svg = draw(WIDTH, height, |canvas| {
        for lane in &lanes {
            lane.draw(canvas, &tops, &rows[lane.under]);
        }
        for ((bar, segment), rows) in scenario.segments.iter().enumerate().take(bars).zip(&rows) {
            let top = tops[bar];
            canvas.rectangle((0, top), (WIDTH, top + BAR), GRID.filled());
            let title = format!("{}  {}", segment.name, segment.prefix);
            let middle = top + BAR / 2;
            canvas.text(&title, (left + PAD, middle), INK, HPos::Left, VPos::Center);
            let room = WIDTH - left - PAD * 4 - text_width(&title);
            let link = cut(&link_lines(&segment.link).join("; "), room);
            canvas.text(&link, (WIDTH - PAD, middle), MUTED, HPos::Right, VPos::Center);
            rows.draw(canvas, top + BAR);
        }
        for lane in &lanes {
            for bar in &lane.dots {
                canvas.dot((lane.x(), tops[*bar] + BAR / 2), ACCENT);
            }
        }
        if more > 0 {
            let text = format!("and {} more segments", text::count(more));
            canvas.text(&text, (left + PAD, height - LINE), MUTED, HPos::Left, VPos::Top);
        }
    });
    Plot::new("topology", caption(scenario), (WIDTH, height), svg)
}

fn caption(scenario: &Scenario) -> String {
    let counted = |count: usize, noun: &str| {
        format!("{} {noun}{}", text::count(count), if count == 1 { "" } else { "s" })
    };
    let (machines, segments) = (scenario.nodes.len(), scenario.segments.len());
    format!("The network at the start: {} on {}", counted(machines, "machine"), counted(segments, "segment"))
}

/// Every machine of the scenario. Whatever is plugged into segments is one more kind of machine here.
fn machines(scenario: &Scenario) -> Vec<Machine> {
    let is_alike = |one: &Node, other: &Node| {
        let segments = |node: &Node| node.interfaces.iter().map(|own| own.segment).collect::<Vec<_>>();
        one.group == other.group && one.kind == other.kind && segments(one) == segments(other)
    };
    let mut machines = Vec::new();
    for alike in scenario.nodes.chunk_by(is_alike) {
        let size = if alike.len() > ALONE_MAX { alike.len() } else { 1 };
        machines.extend(alike.chunks(size).map(|nodes| machine(scenario, nodes)));
    }
    machines
}

/// A box for nodes that are alike, at least one.
fn machine(scenario: &Scenario, nodes: &[Node]) -> Machine {
    let (first, last) = (&nodes[0], &nodes[nodes.len() - 1]);
    let title = match nodes.len() {
        1 => first.name.clone(),
        _ => format!("{} .. {}", first.name, last.name),
    };
    let mut lines = Vec::new();
    if nodes.len() > 1 {
        lines.push(format!("{} machines", text::count(nodes.len())));
    }
    for (own, others) in first.interfaces.iter().zip(&last.interfaces) {
        lines.push(addresses(own.address, others.address));
    }
    lines.extend(match first.kind {
        Kind::Router => {
            let nat = first.nat.as_ref().map(|nat| format!("router, NAT {}", nat.policy.preset.name()));
            Some(nat.unwrap_or_else(|| "router".to_owned()))
        }
        Kind::DockerHost => Some("Docker host".to_owned()),
        Kind::Computer | Kind::Container(_) | Kind::HostNetwork(_) => {
            first.config.zre.is_none().then(|| "runs nothing".to_owned())
        }
    });
    let host = first.kind.docker_host().map(|host| &scenario.nodes[host.0 as usize]);
    lines.extend(host.map(|host| format!("on {}", host.name)));
    for own in &first.interfaces {
        if own.link != scenario.segments[own.segment.0 as usize].link {
            lines.extend(link_lines(&own.link).iter().map(|line| cut(line, 3 * BOX_MIN)));
        }
    }
    // A container without a network of its own is where its host is.
    let own = if first.interfaces.is_empty() { host.unwrap_or(first) } else { first };
    let mut ports: Vec<usize> = own.interfaces.iter().map(|own| own.segment.0 as usize).collect();
    if let Kind::HostNetwork(_) = first.kind {
        ports.truncate(1);
    }
    ports.sort_unstable();
    ports.dedup();
    Machine { title, lines, count: nodes.len(), ports }
}

fn addresses(first: Ipv4Addr, last: Ipv4Addr) -> String {
    if first == last { first.to_string() } else { format!("{first} .. {last}") }
}

/// What a link does, in a line or in one for each direction.
fn link_lines(link: &Link) -> Vec<String> {
    let (up, down) = (direction_words(&link.up), direction_words(&link.down));
    if up == down { vec![up] } else { vec![format!("up {up}"), format!("down {down}")] }
}

fn direction_words(direction: &Direction) -> String {
    let nanos = |span: std::time::Duration| text::duration(span.as_nanos() as u64);
    let mut words = Vec::new();
    match &direction.delay {
        Delay::Fixed(delay) if delay.is_zero() => {}
        Delay::Fixed(delay) => words.push(nanos(*delay)),
        Delay::Uniform(from, to) => words.push(format!("{} to {}", nanos(*from), nanos(*to))),
        Delay::Normal { mean, deviation } => words.push(format!("{} ± {}", nanos(*mean), nanos(*deviation))),
        Delay::Empirical(quantiles) => {
            let end = |at: Option<&std::time::Duration>| at.map(|span| nanos(*span)).unwrap_or_default();
            words.push(format!("{} to {}", end(quantiles.first()), end(quantiles.last())));
        }
    }
    let percent = |ppm: u32| format!("{} %", f64::from(ppm) / 10_000.0);
    if direction.loss.ppm > 0 {
        words.push(format!("{} lost", percent(direction.loss.ppm)));
    }
    if let Some(burst) = direction.burst {
        words.push(format!("{} lost in bad times", percent(burst.loss.ppm)));
    }
    if let Some(bits) = direction.bandwidth {
        words.push(format!("{}bit/s", text::bytes(bits).trim_end_matches('B')));
    }
    if words.is_empty() { "no delay".to_owned() } else { words.join(", ") }
}

/// As much of a text as fits.
fn cut(text: &str, room: i32) -> String {
    let text = printable(text);
    if text_width(&text) <= room {
        return text;
    }
    let mut kept = text;
    while !kept.is_empty() && text_width(&kept) + text_width("…") > room {
        kept.pop();
    }
    format!("{}…", kept.trim_end())
}

impl Machine {
    fn width(&self) -> i32 {
        let longest = self.lines.iter().chain([&self.title]).map(|line| text_width(line)).max();
        (longest.unwrap_or(0) + 2 * PAD).clamp(BOX_MIN, WIDTH / 2)
    }

    fn height(&self) -> i32 {
        LINE * (1 + self.lines.len() as i32) + PAD
    }

    /// The segment whose bar it hangs under, of those that are drawn.
    fn under(&self, bars: usize) -> Option<usize> {
        self.ports.iter().copied().filter(|bar| *bar < bars).max()
    }
}

/// The boxes under one bar.
struct Rows<'m> {
    /// Each with its left end and the top of its row below the bar.
    boxes: Vec<(usize, &'m Machine, i32, i32)>,
    more: usize,
    height: i32,
    left: i32,
}

impl<'m> Rows<'m> {
    fn of(machines: &'m [Machine], bar: usize, left: i32) -> Self {
        let under = |machine: &Machine| machine.under(BARS_MAX) == Some(bar);
        // Those with lines to the left edge come first, where nothing is in the way.
        let mut own: Vec<_> = machines.iter().enumerate().filter(|(_, machine)| under(machine)).collect();
        own.sort_by_key(|(_, machine)| machine.ports.len() == 1);
        let more = own[own.len().min(BOXES_MAX)..].iter().map(|(_, machine)| machine.count).sum();
        own.truncate(BOXES_MAX);
        let (mut boxes, mut x, mut top, mut tallest) = (Vec::new(), left, DROP, 0);
        for (index, machine) in own {
            if x > left && x + machine.width() > WIDTH - 12 {
                (x, top, tallest) = (left, top + tallest + GAP, 0);
            }
            boxes.push((index, machine, x, top));
            x += machine.width() + GAP;
            tallest = tallest.max(machine.height());
        }
        let note = if more > 0 { LINE + GAP } else { 0 };
        Self { boxes, more, height: top + tallest + note, left }
    }

    fn height(&self) -> i32 {
        self.height
    }

    fn draw(&self, canvas: &mut Canvas<'_>, below: i32) {
        for (_, machine, x, top) in &self.boxes {
            let (x, y) = (*x, below + top);
            let (right, bottom) = (x + machine.width(), y + machine.height());
            // Later rows hang on the row before them, so that no line crosses a box.
            let from = if *top == DROP { below } else { y - GAP + 8 };
            canvas.path(vec![(x + PAD, from), (x + PAD, y)], QUIET.stroke_width(3));
            let is_joint = machine.ports.len() > 1;
            let copies = if machine.count > 1 { 2 } else { 0 };
            for copy in (0..=copies).rev() {
                let (dx, dy) = (copy * 7, copy * 7);
                let corners = ((x + dx, y + dy), (right + dx, bottom + dy));
                canvas.rectangle(corners.0, corners.1, SURFACE.filled());
                let (color, width) = if is_joint { (ACCENT, 4) } else { (QUIET, 3) };
                canvas.rectangle(corners.0, corners.1, color.stroke_width(width));
            }
            let title = cut(&machine.title, machine.width() - 2 * PAD);
            canvas.text(&title, (x + PAD, y + PAD / 2 + 4), INK, HPos::Left, VPos::Top);
            for (place, line) in (1..).zip(&machine.lines) {
                let line = cut(line, machine.width() - 2 * PAD);
                canvas.text(&line, (x + PAD, y + PAD / 2 + 4 + LINE * place), MUTED, HPos::Left, VPos::Top);
            }
        }
        if self.more > 0 {
            let text = format!("and {} more machines", text::count(self.more));
            let at = (self.left, below + self.height - LINE);
            canvas.text(&text, at, MUTED, HPos::Left, VPos::Top);
        }
    }
}

/// The line of a machine on several segments along the left edge.
struct Lane {
    machine: usize,
    under: usize,
    /// Bars that it is plugged into, besides the one that it hangs under.
    dots: Vec<usize>,
    /// Counted from the right.
    place: usize,
    lanes: usize,
    /// How many boxes with lanes are before it under the same bar: each goes over those before it.
    level: usize,
}

/// A lane for each machine on several segments. Two share a place when neither passes the other.
fn lanes(machines: &[Machine], bars: usize) -> Vec<Lane> {
    let mut lanes: Vec<Lane> = Vec::new();
    for (index, machine) in machines.iter().enumerate() {
        let Some(under) = machine.under(bars) else { continue };
        let dots: Vec<usize> = machine.ports.iter().copied().filter(|bar| *bar < under).collect();
        let Some(first) = dots.first().copied() else { continue };
        let is_free = |place: usize| {
            let meets = |other: &Lane| other.place == place && first <= other.under && other.dots[0] <= under;
            !lanes.iter().any(meets)
        };
        let place = (0..).find(|place| is_free(*place)).expect("one beyond all others is free");
        let level = lanes.iter().filter(|other| other.under == under).count();
        lanes.push(Lane { machine: index, under, dots, place, lanes: 0, level });
    }
    let count = lanes.iter().map(|lane| lane.place + 1).max().unwrap_or(0);
    lanes.iter_mut().for_each(|lane| lane.lanes = count);
    lanes
}

impl Lane {
    fn x(&self) -> i32 {
        (self.lanes - self.place) as i32 * LANE - LANE / 2
    }

    /// From the highest bar down to the space over the box, and into it from above, so that it crosses no other box.
    fn draw(&self, canvas: &mut Canvas<'_>, tops: &[i32], rows: &Rows<'_>) {
        let Some((_, _, x, top)) = rows.boxes.iter().find(|(index, ..)| *index == self.machine) else {
            return;
        };
        let (top, into) = (tops[self.under] + BAR + top, x + 3 * PAD);
        let y = top - 8 - (self.level % 4) as i32 * 8;
        let from = tops[self.dots[0]] + BAR / 2;
        canvas.path(vec![(self.x(), from), (self.x(), y), (into, y), (into, top)], ACCENT.stroke_width(3));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample;
    use crate::scenario::{Attachment, Segment, SegmentIndex};

    /// A scenario of so many segments, with these machines: how many alike, and on which segments.
    fn scenario(segments: u32, groups: &[(usize, &[u32])]) -> Scenario {
        let mut scenario = sample::scenario(0, std::time::Duration::from_secs(1));
        let template = sample::scenario(1, std::time::Duration::from_secs(1));
        scenario.segments = (0..segments)
            .map(|index| Segment { name: format!("s{index}"), ..template.segments[0].clone() })
            .collect();
        for (group, (count, on)) in groups.iter().enumerate() {
            for number in 0..*count {
                let mut node = template.nodes[0].clone();
                (node.name, node.group) = (format!("g{group}-{number}"), format!("g{group}"));
                let attachment = |segment: &u32| Attachment {
                    segment: SegmentIndex(*segment),
                    ..template.nodes[0].interfaces[0].clone()
                };
                node.interfaces = on.iter().map(attachment).collect();
                scenario.nodes.push(node);
            }
        }
        scenario
    }

    #[test]
    fn few_machines_are_drawn_one_by_one_and_many_as_one_box() {
        let titles = |scenario: &Scenario| -> Vec<String> {
            machines(scenario).into_iter().map(|machine| machine.title).collect()
        };
        assert_eq!(titles(&scenario(1, &[(2, &[0]), (1, &[0])])), ["g0-0", "g0-1", "g1-0"]);
        assert_eq!(titles(&scenario(1, &[(7, &[0]), (1, &[0])])), ["g0-0 .. g0-6", "g1-0"]);
    }

    #[test]
    fn lines_share_a_place_only_where_they_do_not_meet() {
        let places = |groups: &[(usize, &[u32])]| -> Vec<usize> {
            let scenario = scenario(5, groups);
            lanes(&machines(&scenario), 5).iter().map(|lane| lane.place).collect()
        };
        assert_eq!(places(&[(1, &[0, 1]), (1, &[2, 3]), (1, &[4])]), [0, 0]);
        assert_eq!(places(&[(1, &[0, 1]), (1, &[1, 2])]), [0, 1]);
        assert_eq!(places(&[(1, &[0, 4]), (1, &[1, 2]), (1, &[3, 4])]), [0, 1, 1]);
    }

    #[test]
    fn no_two_boxes_lie_on_each_other_and_all_are_inside() {
        let scenario =
            scenario(3, &[(6, &[0]), (5, &[1]), (1, &[0, 1, 2]), (40, &[2]), (6, &[2]), (2, &[0, 2])]);
        let machines = machines(&scenario);
        for bar in 0..3 {
            let rows = Rows::of(&machines, bar, 100);
            let area = |(_, machine, x, top): &(usize, &Machine, i32, i32)| {
                (*x, *top, x + machine.width(), top + machine.height())
            };
            let areas: Vec<_> = rows.boxes.iter().map(area).collect();
            for (index, one) in areas.iter().enumerate() {
                assert!(one.0 >= 100 && one.2 <= WIDTH && one.3 <= rows.height(), "{one:?}");
                for other in &areas[index + 1..] {
                    let apart = one.2 <= other.0 || other.2 <= one.0 || one.3 <= other.1 || other.3 <= one.1;
                    assert!(apart, "{one:?} {other:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_too_much_to_draw_is_counted() {
        let many = scenario(40, &[(300, &[0]), (1, &[39])]);
        let svg = topology(&many).file();
        assert!(svg.contains("and 16 more segments"));
        let groups: Vec<(usize, &[u32])> = (0..50).map(|_| (2, &[0_u32] as &[u32])).collect();
        let svg = topology(&scenario(1, &groups)).file();
        assert!(svg.contains("and 70 more machines"));
    }
}
