//! The accept loop under clients that connect too often, stay silent, or never leave.

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::super::tls::Protocol;
use super::super::tls::tests::{House, NOW};
use super::*;

/// Longer than any test may take; a test that reaches it has failed.
const FOREVER: Duration = Duration::from_secs(30);

const LIMITS: Limits = Limits { max_connections: 10, max_per_ip: 10, handshake_timeout: FOREVER, drain: FOREVER };

/// A listener whose handler tells each peer here, then echoes until the client ends.
struct Served {
    addr: SocketAddr,
    counters: Arc<Counters>,
    shutdown: CancellationToken,
    peers: mpsc::UnboundedReceiver<Peer>,
    task: JoinHandle<()>,
}

async fn served(security: Security, limits: Limits) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let counters = Arc::new(Counters::default());
    let shutdown = CancellationToken::new();
    let (tell, peers) = mpsc::unbounded_channel();
    let handler = move |mut stream: Stream, peer| {
        tell.send(peer).unwrap();
        async move {
            let mut byte = [0];
            while stream.read_exact(&mut byte).await.is_ok() {
                assert_ne!(&byte, b"!", "the handler was told to panic");
                if stream.write_all(&byte).await.is_err() || stream.flush().await.is_err() {
                    break;
                }
            }
        }
    };
    let task = tokio::spawn(serve(listener, security, limits, counters.clone(), shutdown.clone(), handler));
    Served { addr, counters, shutdown, peers, task }
}

async fn echo(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    stream.write_all(b"x").await?;
    stream.flush().await?;
    let mut byte = [0];
    timeout(FOREVER, stream.read_exact(&mut byte)).await.unwrap()?;
    assert_eq!(&byte, b"x");
    Ok(())
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(timeout(FOREVER, stream.read(&mut [0])).await.unwrap(), Ok(0) | Err(_))
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Waits until a counter, which another task moves, has a value.
async fn until(counter: &AtomicU64, value: u64) {
    let reached = async {
        while count(counter) != value {
            tokio::task::yield_now().await;
        }
    };
    timeout(FOREVER, reached).await.unwrap();
}

#[tokio::test]
async fn a_connection_over_the_limit_is_closed_and_a_place_given_back_is_used_again() {
    let limits = Limits { max_connections: 2, ..LIMITS };
    let served = served(Security::Plain, limits).await;
    let mut one = TcpStream::connect(served.addr).await.unwrap();
    let mut two = TcpStream::connect(served.addr).await.unwrap();
    echo(&mut one).await.unwrap();
    echo(&mut two).await.unwrap();
    let mut three = TcpStream::connect(served.addr).await.unwrap();
    assert!(is_closed(&mut three).await);
    assert_eq!(count(&served.counters.refused), 1);
    echo(&mut two).await.unwrap();
    drop(one);
    until(&served.counters.active, 1).await;
    let mut four = TcpStream::connect(served.addr).await.unwrap();
    echo(&mut four).await.unwrap();
    assert_eq!(count(&served.counters.accepted), 3);
}

#[tokio::test]
async fn one_address_does_not_take_all_places() {
    let limits = Limits { max_per_ip: 1, ..LIMITS };
    let served = served(Security::Plain, limits).await;
    let mut one = TcpStream::connect(served.addr).await.unwrap();
    echo(&mut one).await.unwrap();
    let mut two = TcpStream::connect(served.addr).await.unwrap();
    assert!(is_closed(&mut two).await);

    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(served.addr).await.unwrap();
    echo(&mut other).await.unwrap();
}

#[tokio::test]
async fn silent_clients_do_not_keep_others_from_a_tls_handshake() {
    let house = House::new();
    let reloader = Arc::new(house.reloader(Protocol::Mqtt));
    let spki = reloader.current().spki;
    let mut served = served(Security::Tls(reloader), LIMITS).await;
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(TcpStream::connect(served.addr).await.unwrap());
    }
    let validity = super::super::ca::Validity { not_before: NOW - 10, not_after: NOW + 10 };
    let (leaf, key) = house.device("lamp", validity);
    let connector = TlsConnector::from(Arc::new(house.client(Some((&leaf, &key)))));
    let tcp = TcpStream::connect(served.addr).await.unwrap();
    let mut stream = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
    echo(&mut stream).await.unwrap();
    let peer = served.peers.recv().await.unwrap();
    assert_eq!(peer.spki, Some(spki));
    assert_eq!(peer.client_certificate.as_deref(), Some(leaf.der()));
    assert_eq!(peer.addr, stream.get_ref().0.local_addr().unwrap());
}

