//! The committed description of the API is the one that the server serves.

use std::path::Path;

#[test]
fn the_committed_description_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let mut current = stillpoint_http::openapi::document().to_pretty_json().unwrap();
    current.push('\n');
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == current,
        "docs/openapi.json is not what the server serves. Refresh it with:\n\
         UPDATE_OPENAPI=1 cargo nextest run -p stillpoint-http the_committed_description"
    );
}
