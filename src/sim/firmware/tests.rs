//! A device's firmware against the vectors of the protocol, and through every fault, with a hub that is played by the test.

use std::path::Path;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde_json::{Value, json};

use super::update::{Do, Update};
use super::*;
use crate::sim::identity::DeviceSecret;

struct Vectors(Value);

impl Vectors {
    fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol/firmware-vectors.json");
        Self(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
    }

    fn text(&self, at: &str) -> &str {
        self.0.pointer(at).and_then(Value::as_str).unwrap_or_else(|| panic!("{at}"))
    }

    fn bytes(&self, at: &str) -> Vec<u8> {
        HEXLOWER.decode(self.text(at).as_bytes()).unwrap()
    }

    fn root(&self) -> [u8; 32] {
        self.bytes("/root_public_key").try_into().unwrap()
    }

    /// The offer that a hub makes of the release in the vectors.
    fn offer(&self, install: bool) -> Value {
        let base64 = |at| BASE64URL_NOPAD.encode(&self.bytes(at));
        json!({
            "offer": self.text("/chunk/offer"), "rel": 4, "version": "1.5.0", "size": self.0["says"]["size"],
            "sha256": self.0["says"]["sha256"], "certificate": base64("/certificate"), "release": base64("/release"),
            "path": "/firmware/x", "ticket": "dGlja2V0", "chunk": 16384, "install": install,
        })
    }
}

fn secret(model: &str, hardware: &str) -> DeviceSecret {
    let key = BASE64URL_NOPAD.encode(&[1; 32]);
    let json =
        json!({"v": 1, "device_id": "lamp-1", "brand": "acme", "model": model, "hardware": hardware, "serial": "", "device_key": key});
    DeviceSecret::parse(json.to_string().as_bytes()).unwrap()
}

/// A device with its flash, and a hub that answers.
struct Bench {
    vectors: Vectors,
    update: Update,
    reports: Vec<Value>,
    events: Vec<Event>,
    /// How often it has come up.
    starts: u32,
    up: bool,
    install: bool,
    _state: tempfile::TempDir,
}

fn bench(rel: u64, faults: &[Fault]) -> Bench {
    bench_of(secret("lamp", "A"), rel, faults)
}

fn bench_of(secret: DeviceSecret, rel: u64, faults: &[Fault]) -> Bench {
    let (vectors, state) = (Vectors::read(), tempfile::tempdir().unwrap());
    let options = Options { rel, version: "1.4.0".into(), faults: faults.to_vec(), ..Options::new(vectors.root()) };
    let update = Update::new(options, secret, state.path().to_owned()).unwrap();
    Bench { vectors, update, reports: Vec::new(), events: Vec::new(), starts: 0, up: false, install: true, _state: state }
}

impl Bench {
    /// Switches it on, and lets it and the hub talk until nothing is left to say.
    fn run(&mut self) {
        for _ in 0..10 {
            self.starts += 1;
            let events = &mut self.events;
            self.up = self.update.switch_on(&mut |event| events.push(event)).unwrap();
            if !self.up {
                return;
            }
            let todo = self.update.signed_in().unwrap();
            if !self.carry_out(todo) {
                continue;
            }
            let offer = if self.running() < 4 { self.vectors.offer(self.install) } else { json!({}) };
            let todo = self.update.offered(offer.to_string().as_bytes()).unwrap();
            if self.carry_out(todo) {
                return;
            }
        }
        panic!("it never comes to rest: {:?}", self.events);
    }

    fn running(&self) -> u64 {
        self.update.report()["rel"].as_u64().unwrap()
    }

    /// False when the device starts again.
    fn carry_out(&mut self, todo: Vec<Do>) -> bool {
        let image = self.vectors.bytes("/image");
        for step in todo {
            let next = match step {
                Do::Tell(event) => {
                    self.events.push(event);
                    Vec::new()
                }
                Do::Report(report) => {
                    self.reports.push(report.clone());
                    self.update.heard(&report).unwrap()
                }
                Do::Fetch => match self.update.wants() {
                    Some(wanted) => {
                        let at = wanted.offset as usize;
                        self.update.piece(&image[at..(at + 10).min(image.len())]).unwrap()
                    }
                    None => Vec::new(),
                },
                Do::StopFetching => Vec::new(),
                Do::Restart | Do::PowerCut => return false,
            };
            if !self.carry_out(next) {
                return false;
            }
        }
        true
    }

