//! The only page of a hub that another one has taken the place of.

use super::answer;
use crate::net::Problem;
use crate::service::Service;
use std::sync::Arc;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::StatusCode;
use warp::reply::Response;

/// Answers for every file of the page, once the hub has stepped down; passes on before.
pub(super) fn routes(service: Arc<Service>) -> BoxedFilter<(Response,)> {
    warp::any()
        .and_then(move || {
            let retired = service.is_retired();
            async move { if retired { Ok(page()) } else { Err(warp::reject::not_found()) } }
        })
        .boxed()
}

fn page() -> Response {
    let Problem { title, detail, next, .. } = Problem::retired();
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<h1>{title}</h1>\n<p>{detail}</p>\n<p>{next}</p>\n</html>\n"
    );
    answer::typed(StatusCode::GONE, "text/html; charset=utf-8", html.into_bytes())
}
