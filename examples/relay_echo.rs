//! An echo service that serves its sessions itself, without a local port, behind a relay:
//!
//!     hailer relay --service echo=127.0.0.1:2222
//!     cargo run --example relay_echo -- 127.0.0.1:8000
//!     nc 127.0.0.1 2222

use std::collections::BTreeMap;
use std::time::Duration;

use hailer::net::OsNet;
use hailer::relay::config::HostService;
use hailer::relay::{Host, HostConfig, LocalStream, Visitor};

async fn echo(stream: LocalStream, visitor: Option<Visitor>) {
    if let Some(visitor) = visitor {
        println!("{} came", visitor.client);
    }
    let (mut read, mut write) = tokio::io::split(stream);
    // The session ends when the stream is dropped.
    let _ = tokio::io::copy(&mut read, &mut write).await;
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let relay = std::env::args().nth(1).ok_or("name the relay, for example 127.0.0.1:8000")?.parse()?;
    // Where to is not asked for, as the sessions are served here.
    let service = HostService::new("127.0.0.1:1".parse()?);
    let config = HostConfig {
        relay,
        tls: None,
        compatible: None,
        services: BTreeMap::from([("echo".to_owned(), service)]),
        drain: Duration::from_secs(5),
    };
    let host = Host::serve(&OsNet::new(), config, echo)?;
    let mut status = host.status("echo").ok_or("the service was just given")?;
    while status.changed().await.is_ok() {
        println!("{:?}", *status.borrow());
    }
    Ok(())
}
