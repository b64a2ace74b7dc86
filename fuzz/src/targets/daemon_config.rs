//! A configuration file of `hailer run`: it is read, or refused with a diagnostic that can be shown.

use hailer::daemon::Config;

/// One execution.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(mistakes) = Config::parse("fuzz.toml", text) {
        assert!(!mistakes.to_string().is_empty());
    }
}
