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

/// Every generated document but `problems.md`, which a test writes, by its path below `schemas/`.
///
/// # Errors
/// A document cannot be serialised.
pub fn documents() -> Result<BTreeMap<PathBuf, String>> {
    let mut documents = BTreeMap::new();
    documents.insert(PathBuf::from("openapi.json"), pretty(&crate::openapi::document())?);
    for spec in DomainEvent::catalog() {
        let path = PathBuf::from(format!("events/{}.v{}.json", spec.event_type, spec.version));
        documents.insert(path, pretty(&sorted(serde_json::to_value((spec.schema)())?))?);
    }
    Ok(documents)
}

/// Fields by name, whatever order this build's JSON maps keep.
fn sorted(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(fields) => {
            let by_name: BTreeMap<String, serde_json::Value> = fields.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            by_name.into_iter().collect()
        }
        serde_json::Value::Array(items) => items.into_iter().map(sorted).collect(),
        plain @ (serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) | serde_json::Value::String(_)) => {
            plain
        }
    }
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
