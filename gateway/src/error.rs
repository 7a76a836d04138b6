//! What can go wrong while a provider is being set up. Calls never fail this way: they end in a `CallOutcome`.

/// A provider that cannot be put into service.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A setting is missing or has the wrong shape. Holds the setting's name, never its value.
    #[error("provider '{provider}': setting '{setting}' {problem}")]
    Setting {
        /// The provider's name.
        provider: &'static str,
        /// The field of its configuration.
        setting: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The HTTP client could not be built (no TLS roots, for example).
    #[error("the HTTP client could not be built: {0}")]
    HttpClient(#[source] reqwest::Error),
    /// Two providers claim one name.
    #[error("provider '{0}' is registered twice")]
    DuplicateProvider(&'static str),
}