#[tokio::test]
async fn a_handshake_that_never_comes_ends_at_its_deadline() {
    let reloader = Arc::new(House::new().reloader(Protocol::Https));
    let limits = Limits { handshake_timeout: Duration::from_millis(50), ..LIMITS };
    let served = served(Security::Tls(reloader), limits).await;
    let mut silent = TcpStream::connect(served.addr).await.unwrap();
    assert!(is_closed(&mut silent).await);
    let mut babbling = TcpStream::connect(served.addr).await.unwrap();
    babbling.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    until(&served.counters.handshake_failed, 2).await;
    until(&served.counters.active, 0).await;
}

#[tokio::test]
async fn shutdown_refuses_newcomers_and_waits_for_those_inside() {
    let served = served(Security::Plain, LIMITS).await;
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    echo(&mut stream).await.unwrap();
    served.shutdown.cancel();
    // The handler goes on until its client ends.
    echo(&mut stream).await.unwrap();
    assert!(!served.task.is_finished());
    drop(stream);
    timeout(FOREVER, served.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(served.addr).await.is_err());
    assert_eq!(count(&served.counters.active), 0);
}

#[tokio::test]
async fn who_does_not_leave_is_cut_off_at_the_drain_deadline() {
    let limits = Limits { drain: Duration::from_millis(50), ..LIMITS };
    let served = served(Security::Plain, limits).await;
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    echo(&mut stream).await.unwrap();
    served.shutdown.cancel();
    timeout(FOREVER, served.task).await.unwrap().unwrap();
    assert!(is_closed(&mut stream).await);
    assert_eq!(count(&served.counters.active), 0);
}

#[tokio::test]
async fn a_handler_that_panics_gives_its_place_back() {
    let limits = Limits { max_connections: 1, ..LIMITS };
    let served = served(Security::Plain, limits).await;
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    stream.write_all(b"!").await.unwrap();
    assert!(is_closed(&mut stream).await);
    until(&served.counters.active, 0).await;
    let mut next = TcpStream::connect(served.addr).await.unwrap();
    echo(&mut next).await.unwrap();
}

#[tokio::test]
async fn an_ipv4_client_of_a_dual_stack_listener_is_known_by_its_ipv4_address() {
    let Ok(listener) = TcpListener::bind("[::ffff:127.0.0.1]:0").await else {
        // No IPv6 on this machine: the mapping cannot occur.
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let (tell, mut peers) = mpsc::unbounded_channel();
    let handler = move |_, peer: Peer| {
        tell.send(peer).unwrap();
        async {}
    };
    let shutdown = CancellationToken::new();
    let counters = Arc::new(Counters::default());
    let task = tokio::spawn(serve(listener, Security::Plain, LIMITS, counters, shutdown.clone(), handler));
    let _stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let peer = peers.recv().await.unwrap();
    assert_eq!(peer.addr.ip(), IpAddr::from([127, 0, 0, 1]));
    shutdown.cancel();
    timeout(FOREVER, task).await.unwrap().unwrap();
}

#[test]
fn the_loop_pauses_longer_and_longer_while_descriptors_are_exhausted() {
    // EMFILE
    let exhausted = io::Error::from_raw_os_error(24);
    let mut pause = Duration::ZERO;
    let mut pauses = Vec::new();
    for _ in 0..9 {
        pause = pause_after(&exhausted, pause);
        pauses.push(pause.as_millis());
    }
    assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
    let aborted = io::Error::from(io::ErrorKind::ConnectionAborted);
    assert_eq!(pause_after(&aborted, pause), Duration::ZERO);
}
