//! Repeaters and a real Consul: its catalogue, its loss of memory, the original's keys, and TLS.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;

use super::lab;
use super::peer::{Peer, SOON};
use super::sites::Sites;

/// The program: `$HAILER_CONSUL/bin/consul`, or the one that `.ci/consul.sh` fetches.
fn program() -> PathBuf {
    let fetched = || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("consul");
    std::env::var_os("HAILER_CONSUL").map_or_else(fetched, PathBuf::from).join("bin/consul")
}

/// Says why, when it can't be: unlike the rest Consul is not had everywhere, so that fails nowhere.
fn is_possible() -> bool {
    if !lab::is_available_or_say_so() {
        return false;
    }
    let probe = Command::new(program()).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_there = probe.is_ok_and(|status| status.success());
    if !is_there {
        eprintln!("NOT RUN: {} is not there: .ci/consul.sh says why", program().display());
    }
    is_there
}

/// An agent in development mode on the gateway of the first site, on the backbone.
fn agent(lab: &Sites) -> Peer {
    agent_with(lab, &[])
}

fn agent_with(lab: &Sites, options: &[&str]) -> Peer {
    let mut command = lab.command(1, 1, program().to_str().expect("the path is text"));
    command.args([
        "agent",
        "-dev",
        "-bind",
        "10.80.0.1",
        "-client",
        "10.80.0.1",
        "-log-level",
        "err",
        "-log-json",
    ]);
    command.args(options);
    Peer::start("consul", command)
}

fn repeater(lab: &Sites, site: u8, table: &str) -> (Peer, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("there is room for a file");
    let file = directory.path().join("repeater.toml");
    let text =
        format!("[repeater]\ninterfaces = [\"eth0\"]\n[repeater.consul]\nserver = \"10.80.0.1\"\n{table}\n");
    std::fs::write(&file, text).expect("the file can be written");
    let mut command = lab.command(site, 1, env!("CARGO_BIN_EXE_hailer"));
    command.args(["run", "-v", "--json", "--config", file.to_str().expect("the path is text")]);
    (Peer::start(&format!("repeater {site}"), command), directory)
}

fn in_catalogue(lab: &Sites, site: u8, ttl_s: u8) -> (Peer, tempfile::TempDir) {
    repeater(lab, site, &format!("address = \"10.80.0.{site}\"\nttl = \"{ttl_s} s\""))
}

fn found(site: u8) -> serde_json::Value {
    json!({"event": "REPEATER-FOUND", "repeater": format!("10.80.0.{site}:2340")})
}

fn gone(site: u8) -> serde_json::Value {
    json!({"event": "REPEATER-GONE", "repeater": format!("10.80.0.{site}:2340")})
}

#[test]
#[ignore = "needs root, network namespaces and Consul: .ci/run runs them"]
fn repeaters_find_each_other_in_the_catalogue_and_forget_who_died() {
    if !is_possible() {
        return;
    }
    let lab = Sites::new(3, 1, true);
    let consul = agent(&lab);
    let (mut one, _one) = in_catalogue(&lab, 1, 3);
    // It is to be missed for its farewell, which a busy machine takes some time for, and not for its silence.
    let (mut two, _two) = in_catalogue(&lab, 2, 60);
    one.expect(SOON * 2, found(2));
    two.expect(SOON, found(1));
    // It forgets everything, and is told again. Nobody forgets meanwhile.
    consul.kill();
    drop(consul);
    let _consul = agent(&lab);
    let (mut three, _three) = in_catalogue(&lab, 3, 3);
    for site in [1, 2] {
        three.expect(SOON * 2, found(site));
    }
    one.expect(SOON, found(3));
    two.expect(SOON, found(3));
    // Who stops says so. Who dies is noticed when its registration was not renewed.
    two.interrupt();
    one.expect(SOON, gone(2));
    three.kill();
    one.expect(SOON, gone(3));
}

#[test]
#[ignore = "needs root, network namespaces and Consul: .ci/run runs them"]
fn repeaters_find_each_other_by_the_keys_of_the_original() {
    if !is_possible() {
        return;
    }
    let lab = Sites::new(2, 1, true);
    let _consul = agent(&lab);
    let keys = "catalogue = false\nkeys = \"docker/nodes\"";
    let (mut one, _one) = repeater(&lab, 1, keys);
    let (mut two, _two) = repeater(&lab, 2, keys);
    let put = |site: u8| {
        let mut command = lab.command(1, 1, program().to_str().expect("the path is text"));
        let place = format!("10.80.0.{site}:2376");
        command.args(["kv", "put", "-http-addr=10.80.0.1:8500", &format!("docker/nodes/{place}"), &place]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    // The agent takes some seconds until it stores anything.
    assert!((0..200).any(|_| put(1)), "Consul stores nothing");
    assert!(put(2));
    one.expect(SOON * 2, found(2));
    two.expect(SOON * 2, found(1));
}

/// The agent shows a certificate for its own name and not its address, and wants one of ours. Who has none is refused.
#[test]
#[ignore = "needs root, network namespaces and Consul: .ci/run runs them"]
fn repeaters_find_each_other_by_a_consul_with_tls() {
    if !is_possible() {
        return;
    }
    let lab = Sites::new(3, 1, true);
    let folder = tempfile::tempdir().expect("there is room for files");
    let path = |name: &str| folder.path().join(name).to_str().expect("the path is text").to_owned();
    let write = |name: &str, text: String| std::fs::write(path(name), text).expect("the folder is ours");
    let mut parameters = rcgen::CertificateParams::default();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().expect("a key");
    let authority = parameters.self_signed(&key).expect("a certificate");
    write("ca.pem", authority.pem());
    let issuer = rcgen::Issuer::new(parameters, key);
    for name in ["server.dc1.consul", "repeater"] {
        let mut parameters = rcgen::CertificateParams::new([name.to_owned()]).expect("a name");
        parameters.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = rcgen::KeyPair::generate().expect("a key");
        write(&format!("{name}.pem"), parameters.signed_by(&key, &issuer).expect("a certificate").pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
    let tls = json!({
        "ports": {"http": -1, "https": 8501},
        "ca_file": path("ca.pem"), "verify_incoming_https": true,
        "cert_file": path("server.dc1.consul.pem"), "key_file": path("server.dc1.consul.key"),
    });
    write("tls.json", tls.to_string());
    let file = format!("-config-file={}", path("tls.json"));
    let _consul = agent_with(&lab, &[&file]);
    let table = |site: u8, own: &str| {
        let authority = path("ca.pem");
        let tls = format!("tls = {{ authority = {authority:?}, name = \"server.dc1.consul\"{own} }}");
        repeater(&lab, site, &format!("address = \"10.80.0.{site}\"\n{tls}"))
    };
    let own = format!(", certificate = {:?}, key = {:?}", path("repeater.pem"), path("repeater.key"));
    let (mut one, _one) = table(1, &own);
    let (mut two, _two) = table(2, &own);
    let (mut stranger, _stranger) = table(3, "");
    one.expect(SOON * 2, found(2));
    two.expect(SOON, found(1));
    stranger.expect_remark(SOON, "no use of Consul");
    stranger.has_not_said(found(1));
    one.has_not_said(found(3));
}
