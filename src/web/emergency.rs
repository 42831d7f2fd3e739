//! The only page of a hub whose database is damaged: what happened, and what to do. Nobody signs in, and nothing here needs
//! the database.

use super::{Config, Router, answer, caller};
use crate::net::Problem;
use std::sync::Arc;
use warp::Filter;
use warp::http::{Method, StatusCode, header};
use warp::path::FullPath;
use warp::reply::Response;

/// After how many seconds whoever waits for the hub looks again.
const AGAIN_S: u64 = 60;

/// What the page tells.
#[derive(Clone, Debug)]
pub struct EmergencyPage {
    /// The hub's name in the house.
    pub name: String,
    /// What is wrong.
    pub what: String,
    /// What to do, step by step.
    pub steps: Vec<String>,
}

/// Answers every call with a problem (503, code `recovery_mode`), and everything else with the page.
#[must_use]
pub fn emergency_routes(page: EmergencyPage, config: &Config) -> Router {
    let page = Arc::new(page);
    let routes = warp::method().and(warp::path::full()).map(move |method: Method, path: FullPath| serve(&page, &method, path.as_str()));
    Router::new(caller::own_name(config.names.clone()).and(routes).boxed())
}

fn serve(page: &EmergencyPage, method: &Method, path: &str) -> Response {
    if path == "/api" || path.starts_with("/api/") {
        let mut problem = Problem::new(503, "recovery_mode", "The hub's database is damaged, and nobody is let in")
            .detail(page.what.clone())
            .next(page.steps.join(" "));
        problem.retry_after = Some(AGAIN_S);
        return answer::problem(&problem);
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        return answer::with(answer::problem(&Problem::method_not_allowed()), header::ALLOW, "GET, HEAD");
    }
    let page = answer::typed(StatusCode::SERVICE_UNAVAILABLE, "text/html; charset=utf-8", html(page).into_bytes());
    answer::with(page, header::RETRY_AFTER, &AGAIN_S.to_string())
}

fn html(page: &EmergencyPage) -> String {
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let steps: String = page.steps.iter().map(|step| format!("<li>{}</li>\n", escaped(step))).collect();
    let (name, what) = (escaped(&page.name), escaped(&page.what));
    format!(
        r#"<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{name} needs help</title></head>
<body>
<h1>{name} needs help</h1>
<p>The hub has started, and cannot use what it keeps: {what}</p>
<p>Nobody is let in and no device is answered, so that nothing is decided by half a memory. Nothing was changed or deleted.</p>
<h2>What to do</h2>
<ol>
{steps}</ol>
<p>Your browser may warn of this page: the hub's own certificate is in the database, so it has made one for now. Do not type a
password here; the page asks for none.</p>
</body>
</html>
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_get_a_problem_and_people_a_page_and_what_is_told_is_no_markup() {
        let page = EmergencyPage { name: "hub".into(), what: "<b>broken</b>".into(), steps: vec!["Do this & that.".into()] };
        let ask = |method: Method, path: &str| serve(&page, &method, path);
        let kind = |response: &Response| response.headers()["content-type"].to_str().unwrap().to_owned();
        let call = ask(Method::POST, "/api/v1/sessions");
        assert_eq!((call.status().as_u16(), kind(&call).as_str()), (503, "application/problem+json"));
        let shown = ask(Method::GET, "/");
        assert_eq!((shown.status().as_u16(), kind(&shown).as_str()), (503, "text/html; charset=utf-8"));
        assert!(shown.headers().contains_key("retry-after"));
        assert_eq!(ask(Method::POST, "/").status().as_u16(), 405);
        let text = html(&page);
        assert!(text.contains("&lt;b&gt;broken") && text.contains("<li>Do this &amp; that.</li>"), "{text}");
    }
}
