//! `smartpos schemas`: writes the generated documents into `schemas/`, or says which have drifted.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use domain::event::DomainEvent;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Action {
    /// Write all documents.
    Write,
    /// Fail when one differs from what this build generates.
    Check,
}

/// Every generated document by its path below `schemas/`.
///
/// # Errors
/// A document cannot be serialised.
pub fn documents() -> Result<BTreeMap<PathBuf, String>> {
    let mut documents = BTreeMap::new();
    documents.insert(PathBuf::from("openapi.json"), pretty(&crate::openapi::document())?);
    for spec in DomainEvent::catalog() {
        let path = PathBuf::from(format!("events/{}.v{}.json", spec.event_type, spec.version));
        documents.insert(path, pretty(&(spec.schema)())?);
    }
    Ok(documents)
}

fn pretty(document: &impl serde::Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(document)? + "\n")
}

/// Writes or checks `schemas/` below the working directory.
///
/// # Errors
/// A file cannot be written, or differs when checking.
pub fn run(action: Action) -> Result<()> {
    let root = Path::new("schemas");
    if !root.is_dir() {
        bail!("run this in the project's root: there is no folder 'schemas' here");
    }
    let mut drifted = Vec::new();
    for (path, text) in documents()? {
        let file = root.join(&path);
        if std::fs::read_to_string(&file).is_ok_and(|found| found == text) {
            continue;
        }
        match action {
            Action::Write => {
                std::fs::write(&file, &text).with_context(|| format!("{} cannot be written", file.display()))?;
                println!("wrote {}", file.display());
            }
            Action::Check => drifted.push(file.display().to_string()),
        }
    }
    if drifted.is_empty() { Ok(()) } else { bail!("not what this build generates: {}; run `make schemas`", drifted.join(", ")) }
}
