//! Tests that need what may be absent: data sets beside the workspace, programs from a registry.

use std::io::Write as _;

/// What a test may lack, as `REQUIRE_SHARED` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacking {
    /// Public data sets in `../shared/data`.
    Data,
    /// Published verifiers of webhooks, fetched from registries.
    Verifiers,
}

impl Lacking {
    const fn word(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Verifiers => "verifiers",
        }
    }
}

/// Says that something is not checked, right to the terminal: what a test prints in the usual way is shown only when it fails. Where
/// `REQUIRE_SHARED`, words separated by blanks, names what is lacking, the test fails.
pub fn skipped(lacking: Lacking, note: &str) {
    let required = std::env::var("REQUIRE_SHARED").unwrap_or_default();
    assert!(required.split_whitespace().all(|word| word != lacking.word()), "REQUIRE_SHARED has {}: {note}", lacking.word());
    writeln!(std::io::stderr(), "SKIPPED: {note}").expect("standard error is open");
}
