//! The matrix of real engines: each Docker host is a network namespace with an engine of its own, and every machine's server
//! and questions run in the network of that machine.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this side is real: its engines take real time, and its machines answer side by side"
)]

use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hailer_sim::scenario::{Kind, Medium, Node, NodeIndex, Protocol, Scenario};

use crate::lab::Lab;
use crate::plan::{self, Asker, Matrix};

type Failure = Box<dyn Error + Send + Sync>;

/// How long an engine may take to start or stop.
const ENGINE_PATIENCE: Duration = Duration::from_secs(60);
/// The image of all containers: a shell of tools that waits.
const IMAGE: &str = "fidelity";

/// Why real engines can't be had here, if so.
pub(crate) fn available() -> Result<(), String> {
    crate::lab::available()?;
    for (program, package) in
        [("dockerd", "docker.io"), ("docker", "docker.io"), ("docker-proxy", "docker.io")]
    {
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).exists()));
        if !found {
            return Err(format!("there is no `{program}` (Debian's package `{package}`)"));
        }
    }
    if !Path::new(BUSYBOX).exists() {
        return Err(format!("there is no {BUSYBOX} (Debian's package `busybox-static`)"));
    }
    Ok(())
}

const BUSYBOX: &str = "/bin/busybox";

/// Builds the scenario and asks everything. Returns the version of the engine, too.
pub(crate) fn measure(scenario: &Scenario) -> Result<(String, Matrix), Failure> {
    let on_lan = |node: &&Node| matches!(node.kind, Kind::Computer | Kind::DockerHost);
    let lab = Lab::new(u8::try_from(scenario.nodes.iter().filter(on_lan).count())?);
    let mut world = World { engines: Vec::new(), networks: Vec::new() };
    for (index, node) in plan::all(scenario).filter(|(_, node)| on_lan(node)) {
        let address = node.interfaces.first().ok_or("a machine without an interface")?.address;
        let place = (0..).take(scenario.nodes.len()).find(|place| lab.address(*place) == address);
        let place = place.ok_or_else(|| format!("{address} is no address of the laboratory"))?;
        let network = PathBuf::from(format!("/run/netns/{}", lab.namespace(place)));
        if node.kind == Kind::DockerHost {
            let has_proxy = node.nat.as_ref().and_then(|nat| nat.userland_proxy) == Some(true);
            world.engines.push((index, Engine::start(&network, has_proxy)?));
        }
        world.networks.push((index, network));
    }
    for (host, engine) in &world.engines {
        make_networks(scenario, *host, engine)?;
    }
    let containers: Vec<_> =
        plan::all(scenario).filter(|(_, node)| node.kind.docker_host().is_some()).collect();
    for (index, container) in &containers {
        let engine = world.engine_of(scenario, *index)?;
        let process = run_container(scenario, container, engine)?;
        world.networks.push((*index, PathBuf::from(format!("/proc/{process}/ns/net"))));
    }
    let version = world.engines.first().ok_or("no Docker host")?.1.docker(&[
        "version",
        "--format",
        "{{.Server.Version}}",
    ])?;
    Ok((version, world.ask_all(scenario)?))
}

struct World {
    engines: Vec<(NodeIndex, Engine)>,
    /// The network namespace of each machine.
    networks: Vec<(NodeIndex, PathBuf)>,
}

impl World {
    fn engine_of(&self, scenario: &Scenario, node: NodeIndex) -> Result<&Engine, Failure> {
        let host = plan::docker_host(scenario, node);
        let found = self.engines.iter().find(|(index, _)| Some(*index) == host);
        Ok(&found.ok_or("a container without an engine")?.1)
    }

