//! What a cloud does when a hub dies: it keeps the bundle, hands it to whoever has the code, and takes the next epoch.

use super::{Cloud, Seen, State};
use hearthkey::domain::mirror::statement::{EpochStatement, LinkStatement, RecoveryRequest};
use serde_json::{Value, json};

/// Status, headers and body.
type Told = (u16, Vec<(&'static str, String)>, Vec<u8>);

/// What is kept for the day on which the hub dies.
#[derive(Default)]
pub(super) struct Kept {
    /// The public half of the recovery code.
    recovery: Option<[u8; 32]>,
    /// The first bundle that came.
    bundle: Option<Vec<u8>>,
    /// That of the newest epoch.
    statement: Option<Vec<u8>>,
    /// Marks that the hub has made.
    pub(super) marks: Vec<Value>,
}

/// A link came: the answer, when it is of a hub that another has taken the place of.
pub(super) fn linked(state: &mut State, link: &LinkStatement) -> Option<Told> {
    if link.epoch < state.epoch {
        return Some(stale(state));
    }
    state.kept.recovery = link.recovery.as_ref().map(|keys| keys.key);
    None
}

fn told(status: u16, value: &Value) -> Told {
    (status, vec![("content-type", "application/json".to_owned())], value.to_string().into_bytes())
}

impl Cloud {
    /// The answer, when it is about a replacement.
    pub(super) fn of_replacement(&self, state: &mut State, seen: &Seen) -> Option<Told> {
        if seen.path.ends_with("/recovery") {
            let asked = state.kept.recovery.and_then(|key| RecoveryRequest::verify(&key, &statement_in(seen, "request")).ok());
            let mine = asked.is_some_and(|asked| asked.cloud == self.public());
            return Some(match state.kept.bundle.as_ref().filter(|_| mine) {
                Some(bundle) => told(200, &json!({"bundle": data_encoding::BASE64URL_NOPAD.encode(bundle), "epoch": state.epoch})),
                None => told(404, &json!({"code": "nothing_to_recover", "detail": "There is nothing to recover with this code"})),
            });
        }
        if seen.path.ends_with("/epoch") {
            let statement = statement_in(seen, "statement");
            let begun = EpochStatement::verify(&state.kept.recovery.unwrap(), &statement).unwrap();
            assert!(begun.epoch > state.epoch);
            (state.mirror_key, state.epoch, state.kept.statement) = (Some(begun.mirror), begun.epoch, Some(statement));
            (state.batch, state.replied) = (0, None);
            state.marks = state.kept.marks.clone();
            return Some(match self.verify(state, seen) {
                Ok(_) => told(200, &json!({"epoch": begun.epoch})),
                Err(fault) => refuse(state, fault),
            });
        }
        let epoch = seen.headers.get("hearthkey-epoch").and_then(|e| e.parse::<u64>().ok()).unwrap_or_default();
        if epoch < state.epoch && state.kept.statement.is_some() {
            return Some(stale(state));
        }
        if seen.path.ends_with("/bundle") && self.verify(state, seen).is_ok() {
            state.kept.bundle.get_or_insert(seen.body.clone());
        }
        None
    }
}

fn statement_in(seen: &Seen, member: &str) -> Vec<u8> {
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    data_encoding::BASE64URL_NOPAD.decode(body[member].as_str().unwrap().as_bytes()).unwrap()
}

/// What a hub is told that another has taken the place of.
fn stale(state: &State) -> (u16, Vec<(&'static str, String)>, Vec<u8>) {
    let statement = state.kept.statement.as_ref().map(|s| data_encoding::BASE64URL_NOPAD.encode(s));
    let problem = json!({"status": 409, "code": "epoch_stale", "detail": "another hub", "statement": statement}).to_string();
    (409, vec![("content-type", "application/problem+json".to_owned())], problem.into_bytes())
}

/// An error that the cloud tells of, and the fault it found.
pub(super) fn refuse(state: &mut State, fault: String) -> (u16, Vec<(&'static str, String)>, Vec<u8>) {
    let problem = json!({"type": "about:blank", "status": 401, "code": "signature", "detail": fault}).to_string();
    state.faults.push(fault);
    (401, vec![("content-type", "application/problem+json".to_owned())], problem.into_bytes())
}
