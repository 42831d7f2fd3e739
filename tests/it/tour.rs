//! The demo's tours as a person starts them: each passes, and fails at each step that is given something wrong.

use std::process::{Command, Output};

/// As on a box that knows no certificate authorities: whoever is called in a tour has one of its own.
fn tour(name: &str, arguments: &[&str]) -> Output {
    let tour = if name.is_empty() { "--tour".to_owned() } else { format!("--tour={name}") };
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearthkey"));
    command.env("SSL_CERT_FILE", "/nonexistent/ca.pem").env("SSL_CERT_DIR", "/nonexistent");
    command.arg("demo").arg(tour).args(arguments).output().unwrap()
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

fn passes(name: &str, steps: usize) {
    let output = tour(name, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(last_line(&output).starts_with(&format!("Every step passed: {steps} steps")), "{}", last_line(&output));
}

fn fails_where_broken(name: &str, steps: usize) {
    let listed = tour(name, &["--list-steps"]);
    let names: Vec<String> =
        String::from_utf8(listed.stdout).unwrap().lines().filter_map(|l| l.split_whitespace().next().map(str::to_owned)).collect();
    assert_eq!(names.len(), steps);
    fails_at(name, &names);
}

fn fails_at(name: &str, steps: &[String]) {
    for step in steps {
        let output = tour(name, &["--break", step]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "{step} passed although it was broken:\n{said}");
        assert!(last_line(&output).starts_with(&format!("The tour ended at the step {step} ")), "{step}:\n{said}");
    }
}

#[test]
fn the_tour_passes() {
    passes("", 14);
}

#[test]
fn the_tour_fails_at_every_step_that_is_broken() {
    fails_where_broken("devices", 14);
}

#[test]
fn the_tour_of_people_passes() {
    passes("people", 10);
}

#[test]
fn the_tour_of_people_fails_at_every_step_that_is_broken() {
    fails_where_broken("people", 10);
}

#[test]
fn the_tour_of_life_passes() {
    passes("life", 12);
}

/// Each goes through all the steps before: these stand for the others.
#[test]
fn the_tour_of_life_fails_where_it_is_broken() {
    fails_at("life", &["update", "bad-image", "rehearse", "restore"].map(str::to_owned));
}

#[test]
#[ignore = "twelve lives take minutes: tests/system/tour-life.sh runs it, in make test-system"]
fn the_tour_of_life_fails_at_every_step_that_is_broken() {
    fails_where_broken("life", 12);
}

#[cfg(feature = "sim")]
#[test]
fn the_tour_of_devices_nearby_passes() {
    passes("ble", 11);
}

#[cfg(feature = "sim")]
#[test]
fn the_tour_of_devices_nearby_fails_at_every_step_that_is_broken() {
    fails_where_broken("ble", 11);
}

#[test]
fn a_step_that_does_not_exist_is_an_error_that_says_where_to_look() {
    let output = tour("people", &["--break", "nothing"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--tour=people --list-steps"));
}

#[cfg(feature = "cloud")]
#[test]
fn the_tour_of_the_cloud_passes() {
    passes("cloud", 11);
}

/// A cloud with a PostgreSQL of its own takes half a minute each time: these stand for the others.
#[cfg(feature = "cloud")]
#[test]
fn the_tour_of_the_cloud_fails_where_it_is_broken() {
    fails_at("cloud", &["cloud", "link", "cut"].map(str::to_owned));
}

#[cfg(feature = "cloud")]
#[test]
#[ignore = "eleven clouds take minutes: tests/system/tour-cloud.sh runs it, in make test-system"]
fn the_tour_of_the_cloud_fails_at_every_step_that_is_broken() {
    fails_where_broken("cloud", 11);
}
