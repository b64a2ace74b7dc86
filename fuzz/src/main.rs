//! All fuzz targets in one program, so that there is one to build: the environment variable `FUZZ_TARGET` names the one that
//! runs. See README.md, and `run`, which sets it.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

mod targets;

static TARGET: OnceLock<targets::Target> = OnceLock::new();

fn choose() -> targets::Target {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let chosen = targets::ALL.iter().find(|(target, _)| *target == name);
    *chosen.unwrap_or_else(|| panic!("FUZZ_TARGET is {name:?}, which is none of {:?}", targets::ALL))
}

fuzz_target!(|bytes: &[u8]| {
    let (_, run) = TARGET.get_or_init(choose);
    run(bytes);
});
