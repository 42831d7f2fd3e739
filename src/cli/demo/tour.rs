//! The tours: each is a list of steps, each of which says what it does, does it, and checks what came back. A step that is
//! broken on purpose works with something wrong, and the tour must fail there.

#[cfg(feature = "cloud")]
use super::away;
use super::http::{Answer, Http};
use super::life;
#[cfg(feature = "sim")]
use super::nearby;
use super::people;
use super::stage::{Chosen, Stage, TemporaryDir};
use super::steps;
use crate::sim::device::Event;
use anyhow::{Context, anyhow, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Longest that a step waits for a device to do something.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a step does; the flag breaks it.
type Act = for<'a> fn(&'a mut Story, bool) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send + 'a>>;

/// One step.
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    act: Act,
}

/// Which story is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Tour {
    /// From the factory to an open door: identities, the claim, what is refused, a power cut.
    Devices,
    /// Who may use it: a guest, a remote, an app, support, revocation, a clone.
    People,
    /// The life of things: a device becomes its next version, and nothing that is bad or old.
    Life,
    /// A cloud brings identities; the link is cut and mended; a destroyed hub is replaced. Needs a build with the feature `cloud`.
    Cloud,
    /// A device nearby is paired over Bluetooth, and what only looks like it is refused. Needs a build with the feature `sim`.
    Ble,
}

impl Tour {
    /// Its steps in their order.
    pub(super) fn steps(self) -> &'static [Step] {
        match self {
            Tour::Devices => DEVICES,
            Tour::People => PEOPLE,
            Tour::Life => LIFE,
            #[cfg(feature = "cloud")]
            Tour::Cloud => AWAY,
            #[cfg(not(feature = "cloud"))]
            Tour::Cloud => &[],
            #[cfg(feature = "sim")]
            Tour::Ble => NEARBY,
            #[cfg(not(feature = "sim"))]
            Tour::Ble => &[],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Tour::Devices => "devices",
            Tour::People => "people",
            Tour::Life => "life",
            Tour::Ble => "ble",
            Tour::Cloud => "cloud",
        }
    }

    /// The feature of the build without which it cannot be told.
    fn needs(self) -> &'static str {
        if self == Tour::Ble { "sim" } else { "cloud" }
    }
}

macro_rules! steps {
    ($list:ident in $room:ident: $($name:literal, $title:literal, $act:ident;)*) => {
        const $list: &[Step] =
            &[$(Step { name: $name, title: $title, act: |story, broken| Box::pin($room::$act(story, broken)) }),*];
    };
}

steps! { PEOPLE in people:
    "house", "A hub, an owner, and three claimed devices", house;
    "invitation", "A link makes Gus a guest who may open the garage door, and nothing else of it", invitation;
    "window", "He may on some days of the week; on the others the hub says why not", window;
    "remote", "A switch by the door may open it, and only that", remote;
    "app", "A program may look at the door, over REST and MQTT, until its token is ended", app;
    "support", "The maker's support sees the door only while the owner lets it in", support;
    "revocation", "A right is taken away while messages stream", revocation;
    "roaming", "The lamp changes its network again and again, and is not taken for a clone", roaming;
    "clone", "Two things with the door's identity: quarantined, with evidence, and let out by the owner", clone;
    "audit", "The audit shows who did what through what, and is whole", audit;
}

// The hub's own updates and its backups come before "audit".
steps! { LIFE in life:
    "house", "A hub, an owner, and a claimed garage door that takes firmware of its maker", house;
    "update", "The maker signs a release; the owner brings the file, no cloud is asked; the door becomes the next version", update;
    "resumed", "The door loses its power in the middle of a download, and goes on at the byte it has", resumed;
    "bad-image", "A changed image is refused by the hub; one that is not well is given up by the door", bad;
    "old-image", "What is older is neither signed again nor offered", old;
    "audit", "The audit shows what was taken in, offered, installed, confirmed and given up", audit;
}

#[cfg(feature = "sim")]
steps! { NEARBY in nearby:
    "house", "A hub with a Bluetooth adapter, and an owner", house;
    "nearby", "The hub hears a garage door and a stock plug nearby, and neither tells who it is", nearby;
    "wrong-code", "A mistyped code and another device's code are refused before anything is sent", wrong_code;
    "power-cut", "The door's power goes while it is being paired: both sides are as they were", power_cut;
    "pair", "The code on the label pairs the door, which proves its key and signs in", pair_door;
    "open", "The owner opens the door", open;
    "copy", "A thing that knows the lamp's code and lacks its key is refused", copy;
    "elsewhere", "Somebody else with the door's code does not get it, and is not told whose it is", elsewhere;
    "reset", "Reset by hand, the door goes to whoever pairs it next, and the former owner's right has ended", reset;
    "stock", "A stock plug gets its Wi-Fi by Improv, and a credential of its own for MQTT", stock;
    "audit", "The audit shows what was paired, refused, reset and added", audit;
}

