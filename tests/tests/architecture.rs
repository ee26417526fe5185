//! The architecture as checks: who depends on whom, what stays out, how long a file may be.
//!
//! `arrows.txt` is the list a reader can trust; these tests keep it true.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests crate is in the repository")
}

/// The workspace as cargo resolves it for this platform, without touching the network.
fn workspace() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(
            [
                "--locked",
                "--offline",
                "--filter-platform",
                "x86_64-unknown-linux-gnu",
            ]
            .map(String::from),
        )
        .exec()
        .expect("cargo metadata")
}

fn short_name(package: &str) -> &str {
    package.strip_prefix("stillpoint-").unwrap_or(package)
}

/// What `package` itself names as dependencies of `kind`.
fn direct(package: &Package, kind: DependencyKind) -> impl Iterator<Item = &str> {
    package
        .dependencies
        .iter()
        .filter(move |d| d.kind == kind)
        .map(|d| d.name.as_str())
}

/// One line per crate, as in `arrows.txt`, with the dev lines left out when they are empty.
fn arrows(metadata: &Metadata) -> BTreeSet<String> {
    let members = metadata.workspace_packages();
    let names: BTreeSet<&str> = members.iter().map(|p| p.name.as_str()).collect();
    let line = |package: &Package, kind, prefix: &str| {
        let targets: BTreeSet<&str> = direct(package, kind)
            .filter(|d| names.contains(d))
            .map(short_name)
            .collect();
        let targets: String = targets.iter().map(|t| format!(" {t}")).collect();
        format!("{prefix}{}:{targets}", short_name(&package.name))
    };
    members
        .iter()
        .flat_map(|package| {
            [
                line(package, DependencyKind::Normal, ""),
                line(package, DependencyKind::Development, "dev "),
            ]
        })
        .filter(|line| !(line.starts_with("dev ") && line.ends_with(':')))
        .collect()
}

#[test]
fn crates_depend_only_as_the_list_of_arrows_says() {
    let drawn: BTreeSet<String> = include_str!("arrows.txt")
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(String::from)
        .collect();
    let real = arrows(&workspace());
    let missing: Vec<_> = real.difference(&drawn).collect();
    let stale: Vec<_> = drawn.difference(&real).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "in Cargo.toml but not in arrows.txt: {missing:#?}\nin arrows.txt but not in Cargo.toml: {stale:#?}"
    );
}

#[test]
fn libraries_stay_where_they_belong() {
    // (a library, the only crates that may name it)
    let rules: [(&str, &[&str]); 8] = [
        ("anyhow", &["stillpoint"]),
        ("axum", &["http"]),
        ("clap", &["stillpoint"]),
        ("sqlx", &["store"]),
        ("maud", &["http"]),
        ("aws-lc-rs", &["env", "vault", "bench"]),
        ("reqwest", &["client", "vault", "tests", "bench"]),
        (
            "tokio",
            &[
                "store",
                "vault",
                "machines",
                "control",
                "node",
                "http",
                "client",
                "stillpoint",
                "tests",
                "bench",
            ],
        ),
    ];
    let metadata = workspace();
    let mut broken = Vec::new();
    for package in metadata.workspace_packages() {
        let name = short_name(&package.name);
        for library in direct(package, DependencyKind::Normal) {
            let rule = rules.iter().find(|(ruled, _)| *ruled == library);
            if let Some((_, homes)) = rule
                && !homes.contains(&name)
            {
                broken.push(format!(
                    "{name} depends on {library}, which belongs to {homes:?}"
                ));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Every package that is compiled into something, with its versions. `cargo metadata` would
/// also list what only an unused optional feature names.
fn linked_versions() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "--workspace",
            "--edges",
            "normal,build,dev",
        ])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .expect("cargo tree");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut versions = BTreeMap::<String, BTreeSet<String>>::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut words = line.split(' ');
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            versions
                .entry(name.into())
                .or_default()
                .insert(version.into());
        }
    }
    versions
}

#[test]
fn one_tls_provider_and_one_http_client_are_linked() {
    let linked = linked_versions();
    for banned in ["ring", "openssl", "openssl-sys", "native-tls"] {
        assert!(
            !linked.contains_key(banned),
            "{banned} is linked: cargo tree -i {banned}"
        );
    }
    for single in [
        "reqwest",
        "rustls",
        "hyper",
        "tokio",
        "axum",
        "sqlx",
        "rand_core",
    ] {
        let found = linked.get(single).map_or(0, BTreeSet::len);
        assert!(
            found <= 1,
            "{single} is linked in {found} versions: {:?}",
            linked[single]
        );
    }
}

#[test]
fn no_source_file_outgrows_its_reader() {
    let output = Command::new(root().join("scripts/file-length"))
        .output()
        .expect("file-length");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
