//! Relay and host on the real network of this machine: with each other, and with hand-written programs that do what the
//! original's do, byte for byte and step for step.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hex_literal::hex;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::config::{
    Compatible, CompatibleHost, HostService, Limits, Local, Place, Protocol, Service, TlsFiles, Trust,
};
use super::proof::Token;
use super::{Config, Host, HostConfig, LocalStream, ProxyVersion, Relay, Visitor};
use crate::net::{Alarm, Net, OsNet, TcpListener, UdpOptions, UdpSocket};

mod compatible;
mod datagrams;
mod modern;
mod reload;

type Stream = <OsNet as Net>::Stream;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Runs a test, and fails it when it takes longer than any should.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let net = OsNet::new();
        let mut alarm = net.alarm();
        alarm.set(Some(net.now().after(Duration::from_secs(30))));
        tokio::select! {
            biased;
            outcome = test => outcome,
            () = alarm.ring() => panic!("the test hangs"),
        }
    })
}

async fn echo(stream: LocalStream, _: Option<Visitor>) {
    let (mut read, mut write) = tokio::io::split(stream);
    let _ = tokio::io::copy(&mut read, &mut write).await;
    let _ = write.shutdown().await;
}

fn place(at: SocketAddr) -> Place {
    Place { host: at.ip().to_string(), port: at.port() }
}

async fn pause(net: &OsNet, milliseconds: u64) {
    let mut alarm = net.alarm();
    alarm.set(Some(net.now().after(Duration::from_millis(milliseconds))));
    alarm.ring().await;
}

/// Sends, ends, and reads what comes until the other side ends.
async fn ask(mut stream: Stream, question: &[u8]) -> Vec<u8> {
    stream.write_all(question).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

async fn read_exactly<const N: usize>(stream: &mut Stream) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

fn limits() -> Limits {
    Limits { wait: Duration::from_secs(5), ..Limits::default() }
}
