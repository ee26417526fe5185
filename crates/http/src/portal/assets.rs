//! Style sheet, scripts and pictures, inside the binary.
//!
//! Each has its content's hash in its address, so that browsers keep it for ever and a new
//! version is fetched at once.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use rust_embed::RustEmbed;

use super::error::Failure;

pub(super) const STYLE: &str = "portal.css";
pub(super) const SCRIPT: &str = "portal.js";
pub(super) const PICTURE: &str = "favicon.svg";
pub(super) const HTMX: &str = "vendor/htmx-2.0.11.min.js";
pub(super) const HTMX_SSE: &str = "vendor/htmx-ext-sse-2.2.4.min.js";

#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/assets"]
struct Files;

struct Asset {
    hash: String,
    url: String,
    bytes: Bytes,
}

/// Read once. A debug build reads the source tree, so a restart shows an edited style sheet.
static ASSETS: LazyLock<BTreeMap<&'static str, Asset>> = LazyLock::new(|| {
    [STYLE, SCRIPT, PICTURE, HTMX, HTMX_SSE]
        .into_iter()
        .filter_map(|name| {
            let file = Files::get(name)?;
            let mut hash = String::new();
            for byte in &file.metadata.sha256_hash()[..8] {
                let _ = write!(hash, "{byte:02x}");
            }
            let url = format!("/assets/{hash}/{name}");
            let bytes = Bytes::from(file.data.into_owned());
            Some((name, Asset { hash, url, bytes }))
        })
        .collect()
});

/// Where a page finds one of the names above.
pub(super) fn url(name: &str) -> &'static str {
    ASSETS.get(name).map_or("", |asset| asset.url.as_str())
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

/// `GET /assets/{hash}/{name}`. A hash of another version is not found: its page is old, too.
pub(super) async fn serve(Path((hash, name)): Path<(String, String)>) -> Response {
    match ASSETS.get(name.as_str()) {
        Some(asset) if asset.hash == hash => (
            [
                (CONTENT_TYPE, content_type(&name)),
                (CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ],
            asset.bytes.clone(),
        )
            .into_response(),
        _ => Failure::not_found("page").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_asset_is_in_the_binary() {
        for name in [STYLE, SCRIPT, PICTURE, HTMX, HTMX_SSE] {
            assert!(url(name).ends_with(name), "{name}");
        }
    }
}