#[cfg(feature = "cloud")]
steps! { AWAY in away:
    "cloud", "A cloud with a PostgreSQL of its own takes the maker's brand and the identities of three devices", cloud;
    "link", "A hub starts; its owner gets a recovery code, compares the cloud's fingerprint, and links it", link;
    "identities", "The maker says which hub they are for; the hub recognises them, and they wait to be claimed", identities;
    "claim", "The door and the lamp are claimed, Gus gets a part of both, and the owner switches the lamp on from away", claim;
    "master", "The cloud asks for the door, to which no owner has agreed: the hub refuses", master;
    "cut", "The line is cut: at home a claim, an open door, a right taken away; from away another right is taken away", cut;
    "agree", "The line is mended: both agree, and what was taken away on either side stays away", agree;
    "destroyed", "The hub is killed and thrown away", destroyed;
    "replaced", "Another box takes its place by the recovery code; the devices are back, and nothing is paired again", replaced;
    "old-hub", "The old box comes back from the dead, is told, and serves nobody", old_hub;
    "audit", "The audit of the house and of the cloud shows it all", audit;
}

steps! { DEVICES in steps:
    "factory", "The maker founds a brand, signs three models, and gives three devices their identities", factory;
    "import", "A hub starts for the first time; the maker makes a batch for it alone; the hub takes it", import;
    "unknown", "A device that the registry does not know is refused", unknown;
    "wrong-key", "A device that claims a known id with another key is refused", wrong_key;
    "replay", "A token that was overheard and sent again is refused", replay;
    "waits", "The garage door signs in, meets its twin, and waits to be claimed", waits;
    "owner", "A person creates the owner account with the one-time code", owner;
    "wrong-code", "A wrong claim code is refused", wrong_code;
    "claim", "The code on the label binds the door to its owner", claim;
    "open", "The owner opens the door and sees it move", open;
    "foreign-topic", "Another device cannot speak or listen in the door's room", foreign_topic;
    "second-account", "A second account sees nothing of it", second_account;
    "power-cut", "The hub is killed and started again: nothing is lost", power_cut;
    "audit", "The audit shows it all", audit;
}

/// What the steps hand on to each other.
pub(super) struct Story {
    say: Box<dyn Write + Send>,
    pub(super) dir: Option<TemporaryDir>,
    pub(super) ports: Chosen,
    pub(super) batch: PathBuf,
    pub(super) stage: Option<Stage>,
    pub(super) http: Option<Http>,
    pub(super) owner: String,
    pub(super) owner_id: String,
    pub(super) door: String,
    pub(super) spent_token: String,
    /// What the steps of a tour leave for later ones: tokens and ids, by a name of their own.
    pub(super) kept: BTreeMap<&'static str, String>,
    pub(super) events: mpsc::Receiver<(String, Event)>,
    pub(super) sender: mpsc::Sender<(String, Event)>,
    /// What is in the air.
    #[cfg(feature = "sim")]
    pub(super) near: Option<nearby::Near>,
    /// The cloud.
    #[cfg(feature = "cloud")]
    pub(super) region: Option<away::region::Region>,
}

/// Runs all steps, or up to the first that fails. True when every step passed.
///
/// # Errors
/// When the terminal cannot be written, or `broken` names no step.
pub(super) async fn run(tour: Tour, broken: Option<&str>, out: &mut (dyn Write + Send)) -> anyhow::Result<bool> {
    if tour.steps().is_empty() {
        bail!("this build cannot tell it: cargo run --release --features {} -- demo --tour={}", tour.needs(), tour.name());
    }
    if let Some(name) = broken
        && !tour.steps().iter().any(|s| s.name == name)
    {
        bail!("there is no step {name}; `hearthkey demo --tour={} --list-steps` names them", tour.name());
    }
    let (sender, events) = mpsc::channel(1024);
    let dir = TemporaryDir::new()?;
    let mut story = Story {
        say: Box::new(std::io::stdout()),
        ports: super::stage::choose(super::stage::Ports::Free)?,
        batch: PathBuf::new(),
        stage: None,
        http: None,
        owner: String::new(),
        owner_id: String::new(),
        door: String::new(),
        spent_token: String::new(),
        kept: BTreeMap::new(),
        events,
        sender,
        dir: Some(dir),
        #[cfg(feature = "sim")]
        near: None,
        #[cfg(feature = "cloud")]
        region: None,
    };
    let mut interrupt = signal(SignalKind::interrupt())?;
    let start = Instant::now();
    let mut failed = None;
    for (number, step) in tour.steps().iter().enumerate() {
        let is_broken = broken == Some(step.name);
        writeln!(
            out,
            "\n{:>2}/{} {}: {}{}",
            number + 1,
            tour.steps().len(),
            step.name,
            step.title,
            if is_broken { "  [broken on purpose]" } else { "" }
        )?;
        out.flush()?;
        let outcome = tokio::select! {
            outcome = (step.act)(&mut story, is_broken) => outcome,
            _ = interrupt.recv() => Err(anyhow!("interrupted")),
        };
        match outcome {
            Ok(()) => writeln!(out, "   passed")?,
            Err(error) => {
                writeln!(out, "   FAILED: {error:#}")?;
                failed = Some(step.name);
                break;
            }
        }
    }
    // The directory goes with the stage, and the cloud's database is in it.
    #[cfg(feature = "cloud")]
    if let Some(region) = story.region.take() {
        region.end().await?;
    }
    if let Some(stage) = story.stage.take() {
        stage.end().await?;
    }
    let seconds = start.elapsed().as_secs_f32();
    match failed {
        None => writeln!(out, "\nEvery step passed: {} steps in {seconds:.1} s.", tour.steps().len())?,
        Some(name) => writeln!(out, "\nThe tour ended at the step {name} after {seconds:.1} s.")?,
    }
    out.flush()?;
    Ok(failed.is_none())
}

