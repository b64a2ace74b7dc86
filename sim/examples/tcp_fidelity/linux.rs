//! Sessions between two network namespaces, on the kernel of this machine.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hailer::net::{Net, OsNet};
use tokio::runtime::Runtime;

use crate::lab::Lab;
use crate::workload::{self, Session};

/// Times so many sessions: a server and a client, each this program in a namespace of its own.
pub(crate) fn measure(
    loss_percent: u8,
    count: usize,
    at_once: usize,
) -> Result<Vec<Session>, Box<dyn Error>> {
    let lab = Lab::new(2);
    for host in 0..2 {
        // Long packets that a network card would cut are cut before they meet the loss, as on a real cable.
        command(&lab, host, "ip link set dev eth0 gso_max_segs 1 gro_max_size 1")
            .or_else(|_| command(&lab, host, "ip link set dev eth0 gso_max_segs 1"))?;
        // What Linux remembers of earlier connections to a host would lengthen the first time-outs of later ones.
        command(&lab, host, "sysctl -qw net.ipv4.tcp_no_metrics_save=1")?;
        command(&lab, host, "sysctl -qw net.core.somaxconn=4096")?;
        // The simulator's algorithm, whatever this machine prefers, which namespaces inherit. By the route, because a
        // namespace's sysctl takes only algorithms that the machine allows to everybody.
        let route = format!("ip route replace 10.77.0.0/24 dev eth0 src {} congctl cubic", lab.address(host));
        command(&lab, host, &route)?;
        let pace = format!(
            "tc qdisc add dev eth0 root tbf rate {} burst 2000 limit {}",
            crate::BANDWIDTH,
            crate::QUEUE
        );
        command(&lab, host, &pace)?;
    }
    if loss_percent > 0 {
        lab.lose(loss_percent);
    }
    let program = std::env::current_exe()?;
    let program = program.to_str().ok_or("this program's path is not text")?;
    let at = SocketAddr::new(lab.address(0).into(), crate::PORT).to_string();
    let mut server =
        lab.command(0, program).args(["serve", &at]).stdout(Stdio::piped()).spawn().map(Ended)?;
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let client = lab
        .command(1, program)
        .args(["sessions", &at, &count.to_string(), &at_once.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    let lines = String::from_utf8(client.stdout)?;
    lines.lines().map(parse).collect()
}

/// A child that does not outlive this value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(lab: &Lab, host: u8, line: &str) -> Result<(), Box<dyn Error>> {
    let (program, arguments) = line.split_once(' ').unwrap_or((line, ""));
    let output = lab.command(host, program).args(arguments.split(' ')).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}

/// The server's part: says when it is there and serves for ever.
pub(crate) fn serve(at: SocketAddr) -> Result<(), Box<dyn Error>> {
    runtime()?.block_on(async {
        println!("ready");
        workload::serve(OsNet::new(), at).await.map_err(Into::into)
    })
}

/// The client's part: prints a line for each session.
pub(crate) fn sessions(to: SocketAddr, count: usize, at_once: usize) -> Result<(), Box<dyn Error>> {
    let sessions: Arc<Mutex<Vec<Session>>> = Arc::default();
    runtime()?.block_on(async {
        let net = OsNet::new();
        let (done, mut all_done) = tokio::sync::mpsc::channel::<()>(1);
        for place in 0..at_once {
            let own = (place..count).step_by(at_once).len();
            let (net, sessions, done) = (net.clone(), Arc::clone(&sessions), done.clone());
            let client = net.clone();
            let task = async move {
                for _ in 0..own {
                    let session = workload::session(&client, to).await;
                    sessions.lock().expect("not poisoned").push(session);
                }
                drop(done);
            };
            net.spawn("client", task).detach();
        }
        drop(done);
        all_done.recv().await;
    });
    for session in sessions.lock().expect("not poisoned").iter() {
        let nanos = session
            .parts()
            .map(|part| part.map_or_else(|| "-".to_owned(), |time| time.as_nanos().to_string()));
        println!("{}", nanos.join(" "));
    }
    Ok(())
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn parse(line: &str) -> Result<Session, Box<dyn Error>> {
    let mut parts = line.split(' ').map(|part| match part {
        "-" => Ok(None),
        nanos => nanos.parse().map(|nanos| Some(Duration::from_nanos(nanos))),
    });
    let mut next = || parts.next().ok_or("a part is missing")?.map_err(Box::<dyn Error>::from);
    Ok(Session { connect: next()?, transfer: next()?, stall: next()? })
}
