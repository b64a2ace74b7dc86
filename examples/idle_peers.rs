//! Many nodes in one process that all know one other node and nobody else, to see what an idle peer costs that one:
//!
//!     cargo run --example idle_peers -- 500 tcp://127.0.0.1:49300
//!
//! `reports/2026-11-21-idle-peers` has the other half. Each node holds some file descriptors: `ulimit -n 8192`.

use hailer::Node;
use hailer::net::OsNet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(count), Some(place)) = (arguments.next(), arguments.next()) else {
        return Err("say how many nodes, and where the other one is".into());
    };
    let (count, place): (usize, hailer::zre::Endpoint) = (count.parse()?, place.parse()?);
    let mut nodes = Vec::new();
    for number in 0..count {
        let name = format!("idle{number}");
        let builder =
            Node::builder().name(name.as_str()).interface("lo").without_beacons().peer(place.clone());
        let (node, mut events) = builder.start(&OsNet::new()).await?;
        if events.next().await.is_none() {
            return Err("a node ended".into());
        }
        // Nobody reads its events from now on: there are none.
        nodes.push((node, events));
    }
    println!("{count} nodes know it");
    tokio::signal::ctrl_c().await?;
    Ok(())
}