    fn states(&self) -> Vec<&str> {
        let mut states: Vec<&str> = self.reports.iter().map(|report| report["state"].as_str().unwrap()).collect();
        states.dedup();
        states
    }

    fn failed(&self) -> Option<&'static str> {
        self.events.iter().find_map(|event| if let Event::Failed { code, .. } = event { Some(*code) } else { None })
    }
}

#[test]
fn the_release_of_the_vectors_holds_and_those_that_are_refused_do_not() {
    let vectors = Vectors::read();
    let release = release::verify(&vectors.root(), &vectors.bytes("/certificate"), &vectors.bytes("/release")).unwrap();
    let says = &vectors.0["says"];
    assert_eq!(
        (json!(release.brand), json!(release.model), json!(release.hardware)),
        (says["brand"].clone(), says["model"].clone(), says["hardware"].clone())
    );
    assert_eq!(
        (json!(release.rel), json!(release.version), json!(release.size)),
        (says["rel"].clone(), says["version"].clone(), says["size"].clone())
    );
    assert_eq!(
        (json!(release.least_before), json!(HEXLOWER.encode(&release.sha256))),
        (says["least_before"].clone(), says["sha256"].clone())
    );
    let refused = vectors.0["refused"].as_array().unwrap();
    assert!(refused.len() >= 7);
    for (n, told) in refused.iter().enumerate() {
        let [certificate, statement] = ["certificate", "release"].map(|part| vectors.bytes(&format!("/refused/{n}/{part}")));
        assert!(release::verify(&vectors.root(), &certificate, &statement).is_err(), "{}", told["why"]);
    }
}

#[test]
fn no_changed_byte_of_a_release_passes() {
    let vectors = Vectors::read();
    let (certificate, statement) = (vectors.bytes("/certificate"), vectors.bytes("/release"));
    for at in 0..certificate.len().max(statement.len()) {
        let changed = |bytes: &[u8]| bytes.iter().enumerate().map(|(n, b)| if n == at { b ^ 1 } else { *b }).collect::<Vec<u8>>();
        if at < certificate.len() {
            assert!(release::verify(&vectors.root(), &changed(&certificate), &statement).is_err(), "certificate, byte {at}");
        }
        if at < statement.len() {
            assert!(release::verify(&vectors.root(), &certificate, &changed(&statement)).is_err(), "release, byte {at}");
        }
    }
}

#[test]
fn a_device_becomes_the_next_version_and_says_each_step() {
    let mut bench = bench(3, &[]);
    bench.run();
    assert_eq!(bench.states(), ["idle", "downloading", "downloaded", "installing", "confirmed"]);
    assert_eq!((bench.running(), bench.starts), (4, 2));
    assert!(bench.events.contains(&Event::Runs { rel: 4, version: "1.5.0".into(), trial: true }));
    // It was told, and after the next start there is nothing left to say.
    bench.reports.clear();
    bench.run();
    assert_eq!(bench.states(), ["idle"]);
}

#[test]
fn the_power_may_fail_at_every_step_and_the_update_goes_on() {
    for step in [Step::Downloading, Step::Downloaded, Step::Installing, Step::Trial, Step::Confirmed] {
        let mut bench = bench(3, &[Fault::Power(step)]);
        bench.run();
        assert_eq!((bench.running(), bench.starts, bench.failed()), (4, 3, None), "{step:?}: {:?}", bench.events);
        assert_eq!(bench.states().last(), Some(&"confirmed"), "{step:?}");
        if step == Step::Downloading {
            let from: Vec<u64> =
                bench.events.iter().filter_map(|e| if let Event::Downloading { offset, .. } = e { Some(*offset) } else { None }).collect();
            let half = bench.vectors.0["says"]["size"].as_u64().unwrap() / 2;
            assert_eq!(from, [0, half], "it goes on at the byte it has");
        }
    }
}