impl Story {
    /// Shows what was sent.
    pub(super) fn sent(&mut self, line: impl AsRef<str>) {
        let _ = writeln!(self.say, "   -> {}", line.as_ref());
    }

    /// Shows what came back.
    pub(super) fn came(&mut self, line: impl AsRef<str>) {
        let _ = writeln!(self.say, "   <- {}", line.as_ref());
    }

    pub(super) fn http(&self) -> anyhow::Result<Http> {
        self.http.clone().context("there is no hub to call")
    }

    #[cfg(feature = "sim")]
    pub(super) fn near(&mut self) -> anyhow::Result<&mut nearby::Near> {
        self.near.as_mut().context("the step before has put nothing near the hub")
    }

    #[cfg(feature = "cloud")]
    pub(super) fn region(&self) -> anyhow::Result<&away::region::Region> {
        self.region.as_ref().context("the step before has started no cloud")
    }

    pub(super) fn stage(&mut self) -> anyhow::Result<&mut Stage> {
        self.stage.as_mut().context("the step before has not built the stage")
    }

    /// A REST call as the owner (or as `token`), shown.
    pub(super) async fn call(&mut self, method: &str, path: &str, token: Option<&str>, body: Option<Value>) -> anyhow::Result<Answer> {
        let http = self.http()?;
        self.sent(format!("{method} /api/v1{path}{}", body.as_ref().map(|b| format!(" {}", shown(b))).unwrap_or_default()));
        let answer = http.call(method, path, token, body).await?;
        let etag = answer.etag.as_ref().map(|e| format!(" ETag {e}")).unwrap_or_default();
        self.came(format!("{}{etag} {}", answer.status, brief(&answer.body)));
        Ok(answer)
    }

    /// The next event of the device with `title` that `pick` takes, shown; others are passed over.
    pub(super) async fn wait_for<T>(&mut self, title: &str, what: &str, pick: impl Fn(&Event) -> Option<T>) -> anyhow::Result<T> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let next = tokio::time::timeout_at(deadline, self.events.recv()).await;
            let Ok(Some((who, event))) = next else { bail!("the {title} did not get to this within 15 s: {what}") };
            if who != title {
                continue;
            }
            self.came(format!("{who}: {event}"));
            if let Some(found) = pick(&event) {
                return Ok(found);
            }
        }
    }
}

#[cfg(feature = "cloud")]
impl Story {
    /// Waits until each device has had an event that `pick` takes, in whatever order, all shown.
    pub(super) async fn wait_for_all(&mut self, titles: &[&str], what: &str, pick: impl Fn(&Event) -> bool) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + 2 * PATIENCE;
        let mut left = titles.to_vec();
        while !left.is_empty() {
            let next = tokio::time::timeout_at(deadline, self.events.recv()).await;
            let Ok(Some((who, event))) = next else { bail!("not within 30 s: {what}: {}", left.join(", ")) };
            self.came(format!("{who}: {event}"));
            left.retain(|title| *title != who || !pick(&event));
        }
        Ok(())
    }
}

/// A body without its secrets.
fn shown(body: &Value) -> String {
    let mut body = body.clone();
    hide(&mut body);
    brief(&body)
}

fn hide(body: &mut Value) {
    for (key, value) in body.as_object_mut().into_iter().flatten() {
        if matches!(key.as_str(), "password" | "passphrase" | "code") {
            *value = "…".into();
        } else {
            hide(value);
        }
    }
}

/// A body on one line, cut, with tokens left out.
fn brief(body: &Value) -> String {
    let mut body = body.clone();
    for secret in ["token", "code", "link", "qr", "secret", "password", "settings"] {
        // A problem has a code that is no secret.
        if let Some(shown) = body.get_mut(secret).filter(|s| s.as_str().is_some_and(|s| s.len() > 20)) {
            *shown = "…".into();
        }
    }
    let text = if body.is_null() { String::new() } else { body.to_string() };
    if text.chars().count() > 260 { format!("{}…", text.chars().take(260).collect::<String>()) } else { text }
}
