//! What the cloud says of itself to anybody, and its own description.

use super::Context;
use super::call::{Answer, Call};
use super::openapi;
use super::reply::Reply;
use crate::domain::mirror::signature::fingerprint;
use crate::domain::mirror::wire::{CloudView, VERSION};
use data_encoding::BASE64URL_NOPAD;
use hyper::Method;

/// The calls of this file.
pub(super) const CALLS: &[Call] = &[
    Call::open(&Method::GET, "/v1", "What this cloud is: an owner compares the fingerprint before linking.", |context, _| {
        Box::pin(async move {
            let client = context.shards.first().await?;
            let brands = super::makers::tenants::offers(&client).await?;
            Reply::ok(&CloudView { brands, ..view(&context) })
        })
    })
    .gives(200, Answer::Json("v, name, region, key, fingerprint, url, regions, brands, linking")),
    Call::open(&Method::GET, "/api/openapi.json", "This description.", |_, _| Box::pin(async move { openapi::show() }))
        .gives(200, Answer::Json("OpenAPI 3.1")),
];

/// The cloud as anybody sees it, without its brands.
pub(super) fn view(context: &Context) -> CloudView {
    let key = context.keys.cloud.verifying_key().to_bytes();
    let config = &context.config;
    CloudView {
        v: VERSION,
        name: config.name.clone(),
        region: config.region.clone(),
        key: BASE64URL_NOPAD.encode(&key),
        fingerprint: fingerprint(&key),
        url: context.public_url.clone(),
        regions: config.regions.clone(),
        brands: Vec::new(),
        linking: config.linking.word().to_owned(),
    }
}
