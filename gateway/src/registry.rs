//! Which providers are in service, by name. Filled once at start and then only read.

use std::{collections::BTreeMap, fmt, sync::Arc};

use domain::provider::PaymentProvider;

use crate::error::GatewayError;

/// The providers in service.
#[derive(Clone, Default)]
pub struct ProviderRegistry {
    providers: BTreeMap<&'static str, Arc<dyn PaymentProvider>>,
}

impl ProviderRegistry {
    /// No providers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one more.
    ///
    /// # Errors
    /// `DuplicateProvider` when its name is taken.
    pub fn with(mut self, provider: Arc<dyn PaymentProvider>) -> Result<Self, GatewayError> {
        let name = provider.name();
        if self.providers.insert(name, provider).is_some() {
            return Err(GatewayError::DuplicateProvider(name));
        }
        Ok(self)
    }

    /// The provider of that name, `None` when it is not in service.
    pub fn get(&self, name: &str) -> Option<Arc<dyn PaymentProvider>> {
        self.providers.get(name).cloned()
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.providers.keys().copied()
    }
}

impl fmt::Debug for ProviderRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.providers.keys()).finish()
    }
}
