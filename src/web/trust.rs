//! The plain-HTTP door: the hub's CA with the steps to install it, and the way to HTTPS for everything else. No call, no
//! cookie and no script here: whoever is on the network can read and change what comes without TLS.

use super::{Config, Router, answer, caller};
use crate::net::problem::Problem;
use data_encoding::BASE64;
use std::sync::Arc;
use warp::Filter;
use warp::host::Authority;
use warp::http::header;
use warp::http::{Method, StatusCode};
use warp::path::FullPath;
use warp::reply::Response;

/// What the page tells.
#[derive(Clone, Debug)]
pub struct TrustPage {
    /// The hub's name in the house.
    pub name: String,
    /// The CA's certificate (DER).
    pub ca_der: Vec<u8>,
    /// Its SHA-256, as the hub prints it.
    pub ca_fingerprint: String,
    /// Where HTTPS is.
    pub https_port: u16,
}

/// `/trust`, `/trust/ca.pem`, `/trust/ca.der`; everything else is led to HTTPS on the same host (308).
#[must_use]
pub fn trust_routes(page: TrustPage, config: &Config) -> Router {
    let page = Arc::new(page);
    let routes = warp::method()
        .and(warp::path::full())
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(warp::host::optional())
        .map(move |method: Method, path: FullPath, query: String, host: Option<Authority>| {
            serve(&page, &method, path.as_str(), &query, host.as_ref())
        });
    Router::new(caller::own_name(config.names.clone()).and(routes).boxed())
}

fn serve(page: &TrustPage, method: &Method, path: &str, query: &str, host: Option<&Authority>) -> Response {
    let body = match path {
        "/trust" | "/trust/" => ("text/html; charset=utf-8", html(page).into_bytes()),
        "/trust/ca.pem" => ("application/x-pem-file", pem(&page.ca_der).into_bytes()),
        // The type under which phones offer to install a certificate.
        "/trust/ca.der" => ("application/x-x509-ca-cert", page.ca_der.clone()),
        _ => return redirect(page, path, query, host),
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        return answer::with(answer::problem(&Problem::method_not_allowed()), header::ALLOW, "GET, HEAD");
    }
    answer::typed(StatusCode::OK, body.0, body.1)
}

fn redirect(page: &TrustPage, path: &str, query: &str, host: Option<&Authority>) -> Response {
    let Some(host) = host else { return answer::problem(&Problem::malformed("The header Host is missing.")) };
    let port = if page.https_port == 443 { String::new() } else { format!(":{}", page.https_port) };
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    // An origin-form path begins with one slash; two would name another host.
    let path = path.trim_start_matches('/');
    let location = format!("https://{}{port}/{path}{query}", host.host());
    answer::with(answer::status_only(StatusCode::PERMANENT_REDIRECT), header::LOCATION, &location)
}

/// RFC 7468, 64 characters a line.
fn pem(der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn html(page: &TrustPage) -> String {
    let (name, fingerprint) = (escaped(&page.name), escaped(&page.ca_fingerprint));
    format!(
        r#"<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Trust {name}</title></head>
<body>
<h1>Trust {name}</h1>
<p>This hub makes its own certificates, so your browser does not know them yet and warns. You can go on past the warning, or install
the hub's certificate authority (CA) once on each phone or computer. It is limited to names and addresses inside a home.</p>
<h2>1. Compare</h2>
<p>SHA-256 fingerprint of the CA:</p>
<p><code>{fingerprint}</code></p>
<p><strong>Do not rely on this page for it:</strong> it comes without encryption. Compare with what the hub printed when it started
(its console or log), or with its label, and with what your device shows before it installs the file.</p>
<h2>2. Install</h2>
<p><a href="/trust/ca.der">Download for phones (ca.der)</a> &middot; <a href="/trust/ca.pem">Download for computers (ca.pem)</a></p>
<h3>iPhone, iPad</h3>
<ol><li>Open ca.der in Safari and allow the profile.</li><li>Settings &rarr; General &rarr; VPN &amp; Device Management: install it.</li>
<li>Settings &rarr; General &rarr; About &rarr; Certificate Trust Settings: switch it on.</li></ol>
<h3>Android</h3>
<ol><li>Download ca.der.</li><li>Settings &rarr; Security &rarr; More &rarr; Encryption &amp; credentials &rarr; Install a certificate &rarr; CA certificate:
choose the file.</li></ol>
<h3>macOS</h3>
<ol><li>Open ca.pem: Keychain Access adds it.</li><li>Open it there, and under Trust choose Always Trust.</li></ol>
<h3>Windows</h3>
<ol><li>Open ca.der, then Install Certificate &rarr; Current User.</li><li>Place it in Trusted Root Certification Authorities.</li></ol>
<h3>Linux</h3>
<ol><li>Copy ca.pem to /usr/local/share/ca-certificates/hearthkey.crt and run <code>sudo update-ca-certificates</code>.</li>
<li>In Firefox: Settings &rarr; Privacy &amp; Security &rarr; Certificates &rarr; View Certificates &rarr; Authorities &rarr; Import.</li></ol>
<h2>3. Go</h2>
<p><a href="/">Open the hub</a></p>
</body>
</html>
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: Method, path: &str, host: &'static str) -> Response {
        let page = TrustPage { name: "<hub>".into(), ca_der: vec![0x30; 100], ca_fingerprint: "AB:CD".into(), https_port: 8443 };
        serve(&page, &method, path, "", Some(&Authority::from_static(host)))
    }

    #[test]
    fn everything_but_the_ca_is_led_to_https_on_the_same_host() {
        for (path, to) in [
            ("/", "https://hub.local:8443/"),
            ("/api/v1/me", "https://hub.local:8443/api/v1/me"),
            ("//evil.example", "https://hub.local:8443/evil.example"),
        ] {
            let response = asked(Method::POST, path, "hub.local:8080");
            assert_eq!((response.status().as_u16(), response.headers()["location"].to_str().unwrap()), (308, to));
        }
        assert_eq!(asked(Method::GET, "/", "[::1]:8080").headers()["location"], "https://[::1]:8443/");
    }

    #[test]
    fn the_ca_comes_in_both_forms_and_the_name_is_escaped() {
        assert_eq!(asked(Method::GET, "/trust/ca.der", "hub.local").headers()["content-type"], "application/x-x509-ca-cert");
        let text = pem(&[1; 100]);
        assert!(text.starts_with("-----BEGIN CERTIFICATE-----\n") && text.lines().all(|l| l.len() <= 64));
        assert_eq!(asked(Method::POST, "/trust", "hub.local").status(), 405);
        let page = TrustPage { name: "<hub>".into(), ca_der: vec![], ca_fingerprint: String::new(), https_port: 8443 };
        assert!(html(&page).contains("Trust &lt;hub&gt;") && !html(&page).contains("<script"));
    }
}
