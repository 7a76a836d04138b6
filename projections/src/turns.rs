//! Turns at folding whole tenants: so many at once in a process, and one of each scope, so that nobody who asks for much of the past
//! keeps the others from it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use domain::ids::{MerchantId, PspId};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::queries::ReadScope;

/// Who takes turns with itself: a merchant, or a PSP.
type Party = (Option<MerchantId>, Option<PspId>);

/// The turns of a process.
#[derive(Debug)]
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    /// Of whoever has or waits for a turn.
    own: Mutex<HashMap<Party, Weak<Semaphore>>>,
}

/// A turn, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Turns {
    /// So many at once.
    pub(crate) fn new(most: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(most)), own: Mutex::default() }
    }

    /// A turn for this scope; nothing when there is none within `patience`.
    pub(crate) async fn take(&self, scope: &ReadScope, patience: Duration) -> Option<Turn> {
        let own = self.of((scope.tenant, scope.psp));
        // One's own first: who waits for it holds nothing that others could use.
        let both = async { Some(Turn { _own: own.acquire_owned().await.ok()?, _all: self.all.clone().acquire_owned().await.ok()? }) };
        timeout(patience, both).await.ok().flatten()
    }

    fn of(&self, party: Party) -> Arc<Semaphore> {
        // A panic while the lock was held leaves a map that is still whole.
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = own.get(&party).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(Semaphore::new(1));
        own.insert(party, Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use domain::ids::Ulid;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(50);

    fn of(tenant: u8) -> ReadScope {
        ReadScope { tenant: Some(MerchantId(Ulid::from_bytes([tenant; 16]))), ..ReadScope::default() }
    }

    #[tokio::test]
    async fn a_tenant_has_one_turn_and_all_together_so_many() {
        let turns = Turns::new(2);
        let first = turns.take(&of(1), PATIENCE).await.expect("a turn");
        assert!(turns.take(&of(1), PATIENCE).await.is_none(), "one at a time");
        let other = turns.take(&of(2), PATIENCE).await.expect("another tenant's own");
        assert!(turns.take(&of(3), PATIENCE).await.is_none(), "no more than there is room for");
        drop(first);
        let again = turns.take(&of(1), PATIENCE).await.expect("given back");
        drop((other, again));
        drop(turns.of((None, None)));
        assert!(turns.own.lock().unwrap().len() <= 1, "who has no turn is forgotten");
    }

    #[tokio::test]
    async fn whoever_waits_for_its_own_turn_takes_none_from_others() {
        let turns = Arc::new(Turns::new(2));
        let first = turns.take(&of(1), PATIENCE).await.expect("a turn");
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take(&of(1), Duration::from_secs(10)).await.is_some() }
        });
        tokio::time::sleep(PATIENCE).await;
        assert!(turns.take(&of(2), PATIENCE).await.is_some());
        drop(first);
        assert!(waiting.await.unwrap());
    }
}
