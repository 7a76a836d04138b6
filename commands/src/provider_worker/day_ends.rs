//! What becomes of a watch that has ended: looks at the ends of days, where the code can still be paid.

use chrono::{DateTime, Utc};
use domain::{
    ids::MerchantId,
    process::{AttemptRef, Task, work::day_end},
};

use super::Worker;
use crate::process_store::ProcessStore;

impl<S: ProcessStore> Worker<S> {
    /// The look that takes the place of a watch that has ended; nothing when the last one was made, or where a code that is over cannot
    /// be paid.
    pub(super) async fn after_watch(
        &self,
        tenant: MerchantId,
        attempt: AttemptRef,
        asked: u32,
        answered: bool,
    ) -> Option<(Task, DateTime<Utc>)> {
        let provider = attempt.provider.clone();
        let next = day_end::next_look(attempt, asked, answered, self.now())?;
        self.calls.codes_stay_payable(tenant, &provider).await.then_some(next)
    }
}
