//! A cloud as a test wants it: a real TLS server that speaks HTTP/1.1, signs its replies as the protocol has it, and
//! answers otherwise when it is told to. What it knows of the protocol comes from `docs/protocol/mirror.md`.

mod replaced;

use replaced::refuse;

use crate::house::HERE;
use ed25519_dalek::SigningKey;
use hearthkey::domain::ids::HubId;
use hearthkey::domain::mirror::signature::{self, Headers, RequestParts, SignedHeaders};
use hearthkey::domain::mirror::statement::LinkStatement;
use hearthkey::domain::mirror::wire::SyncRequest;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto::ring};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// How one request is answered instead of as usual.
pub enum Answer {
    /// Signed, as the cloud does.
    Signed(u16, Value),
    /// Signed, with more headers.
    With(u16, Vec<(&'static str, String)>, Value),
    /// Not signed.
    Unsigned(u16, Vec<(&'static str, String)>, String),
    /// Signed by another key, which says that it is the cloud's.
    Forged(SigningKey),
    /// The usual answer, to the request before.
    Replayed,
    /// The usual thing is done, and its answer is cut after so many bytes of its body.
    Cut(usize),
    /// No answer; the connection ends.
    Nothing,
}

/// What the cloud is asked to answer differently, and what it has seen.
#[derive(Default)]
struct State {
    mirror_key: Option<[u8; 32]>,
    epoch: u64,
    batch: u64,
    /// The last answer, by its batch: given again when the batch comes again.
    replied: Option<(u64, Value)>,
    cursor: u64,
    /// Items that come down, by their cursor.
    items: Vec<Value>,
    marks: Vec<Value>,
    /// For the next requests whose method and path contain this.
    instead: VecDeque<(&'static str, Answer)>,
    files: BTreeMap<String, Vec<u8>>,
    /// What is told of releases.
    fw: Option<Value>,
    kept: replaced::Kept,
    wait_s: u64,
    max_bytes: u64,
    last_signature: String,
    /// It has forgotten hubs, and hubs that are ahead of it are no fault.
    forgetful: bool,
    faults: Vec<String>,
}

pub struct Cloud {
    pub address: SocketAddr,
    pub ca_file: PathBuf,
    pub key: SigningKey,
    state: Arc<Mutex<State>>,
    seen: watch::Sender<Vec<Seen>>,
    cursor: watch::Sender<u64>,
    streams: watch::Sender<usize>,
    cut_streams: watch::Sender<u64>,
    held: watch::Sender<Option<&'static str>>,
    brought: watch::Sender<u64>,
    _dir: TempDir,
    _end: DropGuard,
}

/// When a test's certificate is valid, in days from now.
#[derive(Clone, Copy)]
pub struct Days(pub i64, pub i64);

impl Cloud {
    pub async fn start() -> Arc<Cloud> {
        Cloud::valid(Days(-1, 90)).await
    }

    /// A cloud whose certificate is valid at these days.
    pub async fn valid(days: Days) -> Arc<Cloud> {
        let dir = tempfile::tempdir().unwrap();
        let (ca_pem, acceptor) = certificate(days);
        let ca_file = dir.path().join("authority.pem");
        std::fs::write(&ca_file, ca_pem).unwrap();
        let listener = TcpListener::bind(SocketAddr::new(HERE, 0)).await.unwrap();
        let end = CancellationToken::new();
        let cloud = Arc::new(Cloud {
            address: listener.local_addr().unwrap(),
            ca_file,
            key: SigningKey::from_bytes(&[7; 32]),
            state: Arc::new(Mutex::new(State { wait_s: 3_600, max_bytes: 1024 * 1024, ..State::default() })),
            seen: watch::Sender::new(Vec::new()),
            cursor: watch::Sender::new(0),
            streams: watch::Sender::new(0),
            cut_streams: watch::Sender::new(0),
            held: watch::Sender::new(None),
            brought: watch::Sender::new(0),
            _dir: dir,
            _end: end.clone().drop_guard(),
        });
        let weak = Arc::downgrade(&cloud);
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    () = end.cancelled() => return,
                    Ok((stream, _)) = listener.accept() => stream,
                };
                let (weak, acceptor, end) = (weak.clone(), acceptor.clone(), end.clone());
                tokio::spawn(async move {
                    let serving = async {
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        let Some(cloud) = weak.upgrade() else { return };
                        let _ = cloud.serve(stream).await;
                    };
                    tokio::select! { () = end.cancelled() => {}, () = serving => {} }
                });
            }
        });
        cloud
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    pub fn public(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// The next request whose `METHOD path` contains this is answered so.
    pub fn instead(&self, of: &'static str, answer: Answer) {
        self.state.lock().unwrap().instead.push_back((of, answer));
    }

    /// Knows nothing of any hub any more, and expects the first batch of the one that links next.
    pub fn forget(&self) {
        let mut state = self.state.lock().unwrap();
        (state.mirror_key, state.epoch, state.batch, state.replied) = (None, 0, 0, None);
        state.forgetful = true;
    }

    fn has_forgotten(&self) -> bool {
        let state = self.state.lock().unwrap();
        state.forgetful && state.mirror_key.is_none()
    }

    /// Bytes of a request at most, as it is told with each answer.
    pub fn takes(&self, bytes: u64) {
        self.state.lock().unwrap().max_bytes = bytes;
    }

    /// Requests for a part that begins so are answered only after [`Cloud::release`].
    pub fn hold(&self, range: &'static str) {
        self.held.send_replace(Some(range));
    }

    pub fn release(&self) {
        self.held.send_replace(None);
    }

    /// Waits until an answer with everything up to this cursor has gone out.
    pub async fn brought(&self, cursor: u64) {
        let mut brought = self.brought.subscribe();
        tokio::time::timeout(PATIENCE, brought.wait_for(|at| *at >= cursor)).await.expect("nobody came for it").unwrap();
    }

    /// Something comes down; whoever listens is woken.
    pub fn item(&self, id: &str, kind: &str, body: Value) {
        let mut state = self.state.lock().unwrap();
        state.cursor += 1;
        let item = json!({"cursor": state.cursor, "id": id, "kind": kind, "body": body});
        state.items.push(item);
        self.cursor.send_replace(state.cursor);
    }

    /// A batch waits for the hub.
    pub fn offer(&self, id: &str, brand: &str, content: Vec<u8>, devices: u64) {
        let sha256 = data_encoding::HEXLOWER.encode(&Sha256::digest(&content));
        let body = json!({"brand": brand, "id": id, "bytes": content.len(), "sha256": sha256, "devices": devices});
        self.state.lock().unwrap().files.insert(id.to_owned(), content);
        self.item(id, "batch", body);
    }

    /// A batch is announced, and something else lies there.
    pub fn offer_other(&self, id: &str, brand: &str, announced: Vec<u8>, there: Vec<u8>) {
        let sha256 = data_encoding::HEXLOWER.encode(&Sha256::digest(&announced));
        let body = json!({"brand": brand, "id": id, "bytes": there.len(), "sha256": sha256, "devices": 1});
        self.state.lock().unwrap().files.insert(id.to_owned(), there);
        self.item(id, "batch", body);
    }

    /// Tells of a release, in place of those before, and has this file for it; the hub hears it with its next exchange.
    pub fn tells_release(&self, (model, rel, percent): (&str, u64, u8), file: Vec<u8>) {
        let sha256 = data_encoding::HEXLOWER.encode(&Sha256::digest(&file));
        let mut state = self.state.lock().unwrap();
        let n = state.fw.as_ref().map_or(1, |fw| fw["n"].as_u64().unwrap() + 1);
        let offer = json!({"brand": "acme", "model": model, "rel": rel, "sha256": sha256, "size": file.len(), "percent": percent});
        state.fw = Some(json!({"n": n, "releases": [offer]}));
        state.files.insert(sha256, file);
    }

    /// Waits for a request that is so, among all that have ever come.
    pub async fn until(&self, what: &str, is: impl Fn(&Seen) -> bool) -> Seen {
        self.nth(what, 1, is).await
    }

    /// Waits for the `n`th request that is so.
    pub async fn nth(&self, what: &str, n: usize, is: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.subscribe();
        let waiting = seen.wait_for(|all| all.iter().filter(|one| is(one)).count() >= n);
        let all = tokio::time::timeout(PATIENCE, waiting).await;
        let all = all.unwrap_or_else(|_| panic!("{what} did not come; faults: {:?}", self.state.lock().unwrap().faults)).unwrap();
        all.iter().filter(|one| is(one)).nth(n - 1).unwrap().clone()
    }

    /// The requests that have come so far.
    pub fn all(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// Waits until a wake-up stream stands.
    pub async fn listened_to(&self) {
        let mut streams = self.streams.subscribe();
        tokio::time::timeout(PATIENCE, streams.wait_for(|n| *n > 0)).await.expect("nobody listens").unwrap();
    }

    /// Ends all wake-up streams, and waits until they have.
    pub async fn cut_streams(&self) {
        self.cut_streams.send_modify(|n| *n += 1);
        let mut streams = self.streams.subscribe();
        streams.wait_for(|n| *n == 0).await.unwrap();
    }

    /// What was wrong with the hub's requests.
    pub fn faults(&self) -> Vec<String> {
        self.state.lock().unwrap().faults.clone()
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: S) -> std::io::Result<()> {
        let mut buffer = Vec::new();
        while let Some(seen) = read_request(&mut stream, &mut buffer).await? {
            let place = format!("{} {}", seen.method, seen.path);
            let instead = {
                let mut state = self.state.lock().unwrap();
                let at = state.instead.iter().position(|(of, _)| place.contains(of));
                at.and_then(|at| state.instead.remove(at)).map(|(_, answer)| answer)
            };
            // Whoever sees it may say how the next one is answered.
            self.seen.send_modify(|all| all.push(seen.clone()));
            let mut held = self.held.subscribe();
            let waits = |held: &Option<&'static str>| held.is_some_and(|of| seen.range().starts_with(of));
            let _ = held.wait_for(|held| !waits(held)).await;
            let asked = seen.headers.get("signature").cloned().unwrap_or_default();
            // Whom it has forgotten it tells so, whatever is asked for.
            if instead.is_none() && seen.path.contains("/wake?cursor=") && !self.has_forgotten() {
                return self.stream(stream, &seen, &asked).await;
            }
            if !self.answer(&mut stream, &seen, &asked, instead).await? {
                return stream.shutdown().await;
            }
        }
        Ok(())
    }

    /// Whether the connection goes on.
    async fn answer<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        seen: &Seen,
        asked: &str,
        instead: Option<Answer>,
    ) -> std::io::Result<bool> {
        let last = std::mem::replace(&mut self.state.lock().unwrap().last_signature, asked.to_owned());
        let (status, mut headers, body, by, to, cut) = match instead {
            Some(Answer::Nothing) => return Ok(false),
            Some(Answer::Unsigned(status, headers, body)) => {
                stream.write_all(&head(status, &headers, body.len())).await?;
                stream.write_all(body.as_bytes()).await?;
                return Ok(true);
            }
            Some(Answer::Signed(status, body)) => (status, Vec::new(), body.to_string().into_bytes(), None, asked.to_owned(), None),
            Some(Answer::With(status, headers, body)) => (status, headers, body.to_string().into_bytes(), None, asked.to_owned(), None),
            Some(Answer::Forged(key)) => {
                let (status, headers, body) = self.usual(seen);
                (status, headers, body, Some(key), asked.to_owned(), None)
            }
            Some(Answer::Replayed) => {
                let (status, headers, body) = self.usual(seen);
                (status, headers, body, None, last, None)
            }
            Some(Answer::Cut(after)) => {
                let (status, headers, body) = self.usual(seen);
                (status, headers, body, None, asked.to_owned(), Some(after))
            }
            None => {
                let (status, headers, body) = self.usual(seen);
                (status, headers, body, None, asked.to_owned(), None)
            }
        };
        let signed = signature::sign_reply(by.as_ref().unwrap_or(&self.key), status, &body, &to, now_s());
        headers.extend(as_headers(&signed));
        stream.write_all(&head(status, &headers, body.len())).await?;
        let sent = &body[..cut.unwrap_or(body.len()).min(body.len())];
        stream.write_all(sent).await?;
        stream.flush().await?;
        Ok(cut.is_none())
    }

    /// What the cloud answers as a rule.
    fn usual(&self, seen: &Seen) -> (u16, Vec<(&'static str, String)>, Vec<u8>) {
        let json =
            |status: u16, value: Value| (status, vec![("content-type", "application/json".to_owned())], value.to_string().into_bytes());
        if seen.path == "/v1" {
            return json(200, self.view());
        }
        let mut state = self.state.lock().unwrap();
        if (seen.method.as_str(), seen.path.as_str()) == ("POST", "/v1/hubs") {
            let text: Value = serde_json::from_slice(&seen.body).unwrap();
            let statement = data_encoding::BASE64URL_NOPAD.decode(text["link"].as_str().unwrap().as_bytes()).unwrap();
            let link = LinkStatement::read(&statement).unwrap();
            if let Some(told) = replaced::linked(&mut state, &link) {
                return told;
            }
            (state.mirror_key, state.epoch) = (Some(link.mirror), link.epoch);
            let answer = json!({"hub": link.hub().to_string(), "epoch": link.epoch, "wait_s": state.wait_s, "max_bytes": state.max_bytes});
            return match self.verify(&state, seen) {
                Ok(_) => json(201, answer),
                Err(fault) => refuse(&mut state, fault),
            };
        }
        if let Some(told) = self.of_replacement(&mut state, seen) {
            return told;
        }
        if state.forgetful && state.mirror_key.is_none() {
            return json(404, json!({"code": "not_linked", "detail": "no hub of this name"}));
        }
        if let Err(fault) = self.verify(&state, seen) {
            return refuse(&mut state, fault);
        }
        let ahead = seen.path.ends_with("/sync") && seen.sync().batch > state.batch + 1;
        if ahead && state.forgetful {
            return json(409, json!({"code": "resync", "batch": state.batch + 1}));
        }
        if seen.path.ends_with("/sync") {
            let answer = sync(&mut state, seen);
            self.brought.send_replace(answer["cursor"].as_u64().unwrap());
            return json(200, answer);
        }
        if let Some((_, id)) = seen.path.split_once("/batches/").or_else(|| seen.path.split_once("/firmware/")) {
            let file = state.files.get(id).unwrap();
            let range = seen.headers["range"].strip_prefix("bytes=").unwrap();
            let (first, last) = range.split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            let headers = vec![("content-range", format!("bytes {first}-{last}/{}", file.len()))];
            return (206, headers, file[first..=last].to_vec());
        }
        json(200, json!({}))
    }

    /// Whether a request is signed by the hub that has linked.
    fn verify(&self, state: &State, seen: &Seen) -> Result<HubId, String> {
        let key = state.mirror_key.ok_or("no hub has linked")?;
        let header = |name: &str| seen.headers.get(name).map(String::as_str).unwrap_or_default();
        let target_uri = format!("{}{}", self.url(), seen.path);
        let epoch = header("hearthkey-epoch").parse().unwrap_or(0);
        let parts = RequestParts { method: &seen.method, target_uri: &target_uri, body: &seen.body, epoch };
        let signed = Headers {
            content_digest: header("content-digest"),
            signature_input: header("signature-input"),
            signature: header("signature"),
        };
        if epoch != state.epoch {
            return Err(format!("{} {}: epoch {epoch} and not {}", seen.method, seen.path, state.epoch));
        }
        signature::verify_request(&key, &parts, &signed).map(|v| v.hub).map_err(|e| format!("{} {}: {e}", seen.method, seen.path))
    }

    fn view(&self) -> Value {
        let key = self.public();
        json!({"v": 1, "name": "Test cloud", "region": "eu", "key": data_encoding::BASE64URL_NOPAD.encode(&key),
            "fingerprint": signature::fingerprint(&key), "url": self.url(), "regions": {"eu": self.url()}, "brands": [], "linking": "open"})
    }

    async fn stream<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: S, seen: &Seen, asked: &str) -> std::io::Result<()> {
        let fault = self.verify(&self.state.lock().unwrap(), seen).err();
        if let Some(fault) = fault {
            self.state.lock().unwrap().faults.push(fault);
            return Ok(());
        }
        let from: u64 = seen.path.rsplit_once('=').unwrap().1.parse().unwrap();
        let mut headers = vec![("content-type", "text/event-stream".to_owned())];
        headers.extend(as_headers(&signature::sign_reply(&self.key, 200, b"", asked, now_s())));
        let mut lines = String::from("HTTP/1.1 200 OK\r\n");
        headers.iter().for_each(|(name, value)| lines += &format!("{name}: {value}\r\n"));
        stream.write_all(format!("{lines}\r\n: hello\n\n").as_bytes()).await?;
        stream.flush().await?;
        let (mut cursor, mut cut) = (self.cursor.subscribe(), self.cut_streams.subscribe());
        cut.mark_unchanged();
        self.streams.send_modify(|n| *n += 1);
        let mut told = from;
        let talking = async {
            loop {
                let there = *cursor.borrow_and_update();
                if there > told {
                    told = there;
                    stream.write_all(format!("event: cursor\ndata: {there}\n\n").as_bytes()).await?;
                    stream.flush().await?;
                }
                if cursor.changed().await.is_err() {
                    return std::io::Result::Ok(());
                }
            }
        };
        let ended = tokio::select! { ended = talking => ended, _ = cut.changed() => Ok(()) };
        self.streams.send_modify(|n| *n -= 1);
        ended
    }
}

impl Seen {
    /// Whether it is a sync.
    pub fn is_sync(&self) -> bool {
        self.method == "POST" && self.path.ends_with("/sync")
    }

    /// The body, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The range that is asked for; empty for none.
    pub fn range(&self) -> String {
        self.headers.get("range").cloned().unwrap_or_default()
    }

    pub fn sync(&self) -> SyncRequest {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn sync(state: &mut State, seen: &Seen) -> Value {
    let request = seen.sync();
    if let Some((batch, answer)) = &state.replied
        && *batch == request.batch
    {
        return answer.clone();
    }
    if request.batch != state.batch + 1 {
        state.faults.push(format!("batch {} after {}", request.batch, state.batch));
    }
    state.batch = request.batch;
    state.kept.marks.extend(request.revoke.iter().map(|mark| serde_json::to_value(mark).unwrap()));
    let items: Vec<&Value> = state.items.iter().filter(|item| item["cursor"].as_u64().unwrap() > request.cursor).collect();
    let mut answer = json!({"ack": request.batch, "cursor": state.cursor, "more": false, "revoke": state.marks, "items": items,
        "resync": [], "wait_s": state.wait_s, "max_bytes": state.max_bytes});
    if let Some(fw) = state.fw.as_ref().filter(|fw| fw["n"].as_u64() != request.fw) {
        answer["fw"] = fw.clone();
    }
    state.replied = Some((request.batch, answer.clone()));
    answer
}

fn as_headers(signed: &SignedHeaders) -> Vec<(&'static str, String)> {
    vec![
        ("content-digest", signed.content_digest.clone()),
        ("signature-input", signed.signature_input.clone()),
        ("signature", signed.signature.clone()),
    ]
}

pub(super) fn head(status: u16, headers: &[(&'static str, String)], length: usize) -> Vec<u8> {
    let mut lines = format!("HTTP/1.1 {status} As told\r\ncontent-length: {length}\r\n");
    headers.iter().for_each(|(name, value)| lines += &format!("{name}: {value}\r\n"));
    (lines + "\r\n").into_bytes()
}

pub(super) async fn read_request<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> std::io::Result<Option<Seen>> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
    buffer.drain(..end + 4);
    let mut lines = head.lines();
    let mut first = lines.next().unwrap().split(' ');
    let (method, path) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
    let split = |line: &str| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let headers: BTreeMap<String, String> = lines.filter_map(split).collect();
    let length: usize = headers.get("content-length").map_or(0, |value| value.parse().unwrap());
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    let body = buffer.drain(..length).collect();
    Ok(Some(Seen { method, path, headers, body }))
}

/// An authority of its own, and a server of `localhost` under it.
pub fn certificate(Days(first, last): Days) -> (String, TlsAcceptor) {
    let day = |days: i64| {
        let then = i64::try_from(now_s()).unwrap() + days * 86_400;
        jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::from_second(then).unwrap()).date()
    };
    let date = |days: i64| {
        let date = day(days);
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (leaf.not_before, leaf.not_after) = (date(first), date(last));
    let leaf = leaf.signed_by(&key, &rcgen::Issuer::new(ca, ca_key)).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(leaf.der().to_vec())], key)
        .unwrap();
    (ca_pem, TlsAcceptor::from(Arc::new(config)))
}

#[expect(clippy::disallowed_methods, reason = "the cloud of a test has the machine's clock")]
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