#[test]
fn what_goes_wrong_leaves_the_version_that_was() {
    for (fault, code) in [
        (Fault::Download { at: 20 }, "download"),
        (Fault::WrongHash, "hash"),
        (Fault::NoRoom, "storage"),
        (Fault::Refuse, "refused"),
        (Fault::Install, "install"),
        (Fault::Unhealthy, "health"),
    ] {
        let mut bench = bench(3, &[fault]);
        bench.run();
        let last = bench.reports.iter().find(|report| report["state"] == "failed").unwrap();
        assert_eq!((bench.failed(), &last["code"], &last["rel"]), (Some(code), &json!(code), &json!(3)), "{fault}");
        // The next time all is well.
        bench.run();
        assert!(bench.running() == 4 && bench.states().contains(&"confirmed"), "{fault}");
    }
}

#[test]
fn one_that_hangs_is_given_up_after_some_starts() {
    let mut bench = bench(3, &[Fault::Silent, Fault::Silent, Fault::Silent]);
    for _ in 0..3 {
        bench.run();
        assert!(!bench.up);
    }
    bench.install = false;
    bench.run();
    assert!(bench.up);
    assert_eq!((bench.running(), bench.failed()), (3, Some("health")));
}

#[test]
fn what_is_not_for_it_is_refused_with_the_word_for_it() {
    let refused = |mut bench: Bench| {
        let offer = bench.vectors.offer(true).to_string();
        bench.run_offer(&offer);
        bench.failed().unwrap()
    };
    assert_eq!(refused(bench_of(secret("garage-door", "A"), 3, &[])), "model");
    assert_eq!(refused(bench_of(secret("lamp", "C"), 3, &[])), "hardware");
    assert_eq!(refused(bench(4, &[])), "older");
    assert_eq!(refused(bench(5, &[])), "older");
    assert_eq!(refused(bench(1, &[])), "step");
    for (member, value) in
        [("rel", json!(9)), ("size", json!(5)), ("sha256", json!("00")), ("certificate", json!("AA")), ("release", json!(""))]
    {
        let mut bench = bench(3, &[]);
        let mut offer = bench.vectors.offer(true);
        offer[member] = value;
        bench.run_offer(&offer.to_string());
        assert_eq!(bench.failed(), Some("signature"), "{member}");
    }
}

impl Bench {
    fn run_offer(&mut self, offer: &str) {
        let events = &mut self.events;
        assert!(self.update.switch_on(&mut |event| events.push(event)).unwrap());
        let mut todo = self.update.signed_in().unwrap();
        todo.extend(self.update.offered(offer.as_bytes()).unwrap());
        self.carry_out(todo);
    }
}

#[test]
fn what_it_has_ever_confirmed_is_never_gone_below() {
    let mut bench = bench(3, &[]);
    bench.run();
    // Somebody puts the old version back on its flash with a cable; what it has confirmed stays.
    let path = bench._state.path().join("lamp-1.firmware/firmware.json");
    let mut content: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    content["rel"] = json!(3);
    std::fs::write(&path, content.to_string()).unwrap();
    bench.events.clear();
    let offer = bench.vectors.offer(true).to_string();
    bench.run_offer(&offer);
    assert_eq!(bench.failed(), Some("older"));
}

#[test]
fn it_waits_with_installing_until_it_is_told_and_drops_what_is_taken_back() {
    let mut bench = bench(3, &[]);
    bench.install = false;
    bench.run();
    assert_eq!(bench.states(), ["idle", "downloading", "downloaded"]);
    assert!(bench.events.contains(&Event::WaitsToInstall));
    let image = bench._state.path().join("lamp-1.firmware/b.img");
    assert!(image.exists());
    let todo = bench.update.offered(b"{}").unwrap();
    bench.carry_out(todo);
    assert!(!image.exists() && bench.update.report()["state"] == "idle");
    bench.install = true;
    bench.run();
    assert_eq!(bench.running(), 4);
}

