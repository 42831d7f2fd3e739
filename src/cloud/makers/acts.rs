//! What was done in the cloud, and by whom: the hub's form of audit, one chain of hashes in each of the region's
//! databases. An act is written in the transaction that does it. What is personal or free text stands beside the chain.

use crate::domain::audit::chain::{Broken, Verdict, Why};
use crate::domain::audit::{Beside, Entry, Event, Outcome, Recorded};
use tokio_postgres::{Client, Error, Transaction};

/// Entries that a page shows, and that are followed at a time.
const PAGE: i64 = 500;

/// Who does something, and from where.
#[derive(Clone, Debug)]
pub struct Doer {
    /// `service:<id>`, `vendor:<id>`, `operator`, `cloud`, `hub:<id>`, or `?` and the name that was tried.
    pub who: String,
    /// The maker that it is done for; empty when it is nobody's.
    pub brand: String,
    /// Through what, with the address: `https 192.0.2.1`, `console`.
    pub via: String,
}

impl Doer {
    /// The operator, at the machine itself.
    #[must_use]
    pub fn operator() -> Doer {
        Doer { who: "operator".to_owned(), brand: String::new(), via: "console".to_owned() }
    }

    /// The cloud of its own accord, for the devices of a brand.
    #[must_use]
    pub fn cloud(brand: &str) -> Doer {
        Doer { who: "cloud".to_owned(), brand: brand.to_owned(), via: String::new() }
    }

    /// The same for another brand.
    #[must_use]
    pub fn of(mut self, brand: &str) -> Doer {
        brand.clone_into(&mut self.brand);
        self
    }

    /// It did that.
    #[must_use]
    pub fn did(&self, action: &str, object: impl Into<String>, detail: impl Into<String>) -> Act {
        self.act(action, object, Outcome::Done, "", detail)
    }

    /// It was refused that.
    #[must_use]
    pub fn denied(&self, action: &str, object: impl Into<String>, reason: &str) -> Act {
        self.act(action, object, Outcome::Denied, reason, "")
    }

    fn act(&self, action: &str, object: impl Into<String>, outcome: Outcome, reason: &str, detail: impl Into<String>) -> Act {
        let event = Event {
            actor: self.who.clone(),
            behalf: String::new(),
            action: action.to_owned(),
            object: object.into(),
            outcome,
            reason: reason.to_owned(),
            detail: detail.into(),
            via: self.via.clone(),
        };
        Act { brand: self.brand.clone(), event }
    }
}

/// Something done, before it has its place in the chain.
#[derive(Clone, Debug)]
pub struct Act {
    brand: String,
    event: Event,
}

/// Writes an act into the chain of this database. Whoever writes waits for whoever does: the chain has one end.
///
/// # Errors
/// The database's.
pub async fn append(tx: &Transaction<'_>, now_ms: u64, act: Act) -> Result<(), Error> {
    let head = tx.query_one("SELECT seq, hash FROM acts_head FOR UPDATE", &[]).await?;
    let (seq, hash): (i64, Vec<u8>) = (head.get(0), head.get(1));
    let last = <[u8; 32]>::try_from(hash.as_slice()).ok().map(|hash| (seq.unsigned_abs(), hash));
    let mut salt = [0; 16];
    // Without randomness nothing else here would have come this far; what is beside the chain is then only guessable.
    let _ = getrandom::fill(&mut salt);
    let (entry, beside) = Entry::after(last, now_ms, act.event, salt);
    let seq = entry.seq.cast_signed();
    let (bytes, side) = (cbor(&entry), beside.as_ref().map(cbor));
    tx.execute(
        "INSERT INTO acts (seq, entry, beside, brand, at) VALUES ($1, $2, $3, $4, $5)",
        &[&seq, &bytes, &side, &act.brand, &now_ms.cast_signed()],
    )
    .await?;
    tx.execute("UPDATE acts_head SET seq = $1, hash = $2", &[&seq, &entry.hash.as_slice()]).await?;
    Ok(())
}

/// Follows the whole chain of a database, in bounded memory.
///
/// # Errors
/// The database's; the inner error is where the chain does not hold.
pub async fn verify(client: &Client) -> Result<Result<Verdict, Broken>, Error> {
    let head = client.query_one("SELECT seq, hash FROM acts_head", &[]).await?;
    let noted: (i64, Vec<u8>) = (head.get(0), head.get(1));
    let (mut last, mut seen) = (None, Verdict::default());
    loop {
        let from = last.map_or(0, |(seq, _): (u64, [u8; 32])| seq.cast_signed());
        let rows = client.query("SELECT entry, beside FROM acts WHERE seq > $1 ORDER BY seq LIMIT $2", &[&from, &PAGE]).await?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            let next = last.map_or(1, |(seq, _)| seq + 1);
            let (entry, beside) = (read::<Entry>(row.get(0)), row.get::<_, Option<Vec<u8>>>(1).map(|bytes| read::<Beside>(&bytes)));
            let (Some(entry), Ok(beside)) = (entry, beside.map(|b| b.ok_or(())).transpose()) else {
                return Ok(Err(Broken { seq: next, why: Why::Changed }));
            };
            if !entry.follows(last) {
                return Ok(Err(Broken { seq: next, why: if entry.seq > next { Why::Missing } else { Why::Changed } }));
            }
            if !entry.fits(beside.as_ref()) {
                return Ok(Err(Broken { seq: next, why: Why::Beside }));
            }
            last = Some((entry.seq, entry.hash));
            seen.entries += 1;
            seen.erased += u64::from(beside.is_none() && entry.beside != [0; 32]);
            seen.first.get_or_insert(entry.seq);
            seen.newest = last;
        }
    }
    let end = last.map_or((0, Vec::new()), |(seq, hash)| (seq.cast_signed(), hash.to_vec()));
    // Something may have been written since the end was looked up: then the chain is longer, never shorter.
    if end.0 < noted.0 || (end.0 == noted.0 && end.1 != noted.1) {
        return Ok(Err(Broken { seq: seen.newest.map_or(1, |(seq, _)| seq + 1), why: Why::End }));
    }
    Ok(Ok(seen))
}

/// The newest acts of a brand in this database before a time (ms since 1970), newest first.
///
/// # Errors
/// The database's.
pub async fn page(client: &Client, brand: &str, before: u64, limit: i64) -> Result<Vec<Recorded>, Error> {
    let (before, limit) = (before.cast_signed(), limit.clamp(1, PAGE));
    let rows = client
        .query(
            "SELECT entry, beside FROM acts WHERE brand = $1 AND at < $2 ORDER BY at DESC, seq DESC LIMIT $3",
            &[&brand, &before, &limit],
        )
        .await?;
    let recorded = rows.iter().filter_map(|row| {
        let beside = row.get::<_, Option<Vec<u8>>>(1).and_then(|bytes| read::<Beside>(&bytes));
        read::<Entry>(row.get(0)).map(|entry| entry.joined(beside))
    });
    Ok(recorded.collect())
}

fn cbor<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Texts, numbers and byte strings always have a form.
    let _ = ciborium::into_writer(value, &mut bytes);
    bytes
}

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    ciborium::from_reader(bytes).ok()
}
