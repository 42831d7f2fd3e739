//! A proxy between hub and cloud, as a test wants it.

use super::cloud::{head, read_request};
use crate::house::HERE;
use std::net::SocketAddr;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A proxy that connects (CONNECT), or refuses with a status; and how many it has connected.
pub struct Proxy {
    pub address: SocketAddr,
    pub asked: watch::Receiver<Vec<String>>,
    _end: DropGuard,
}

impl Proxy {
    /// `wants`: the `Proxy-Authorization` that it wants, if any; `refuses`: the status for all that are let in.
    pub async fn start(wants: Option<&'static str>, refuses: Option<u16>) -> Proxy {
        let listener = TcpListener::bind(SocketAddr::new(HERE, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, asked) = watch::channel(Vec::new());
        let end = CancellationToken::new();
        let guard = end.clone().drop_guard();
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    () = end.cancelled() => return,
                    Ok((stream, _)) = listener.accept() => stream,
                };
                let told = told.clone();
                tokio::spawn(async move {
                    let _ = proxied(stream, wants, refuses, told).await;
                });
            }
        });
        Proxy { address, asked, _end: guard }
    }
}

async fn proxied(
    mut stream: TcpStream,
    wants: Option<&'static str>,
    refuses: Option<u16>,
    told: watch::Sender<Vec<String>>,
) -> std::io::Result<()> {
    let Some(seen) = read_request(&mut stream, &mut Vec::new()).await? else { return Ok(()) };
    assert_eq!(seen.method, "CONNECT");
    let allowed = wants.is_none_or(|wanted| seen.headers.get("proxy-authorization").map(String::as_str) == Some(wanted));
    told.send_modify(|all| all.push(seen.path.clone()));
    match (allowed, refuses) {
        (false, _) => stream.write_all(&head(407, &[("proxy-authenticate", "Basic realm=\"p\"".to_owned())], 0)).await,
        (true, Some(status)) => stream.write_all(&head(status, &[], 0)).await,
        (true, None) => {
            let mut far = TcpStream::connect(&seen.path.replace("localhost", "127.0.0.1")).await?;
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            tokio::io::copy_bidirectional(&mut stream, &mut far).await.map(|_| ())
        }
    }
}
