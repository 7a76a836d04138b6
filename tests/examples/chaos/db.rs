//! What the simulator's model reads: events.

use domain::envelope::RecordedEvent;

/// A log.
pub struct Db {
    pub events: Vec<RecordedEvent>,
}
