//! Why an import could not start or could not go on. A bad row is no error: it is in the report.

use std::path::PathBuf;

use commands::error::CommandError;

use super::report::ImportReport;

/// What is wrong with a mapping, naming the key.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// The file cannot be read.
    #[error("mapping {path}: {error}")]
    Unreadable {
        /// The mapping.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Not TOML, an unknown or missing key, or a value of the wrong kind; the message shows the place.
    #[error("mapping: {0}")]
    Syntax(#[from] toml::de::Error),
    /// A value that the platform cannot use.
    #[error("mapping key '{key}': {problem}")]
    Key {
        /// Path of the key: `line[0].quantity`.
        key: String,
        /// What is wrong.
        problem: String,
    },
}

impl MappingError {
    pub(super) fn at(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Key { key: key.into(), problem: problem.into() }
    }
}

/// Why an import could not start or could not go on. Running it again is always safe.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The mapping cannot be used.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// A file cannot be opened or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The input broke off: a damaged archive, for instance. What came before it was imported.
    #[error("{path} cannot be read beyond line {line}: {error}")]
    Broken {
        /// The input.
        path: PathBuf,
        /// The last line that was read.
        line: u64,
        /// Why.
        error: csv::Error,
    },
    /// The file has no column that the mapping names, or has it twice.
    #[error("mapping key '{key}' names column '{column}', which the file has {found} times; its columns are: {header}")]
    Column {
        /// The mapping's key.
        key: String,
        /// The column it names.
        column: String,
        /// How often the header has it.
        found: usize,
        /// The header.
        header: String,
    },
    /// The reject file would overwrite the input.
    #[error("the reject file is the input file")]
    RejectFileIsInput,
    /// Merchant or store could not be set up.
    #[error("{what} could not be set up: {error}")]
    Setup {
        /// Which one.
        what: String,
        /// Why.
        error: CommandError,
    },
    /// Merchant or store exist already, but not as the mapping describes them.
    #[error("{what} exists with another {field}: {existing}; the mapping says {wanted}")]
    Differs {
        /// Which one.
        what: String,
        /// What differs.
        field: &'static str,
        /// As it is.
        existing: String,
        /// As the mapping has it.
        wanted: String,
    },
    /// The log stopped taking orders. Run the import again: what is there already is not added twice.
    #[error("stopped at line {line} (order '{key}'): {error}; {} orders were added, run the import again to go on", .so_far.added)]
    Stopped {
        /// First line of the order.
        line: u64,
        /// Its key.
        key: String,
        /// Why.
        error: CommandError,
        /// What was done until then.
        so_far: Box<ImportReport>,
    },
    /// The reading thread died.
    #[error("the reader ended unexpectedly: {0}")]
    Reader(#[from] tokio::task::JoinError),
}