    fn ask_all(&self, scenario: &Scenario) -> Result<Matrix, Failure> {
        let heard = Arc::<Mutex<crate::Heard>>::default();
        let mut servers = Vec::new();
        for (index, network) in &self.networks {
            servers.push(Server::start(network, plan::node(scenario, *index), heard.clone())?);
        }
        let askers = plan::askers(scenario);
        let mut asking = Vec::new();
        for (number, asker) in askers.iter().enumerate() {
            let network = self.networks.iter().find(|(index, _)| *index == asker.node);
            let command = asking_command(&network.ok_or("a machine without a network")?.1, number, asker)?;
            asking.push(std::thread::spawn(move || run(command)));
        }
        let mut answers = Matrix::new();
        for (asker, said) in askers.iter().zip(asking) {
            let said = said.join().map_err(|_| "a thread has panicked")??;
            for ((topic, _), answer) in asker.questions.iter().zip(said.lines()) {
                answers.insert((asker.node, topic.clone()), answer.to_owned());
            }
        }
        let mut resolving = Vec::new();
        for asker in askers.iter().filter(|asker| !asker.names.is_empty()) {
            let container = &plan::node(scenario, asker.node).name;
            let engine = self.engine_of(scenario, asker.node)?;
            let commands: Vec<_> =
                asker.names.iter().map(|name| resolving_command(engine, container, name)).collect();
            resolving.push((asker, std::thread::spawn(move || commands.into_iter().map(resolve).collect())));
        }
        for (asker, found) in resolving {
            let found: Vec<_> = found.join().map_err(|_| "a thread has panicked")?;
            for (name, found) in asker.names.iter().zip(found) {
                answers.insert((asker.node, format!("name {name}")), crate::show_names(found?));
            }
        }
        drop(servers);
        let heard = std::mem::take(&mut *heard.lock().expect("not poisoned"));
        crate::add_heard(&askers, heard, &mut answers);
        Ok(answers)
    }
}

fn resolving_command(engine: &Engine, container: &str, name: &str) -> Command {
    // Where the engine does not know the name, it asks a server that is not there.
    engine.command(&["exec", container, "/busybox", "timeout", "2", "/busybox", "nslookup", "-type=a", name])
}

/// What a name stands for; nothing when there is no such name.
fn resolve(mut command: Command) -> Result<Vec<IpAddr>, Failure> {
    let output = command.stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let answers = text.lines().skip_while(|line| !line.starts_with("Name:"));
    Ok(answers
        .filter_map(|line| line.strip_prefix("Address: ").and_then(|address| address.trim().parse().ok()))
        .collect())
}

/// An engine of its own: its socket, its files and its network are nobody else's.
struct Engine {
    process: Child,
    folder: tempfile::TempDir,
}

