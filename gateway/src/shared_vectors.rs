//! Vectors of other makers that lie beside the workspace. Where they are not checked out, the tests that need them say so and check
//! nothing; with `REQUIRE_SHARED=vectors` they fail.

use std::{io::Write as _, path::Path};

use serde_json::Value;

/// A file of vectors. Without it the note goes right to the terminal: what a test prints in the usual way is shown only when it fails.
pub(crate) fn shared_vectors(file: &str) -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors").join(file);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(serde_json::from_str(&text).unwrap()),
        Err(error) => {
            let required = std::env::var("REQUIRE_SHARED").unwrap_or_default();
            assert!(required.split_whitespace().all(|word| word != "vectors"), "REQUIRE_SHARED has vectors: {}: {error}", path.display());
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            writeln!(std::io::stderr(), "SKIPPED {test}: {}: {error}", path.display()).unwrap();
            None
        }
    }
}
