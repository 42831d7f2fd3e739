//! The embedded UI, as the build script has left it: `index.html`, files whose names carry the hash of their content, and
//! the gzip form of each. Without the cargo feature `ui` there is one page that says how to get it.

use super::answer;
use crate::net::problem::Problem;
use rust_embed::{Embed, EmbeddedFile};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::header::{self, HeaderMap};
use warp::http::{Method, StatusCode};
use warp::path::FullPath;
use warp::reply::Response;

#[derive(Embed)]
#[folder = "$OUT_DIR/ui"]
struct Files;

const PAGE: &str = "index.html";

/// Everything that is not a call: the page, and what belongs to it.
pub(super) fn routes() -> BoxedFilter<(Response,)> {
    warp::path::full()
        .and(warp::method())
        .and(warp::header::headers_cloned())
        .and_then(|path: FullPath, method: Method, headers: HeaderMap| async move {
            find(path.as_str()).map(|name| serve(name, &method, &headers)).ok_or_else(warp::reject::not_found)
        })
        .boxed()
}

/// The file behind a path. Hidden files and the gzip forms themselves are nobody's business.
fn find(path: &str) -> Option<&str> {
    let name = path.strip_prefix('/')?;
    let name = if name.is_empty() { PAGE } else { name };
    let shown = !name.starts_with('.') && !name.ends_with(".gz") && Files::get(name).is_some();
    shown.then_some(name)
}

fn serve(name: &str, method: &Method, headers: &HeaderMap) -> Response {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return answer::with(answer::problem(&Problem::method_not_allowed()), header::ALLOW, "GET, HEAD");
    }
    let packed = accepts_gzip(headers).then(|| Files::get(&format!("{name}.gz"))).flatten();
    let encoded = packed.is_some();
    let Some(file) = packed.or_else(|| Files::get(name)) else { return answer::problem(&Problem::not_found()) };
    let tag = etag(&file);
    let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    let mut response = if known.is_some_and(|all| all.split(',').any(|t| t.trim().trim_start_matches("W/") == tag)) {
        answer::status_only(StatusCode::NOT_MODIFIED)
    } else {
        let response = answer::typed(StatusCode::OK, media_type(name), file.data.into_owned());
        if encoded { answer::with(response, header::CONTENT_ENCODING, "gzip") } else { response }
    };
    // A name with a hash means one content for ever; the page itself is asked for each time, so that a new one is seen.
    let caching = if is_hashed(name) { "public, max-age=31536000, immutable" } else { "no-cache" };
    for (header, value) in [(header::CACHE_CONTROL, caching), (header::ETAG, tag.as_str()), (header::VARY, "accept-encoding")] {
        response = answer::with(response, header, value);
    }
    response
}

fn etag(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    format!("\"{}\"", data_encoding::HEXLOWER.encode(hash.get(..16).unwrap_or_default()))
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "webmanifest" => "application/manifest+json",
        "json" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// `app-2ZK5XWQA.js`: eight or more upper-case letters and digits before the extension.
fn is_hashed(name: &str) -> bool {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    stem.rsplit_once('-').is_some_and(|(_, hash)| hash.len() >= 8 && hash.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()))
}

/// RFC 9110 §12.5.3: gzip or `*` is named, and not with weight 0.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let all = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let mut any = false;
    for coding in all {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|p| p.strip_prefix("q=")).and_then(|q| q.parse::<f32>().ok()).unwrap_or(1.0);
        if name.eq_ignore_ascii_case("gzip") {
            return weight > 0.0;
        }
        any |= name == "*" && weight > 0.0;
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;
    use warp::http::HeaderValue;

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        let accepts =
            |value: &'static str| accepts_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]));
        for yes in ["gzip", "br, gzip;q=0.5", "*", "GZIP", "identity, *;q=0.1"] {
            assert!(accepts(yes), "{yes}");
        }
        for no in ["", "br", "gzip;q=0", "gzip;q=0.0, *", "identity"] {
            assert!(!accepts(no), "{no}");
        }
    }

    #[test]
    fn only_names_with_a_hash_are_kept_for_ever() {
        assert!(is_hashed("app-2ZK5XWQA.js") && is_hashed("icon-00AB12CD.svg"));
        assert!(!is_hashed("index.html") && !is_hashed("app.js") && !is_hashed("my-component.js"));
    }

    #[test]
    fn the_page_is_there_and_what_is_hidden_is_not() {
        assert_eq!(find("/"), Some(PAGE));
        assert_eq!(find("/index.html"), Some(PAGE));
        for hidden in ["/.source-hash", "/index.html.gz", "/../index.html", "//index.html", "/nothing"] {
            assert_eq!(find(hidden), None, "{hidden}");
        }
    }
}
