//! The demo's tour as a person starts it: it passes, and it fails at each step that is given something wrong.

use std::process::{Command, Output};

fn tour(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hearthkey")).args(["demo", "--tour"]).args(arguments).output().unwrap()
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn the_tour_passes() {
    let output = tour(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(last_line(&output).starts_with("Every step passed: 14 steps"), "{}", last_line(&output));
}

#[test]
fn the_tour_fails_at_every_step_that_is_broken() {
    let listed = tour(&["--list-steps"]);
    let names: Vec<String> =
        String::from_utf8(listed.stdout).unwrap().lines().filter_map(|l| l.split_whitespace().next().map(str::to_owned)).collect();
    assert_eq!(names.len(), 14);
    for name in names {
        let output = tour(&["--break", &name]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "{name} passed although it was broken:\n{said}");
        assert!(last_line(&output).starts_with(&format!("The tour ended at the step {name} ")), "{name}:\n{said}");
    }
}

#[test]
fn a_step_that_does_not_exist_is_an_error_that_says_where_to_look() {
    let output = tour(&["--break", "nothing"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--list-steps"));
}