#[test]
fn an_image_that_does_not_come_up_or_is_no_program_is_rolled_back() {
    for (line, code) in [(r#"{"hearthkey-device":1,"version":"1","starts":false}"#, "health"), ("no program", "health")] {
        let mut bench = bench(3, &[Fault::Power(Step::Installing)]);
        // As if it had been signed so: the image on the flash is changed after it was checked.
        let events = &mut bench.events;
        bench.update.switch_on(&mut |event| events.push(event)).unwrap();
        let offer = bench.vectors.offer(false).to_string();
        let todo = bench.update.offered(offer.as_bytes()).unwrap();
        bench.carry_out(todo);
        std::fs::write(bench._state.path().join("lamp-1.firmware/b.img"), line).unwrap();
        bench.update.put(Fault::Power(Step::Installing), false);
        let offer = bench.vectors.offer(true).to_string();
        let todo = bench.update.offered(offer.as_bytes()).unwrap();
        assert!(!bench.carry_out(todo), "it restarts");
        let events = &mut bench.events;
        assert!(bench.update.switch_on(&mut |event| events.push(event)).unwrap());
        assert_eq!((bench.failed(), bench.update.report()["code"].as_str()), (Some(code), Some(code)));
        assert_eq!(bench.running(), 3);
    }
}

#[test]
fn a_piece_is_taken_in_its_place_alone() {
    let mut bench = bench(3, &[]);
    let offer = bench.vectors.offer(true).to_string();
    let events = &mut bench.events;
    bench.update.switch_on(&mut |event| events.push(event)).unwrap();
    bench.update.offered(offer.as_bytes()).unwrap();
    let wanted = bench.update.wants().unwrap();
    assert_eq!((wanted.offset, wanted.offer.as_str()), (0, bench.vectors.text("/chunk/offer")));
    let framed = |offset: u64, bytes: &[u8]| [&bench.vectors.bytes("/chunk/payload")[..16], &offset.to_be_bytes(), bytes].concat();
    for (what, payload) in [
        ("another place", framed(16_384, &[7; 3])),
        ("nothing", framed(0, &[])),
        ("half a head", vec![1; 20]),
        ("another offer", [&[9u8; 16][..], &[0; 8], &[7; 3]].concat()),
    ] {
        assert_eq!(bench.update.chunk(&payload).unwrap(), None, "{what}");
    }
    let good = framed(0, &[7; 3]);
    assert_eq!(bench.update.chunk(&good).unwrap(), Some(vec![Do::Fetch]));
    assert_eq!(bench.update.wants().unwrap().offset, 3);
    let much = framed(3, &[7; 500]);
    assert!(matches!(bench.update.chunk(&much).unwrap().unwrap()[1], Do::Tell(Event::Failed { code: "size", .. })));
}

#[test]
fn the_stage_of_a_device_is_as_written() {
    let vectors = Vectors::read();
    for stage in vectors.0["stages"].as_array().unwrap() {
        use sha2::{Digest, Sha256};
        let image = HEXLOWER.decode(stage["sha256"].as_str().unwrap().as_bytes()).unwrap();
        let digest = Sha256::digest([stage["device_id"].as_str().unwrap().as_bytes(), &image].concat());
        let number = u64::from_be_bytes(digest[..8].try_into().unwrap());
        assert_eq!(stage["stage"], number % 100);
    }
}

#[test]
fn the_public_file_of_a_brand_gives_its_root() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("brand.json");
    std::fs::write(&path, json!({"root_public_key": BASE64URL_NOPAD.encode(&[5; 32])}).to_string()).unwrap();
    assert_eq!(read_root(&path), Ok([5; 32]));
    std::fs::write(&path, "{}").unwrap();
    assert!(read_root(&path).unwrap_err().contains("brand.json"));
    assert!(read_root(Path::new("/nonexistent")).is_err());
}

#[test]
fn an_image_says_in_its_first_line_what_to_be() {
    let image = Program::image("1.5.0", 5_000);
    assert_eq!(image.len(), 5_000);
    let program = Program::of(&image).unwrap();
    assert!(program.healthy && program.starts && !program.silent && program.version == "1.5.0");
    assert_eq!(Program::of(b"{}"), None);
    assert_eq!(Program::of(b""), None);
}
