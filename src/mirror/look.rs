//! A look at a cloud that is not linked: what it says of itself, for an owner to compare and confirm. Nothing of it is
//! believed further than that; that it has the key it shows, its signature tells.

use super::Config;
use super::answer::{self, Problem, Silence};
use super::line::{Failure, Way};
use super::meter::Meter;
use crate::domain::mirror::signature;
use crate::domain::mirror::wire::CloudView;
use crate::service::{CloudLook, LookProblem, Looking, Service};
use data_encoding::BASE64URL_NOPAD;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Bytes of what a cloud says of itself at most.
pub(super) const MOST: usize = 64 * 1024;
/// How long a look may take: somebody waits for it.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
/// Looks at the same time.
const LOOKS: usize = 2;

/// Looks at clouds.
pub(super) struct Looker {
    // The service keeps this.
    service: Weak<Service>,
    config: Config,
    meter: Arc<Meter>,
    places: Semaphore,
}

impl Looker {
    pub(super) fn new(service: &Arc<Service>, config: Config, meter: Arc<Meter>) -> Looker {
        Looker { service: Arc::downgrade(service), config, meter, places: Semaphore::new(LOOKS) }
    }

    async fn at(&self, url: &str) -> Result<CloudView, Failure> {
        let base = base(url)?;
        let _place = self.places.try_acquire().map_err(|_| wrong("the hub looks at a cloud already", "Try again in a moment"))?;
        let service = self.service.upgrade().ok_or(Silence::Connection)?;
        let way = Way::new(&self.config, &service, self.meter.clone()).await?;
        let unproven = way.open(&format!("{base}/v1"), MOST, DEADLINE).await?;
        let view: Option<CloudView> = serde_json::from_slice(&unproven.body).ok();
        let key = view.as_ref().and_then(|view| BASE64URL_NOPAD.decode(view.key.as_bytes()).ok()?.try_into().ok());
        // Without a key nothing can be proven, and what it is instead is told.
        let key: [u8; 32] = key.unwrap_or_default();
        let reply = unproven.prove(&key, "")?;
        match view {
            Some(mut view) if reply.status == 200 => {
                view.fingerprint = signature::fingerprint(&key);
                for text in [&mut view.name, &mut view.region, &mut view.url] {
                    *text = answer::plain(text);
                }
                // Requests are signed for the URL that the cloud gives as its own.
                view.url = self::base(&view.url)?;
                Ok(view)
            }
            _ => Err(wrong("this cloud does not say what it is", "Ask whoever runs the cloud for its URL")),
        }
    }
}

impl CloudLook for Looker {
    fn look<'a>(&'a self, url: &'a str) -> Looking<'a> {
        Box::pin(async move {
            self.at(url).await.map_err(|failure| {
                let Problem { code, detail, next } = failure.problem;
                LookProblem { code, detail, next: next.to_owned() }
            })
        })
    }
}

/// A cloud's URL in the form in which requests are signed: HTTPS, without an end of its own.
pub(super) fn base(url: &str) -> Result<String, Failure> {
    let no = || wrong("this is not the URL of a cloud", "Give it as https://cloud.example, without a name, password or query");
    let text = url.trim().trim_end_matches('/');
    let parsed = reqwest::Url::parse(text).map_err(|_| no())?;
    let bare = parsed.username().is_empty() && parsed.password().is_none() && parsed.query().is_none() && parsed.fragment().is_none();
    if parsed.scheme() != "https" || !parsed.has_host() || !bare || text.len() > 512 {
        return Err(no());
    }
    Ok(parsed.as_str().trim_end_matches('/').to_owned())
}

pub(super) fn wrong(detail: &str, next: &'static str) -> Failure {
    Problem { code: "refused", detail: detail.to_owned(), next }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_cloud_is_https_and_nothing_beside() {
        for (url, expected) in [
            ("https://cloud.example", Some("https://cloud.example")),
            (" https://Cloud.Example/ ", Some("https://cloud.example")),
            ("https://cloud.example:443/eu//", Some("https://cloud.example/eu")),
            ("https://[::1]:8443", Some("https://[::1]:8443")),
            ("http://cloud.example", None),
            ("cloud.example", None),
            ("https://", None),
            ("https://me:secret@cloud.example", None),
            ("https://cloud.example/?a=1", None),
            ("https://cloud.example/#top", None),
            ("file:///etc/passwd", None),
            ("", None),
        ] {
            assert_eq!(base(url).ok().as_deref(), expected, "{url}");
        }
    }
}