impl Engine {
    fn start(network: &Path, has_proxy: bool) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("docker-fidelity").tempdir()?;
        let at = |name: &str| folder.path().join(name).display().to_string();
        let log = std::fs::File::create(folder.path().join("log"))?;
        // `ip netns exec` would hide the control groups, which the engine needs.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "nsenter", &format!("--net={}", network.display()), "dockerd"])
            .args(["--storage-driver", "vfs", "--host", &format!("unix://{}", at("socket"))])
            .args(["--data-root", &at("data"), "--exec-root", &at("run"), "--pidfile", &at("pid")])
            .arg(format!("--userland-proxy={has_proxy}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut engine = Self { process, folder };
        let deadline = Instant::now() + ENGINE_PATIENCE;
        while engine.docker(&["version"]).is_err() {
            if engine.process.try_wait()?.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(engine.folder.path().join("log"))?;
                return Err(format!("the engine does not start:\n{log}").into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        engine.import()?;
        Ok(engine)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        let socket = self.folder.path().join("socket");
        command.arg("--host").arg(format!("unix://{}", socket.display())).args(arguments);
        command
    }

    fn docker(&self, arguments: &[&str]) -> Result<String, Failure> {
        run(self.command(arguments))
    }

    /// Makes the image from nothing but one static program.
    fn import(&self) -> Result<(), Failure> {
        let folder = self.folder.path().join("image");
        std::fs::create_dir_all(&folder)?;
        std::fs::copy(BUSYBOX, folder.join("busybox"))?;
        let archive = self.folder.path().join("image.tar").display().to_string();
        let mut tar = Command::new("tar");
        tar.args(["-C", &folder.display().to_string(), "-cf", &archive, "."]);
        run(tar)?;
        self.docker(&["import", &archive, IMAGE]).map(drop)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Ok(all) = self.docker(&["ps", "--all", "--quiet"])
            && !all.is_empty()
        {
            let mut arguments = vec!["rm", "--force"];
            arguments.extend(all.lines());
            let _ = self.docker(&arguments);
        }
        let mut terminate = Command::new("kill");
        terminate.arg(self.process.id().to_string());
        let _ = run(terminate);
        let deadline = Instant::now() + ENGINE_PATIENCE;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let mounted = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for mounted in mounted.filter(|mounted| Path::new(mounted).starts_with(self.folder.path())) {
            let _ = Command::new("umount").arg(mounted).status();
        }
    }
}

fn make_networks(scenario: &Scenario, host: NodeIndex, engine: &Engine) -> Result<(), Failure> {
    for own in &plan::node(scenario, host).interfaces {
        let segment = &scenario.segments[own.segment.0 as usize];
        // Each engine has its default bridge already.
        let Medium::Bridge { is_open } = segment.medium else { continue };
        if segment.name.contains('/') {
            continue;
        }
        let (subnet, gateway) = (segment.prefix.to_string(), own.address.to_string());
        let icc = format!("com.docker.network.bridge.enable_icc={is_open}");
        let arguments = ["network", "create", "--subnet", &subnet, "--gateway", &gateway, "--opt", &icc];
        engine.docker(&[&arguments[..], &[&segment.name]].concat())?;
    }
    Ok(())
}

/// Starts a container; returns its process.
fn run_container(scenario: &Scenario, container: &Node, engine: &Engine) -> Result<String, Failure> {
    let mut arguments: Vec<String> = ["run", "--detach", "--stop-signal", "KILL", "--dns", "127.0.0.1"]
        .into_iter()
        .map(str::to_owned)
        .collect();
    let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    option("--name", container.name.clone());
    match container.interfaces.first() {
        None => option("--network", "host".to_owned()),
        Some(own) => {
            let segment = &scenario.segments[own.segment.0 as usize];
            // On the default bridge addresses are given out in order.
            if !segment.name.contains('/') {
                option("--network", segment.name.clone());
                option("--ip", own.address.to_string());
                let named = |addresses: &&Vec<IpAddr>| addresses.contains(&IpAddr::V4(own.address));
                for (name, _) in segment.names.iter().filter(|(_, addresses)| named(addresses)) {
                    option("--network-alias", name.clone());
                }
            }
        }
    }
    for published in &container.published {
        let protocol = if published.protocol == Protocol::Tcp { "tcp" } else { "udp" };
        option("--publish", format!("{}:{}/{protocol}", published.port, published.to));
    }
    arguments.extend([IMAGE, "/busybox", "sleep", "3600"].map(str::to_owned));
    engine.docker(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
    engine.docker(&["inspect", "--format", "{{.State.Pid}}", &container.name])
}

/// This program, in the network of a machine.
fn inside(network: &Path) -> Result<Command, Failure> {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", network.display())).arg(std::env::current_exe()?);
    Ok(command)
}

fn asking_command(network: &Path, number: usize, asker: &Asker) -> Result<Command, Failure> {
    let mut command = inside(network)?;
    command.args(["ask", &number.to_string()]);
    command.args(asker.questions.iter().map(|(_, question)| question));
    Ok(command)
}

/// A server in a machine, and who reads what it hears.
struct Server {
    process: Child,
    reader: Option<JoinHandle<()>>,
}

impl Server {
    fn start(network: &Path, node: &Node, heard: Arc<Mutex<crate::Heard>>) -> Result<Self, Failure> {
        let mut command = inside(network)?;
        command.args(["serve", &node.name, &plan::own_port(node).to_string()]).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let mut lines = BufReader::new(process.stdout.take().ok_or("no output")?);
        let mut ready = String::new();
        lines.read_line(&mut ready)?;
        let name = node.name.clone();
        let reader = std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if let Some((number, from)) = line.split_once(' ') {
                    let mut heard = heard.lock().expect("not poisoned");
                    heard.entry(number.to_owned()).or_default().insert(format!("{name} {from}"));
                }
            }
        });
        let server = Self { process, reader: Some(reader) };
        if ready.trim() == "ready" { Ok(server) } else { Err(format!("{} does not serve", node.name).into()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Runs a command; returns what it printed.
fn run(mut command: Command) -> Result<String, Failure> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (mut said, mut complaint) = (String::new(), String::new());
    if let (Some(stdout), Some(stderr)) = (&mut child.stdout, &mut child.stderr) {
        stdout.read_to_string(&mut said)?;
        stderr.read_to_string(&mut complaint)?;
    }
    if child.wait()?.success() {
        return Ok(said.trim_end().to_owned());
    }
    Err(format!("{command:?}: {}", complaint.trim()).into())
}
