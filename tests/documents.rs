//! What `docs/zre.md` says shows a feature is there: the tests and scenarios that it names exist.

use std::fs;
use std::path::Path;

/// All Rust sources below a folder, one after the other.
fn sources(folder: &Path, to: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, to);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            to.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

fn is_name_of_a_test(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.bytes().all(is_letter) && name.split('_').count() > 3
}

#[test]
fn every_test_and_scenario_that_the_page_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/zre.md")).unwrap();
    let mut code = String::new();
    ["src", "tests"].iter().for_each(|folder| sources(&root.join(folder), &mut code));
    let spans: Vec<&str> = page.split('`').skip(1).step_by(2).collect();
    let is_counter = |span: &str| code.contains(&format!("\n        {span},\n"));
    let is_test = |span: &&str| is_name_of_a_test(span) && !is_counter(span);
    let tests: Vec<&str> = spans.iter().copied().filter(is_test).collect();
    let scenarios: Vec<&str> = spans.iter().copied().filter(|span| span.ends_with(".toml")).collect();
    assert!(tests.len() > 30 && scenarios.len() > 5, "the page names them otherwise now");
    for test in tests {
        assert!(code.contains(&format!("fn {test}(")), "there is no test {test}");
    }
    for scenario in scenarios {
        assert!(root.join("scenarios").join(scenario).is_file(), "there is no scenario {scenario}");
    }
}

#[test]
fn every_row_of_odd_input_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/zre.md")).unwrap();
    let tests = fs::read_to_string(root.join("src/zre/machine/tests/odd.rs")).unwrap();
    let cell = |line: &str| line.strip_prefix("| ")?.split(' ').next()?.parse::<u32>().ok();
    let rows: Vec<u32> = page.lines().filter_map(cell).collect();
    assert_eq!(rows, (1..=20).collect::<Vec<_>>());
    for row in rows {
        assert!(tests.contains(&format!("fn row_{row}_")), "row {row} has no test");
    }
}
