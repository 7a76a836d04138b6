//! The shape of the workspace: which crate may know which, and that every crate takes the common lints.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use cargo_metadata::{Metadata, MetadataCommand};

/// What the pure crate may not reach, neither directly nor through another crate.
const IMPURE: [&str; 5] = ["tokio", "sqlx", "axum", "async-nats", "reqwest"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn workspace() -> Metadata {
    MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap()
}

/// Which members each member names, in any section of its manifest.
fn edges(metadata: &Metadata) -> BTreeMap<&str, BTreeSet<&str>> {
    let names: BTreeSet<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let named = metadata.packages.iter().map(|package| {
        let known = package.dependencies.iter().map(|dependency| dependency.name.as_str());
        (package.name.as_str(), known.filter(|name| names.contains(name)).collect())
    });
    named.collect()
}

#[test]
fn crates_know_each_other_only_as_the_design_says() {
    let metadata = workspace();
    let mut edges = edges(&metadata);
    // The tests may use anything.
    edges.remove("tests");
    let expected = [
        ("domain", BTreeSet::new()),
        ("commands", BTreeSet::from(["domain"])),
        ("projections", BTreeSet::from(["domain"])),
        ("gateway", BTreeSet::from(["domain"])),
        ("api", BTreeSet::from(["commands", "domain", "gateway", "projections"])),
        ("replay-tool", BTreeSet::from(["commands", "domain", "projections"])),
        ("sim", BTreeSet::from(["commands", "domain", "projections"])),
    ];
    assert_eq!(edges, BTreeMap::from(expected));
}

#[test]
fn the_domain_reaches_no_runtime_and_no_server() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--package", "domain", "--edges", "normal,build", "--prefix", "none", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let reached: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(reached.contains("serde") && reached.contains("ulid"), "{tree}");
    let impure: Vec<&str> = IMPURE.into_iter().filter(|name| reached.contains(name)).collect();
    assert_eq!(impure, [""; 0]);
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for package in workspace().packages {
        let manifest = std::fs::read_to_string(&package.manifest_path).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{} has lints of its own", package.name);
    }
}
