//! Every kind of fault once, on real processes under load; the program is `tests/examples/chaos`, and `make chaos` runs it for long.

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// What is found with another seed is repeated with it.
const SEED: &str = "2026";

#[test]
fn every_kind_of_fault_once_loses_nothing_doubles_nothing_and_heals() {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples/chaos");
    assert!(program.is_file(), "{} is not built: run `cargo build -p tests --example chaos` first", program.display());
    // Beside the program, whatever directory the test runs in.
    let out = program.ancestors().nth(3).map_or_else(|| Path::new("chaos").to_owned(), |target| target.join("chaos"));
    let mut run = Command::new(&program);
    run.args(["--smoke", "--seed", SEED, "--out"]).arg(&out).stdin(Stdio::null());
    let status = run.status().unwrap();
    assert!(status.success(), "a promise is broken, see above and {}; again: {} --smoke --seed {SEED}", out.display(), program.display());
}
