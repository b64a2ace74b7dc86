//! The report: all answers, those of the engine beside those of the simulator where they differ.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use hailer_sim::scenario::{Kind, NodeIndex, Scenario};

use crate::plan::{self, Matrix};

/// Writes the page into a folder, and says on standard error what differs. Returns how much does.
pub(crate) fn write(
    folder: &Path,
    scenario: &Scenario,
    version: &str,
    command: &str,
    real: &Matrix,
    simulated: &Matrix,
) -> io::Result<usize> {
    let keys: BTreeSet<_> = real.keys().chain(simulated.keys()).collect();
    let differing: Vec<_> = keys.iter().filter(|key| real.get(key) != simulated.get(key)).collect();
    for (asker, topic) in &differing {
        let key = &(*asker, topic.clone());
        let [real, simulated] = [real, simulated].map(|matrix| matrix.get(key).map_or("?", String::as_str));
        let name = &plan::node(scenario, *asker).name;
        eprintln!("{name}, {topic}: Docker {real:?}, simulated {simulated:?}");
    }
    let verdict = match differing.len() {
        0 => format!("**Yes: all {} answers are equal.**", keys.len()),
        some => format!("**Not quite: of {} answers {some} differ.**", keys.len()),
    };
    let mut page = format!(
        "# Does the simulated Docker let through what the real one does?\n\n\
         {verdict} Engine: Docker {version}.\n\n\
         One [scenario](../../sim/examples/docker_fidelity/topology.toml) is built of network namespaces with real engines and in\n\
         the simulator, and in both every machine asks the same: by TCP and UDP every server at every address, by\n\
         broadcast and multicast whoever hears it, by name the engine's DNS. `alpha` has the userland proxy, which is\n\
         the engine's default, `beta` has not.\n\n\
         An answer is the address that the target saw the asker at, with its name where another one answered; `by` is where\n\
         the answer came from, if not from where it was asked. Of broadcasts it is who heard them, and from whom. `-` is silence, `closed` a connection that was accepted and closed at once. Where the two differ a\n\
         cell has both, the engine's first.\n"
    );
    let hosts = plan::all(scenario).filter(|(_, node)| node.kind == Kind::DockerHost).map(|(host, _)| host);
    for host in hosts {
        write_host(&mut page, scenario, host, real, simulated);
    }
    // Infallible: a String takes everything.
    let _ = write!(page, "\nMade as root with `{command}`.\n");
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("README.md"), page)?;
    Ok(differing.len())
}

/// The questions to a Docker host and what runs on it, one a line, and the askers side by side.
fn write_host(page: &mut String, scenario: &Scenario, host: NodeIndex, real: &Matrix, simulated: &Matrix) {
    let is_here = |node: NodeIndex| plan::docker_host(scenario, node) == Some(host);
    let name = |node: NodeIndex| plan::node(scenario, node).name.as_str();
    let askers = plan::askers(scenario);
    let here: Vec<NodeIndex> =
        plan::all(scenario).map(|(node, _)| node).filter(|node| is_here(*node)).collect();
    let names: BTreeSet<&str> = here.iter().map(|node| name(*node)).collect();
    let is_about_it = |topic: &str, asker: NodeIndex| {
        let whom = topic.split([' ', ':']).next().unwrap_or_default();
        names.contains(whom) || (is_here(asker) && !topic.contains(" at "))
    };
    let mut topics: Vec<&str> = Vec::new();
    for asker in &askers {
        let named = asker.names.iter().map(|name| format!("name {name}")).collect::<Vec<_>>();
        let asked = asker.questions.iter().map(|(topic, _)| topic.clone()).chain(named);
        for topic in asked.filter(|topic| is_about_it(topic, asker.node)) {
            let known = real.keys().chain(simulated.keys()).find(|(_, known)| *known == topic);
            if let Some((_, topic)) = known
                && !topics.contains(&topic.as_str())
            {
                topics.push(topic);
            }
        }
    }
    topics.sort_by_key(|topic| {
        (!topic.contains(" at "), topic.starts_with("name"), topic.contains("published"))
    });
    let cell = |asker: NodeIndex, topic: &str| {
        let key = (asker, topic.to_owned());
        let whom = format!("{} ", topic.split([' ', ':']).next().unwrap_or_default());
        let is_about_one = topic.contains(" at ");
        // Who answers is in the line's heading.
        let short = |answer: &String| match answer.strip_prefix(&whom).filter(|_| is_about_one) {
            Some(address) => address.to_owned(),
            None => answer.clone(),
        };
        match (real.get(&key), simulated.get(&key)) {
            (None, None) => String::new(),
            (Some(real), Some(simulated)) if real == simulated => short(real),
            (real, simulated) => {
                let shown = |answer: Option<&String>| answer.map_or("?", String::as_str).to_owned();
                format!("**{} / {}**", shown(real), shown(simulated))
            }
        }
    };
    let has_asked = |asker: &NodeIndex| topics.iter().any(|topic| !cell(*asker, topic).is_empty());
    let columns: Vec<NodeIndex> = askers.iter().map(|asker| asker.node).filter(has_asked).collect();
    let heading: Vec<_> = columns.iter().map(|asker| name(*asker)).collect();
    let _ = write!(page, "\n## {}\n\n| asked by | {} |\n|---|", name(host), heading.join(" | "));
    columns.iter().for_each(|_| page.push_str("---|"));
    for topic in &topics {
        let cells: Vec<_> = columns.iter().map(|asker| cell(*asker, topic)).collect();
        let _ = write!(page, "\n| {topic} | {} |", cells.join(" | "));
    }
    page.push('\n');
}
