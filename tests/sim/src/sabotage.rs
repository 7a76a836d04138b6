//! Saboteurs: ports that break one promise each. A simulator that does not catch them would not catch a bug either.

macro_rules! saboteurs {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A port that breaks one promise.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Saboteur {
            $($(#[$doc])* $name,)*
        }

        impl Saboteur {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// It breaks a promise of the payment provider, and not of a server.
            pub const fn is_of_the_provider(self) -> bool {
                matches!(
                    self,
                    Self::BlindRetry
                        | Self::TimeoutIsDecline
                        | Self::TimeoutIsNothing
                        | Self::NewNameEachLook
                        | Self::AmountAssumed
                        | Self::FloatMoney
                        | Self::CaptureWithoutKey
                        | Self::RefundWithoutKey
                        | Self::PendingIsDone
                )
            }

            /// Schedules come to where its promise matters, more often than once in thousands.
            pub const fn is_provoked(self) -> bool {
                !matches!(self, Self::WipesCheckpointOnly)
            }
        }
    };
}

saboteurs! {
    /// Requests are written again under a key that was used.
    DropsDedup,
    /// A batch is acknowledged and not written.
    AckBeforeCommit,
    /// Expected versions are not compared.
    SkipsVersionCheck,
    /// Events of a batch are written, some of its keys are not.
    TornBatch,
    /// A key is not written with its events.
    KeyOutsideTransaction,
    /// A position is left out.
    PositionGap,
    /// An event of a batch is not written.
    LosesEvent,
    /// What is stored is not what was hashed.
    PayloadChanged,
    /// A commit is not linked to the one before.
    ChainBroken,
    /// The time of recording goes back.
    TimeGoesBack,
    /// A stored answer is not given.
    AnswerForgotten,
    /// Another request under a used key passes for the first.
    KeyTakesAnyBody,
    /// Keys are looked up without their owner.
    KeyOfAnyTenant,
    /// Streams are looked up without their owner.
    TenantIgnored,
    /// A stream is read without its newest event.
    LoadsOldStream,
    /// Answers that write nothing rest on a cache.
    BelievesItsCache,
    /// A commit whose answer was lost counts as refused.
    LostIsRefused,
    /// The restored database keeps its epoch.
    EpochNotRaised,
    /// The process managers' checkpoint moves wherever it stands.
    CheckpointNotCompared,
    /// The process managers' checkpoint moves without what belongs to it.
    CheckpointOutsideTransaction,
    /// Tasks are held for ever.
    LeaseForEver,
    /// Tasks are handed to everybody.
    NoLeases,
    /// A task is gone before it is done.
    TaskGoneBeforeDone,
    /// What follows from an answer is not kept.
    FollowUpForgotten,
    /// A call-back is acknowledged and not stored.
    HookAckedUnstored,
    /// A call-back is acknowledged, and its task handed over, before it is stored.
    KeptAfterHandOver,
    /// The task of a call-back that is handed over stands free.
    HandedOverUnleased,
    /// Parked call-backs stay parked.
    ParkedForgotten,
    /// Names of attempts are not kept.
    ReferencesForgotten,
    /// A repeated start is a second charge.
    BlindRetry,
    /// A time-out counts as refused.
    TimeoutIsDecline,
    /// A time-out counts as never sent, for refunds too.
    TimeoutIsNothing,
    /// A payment has another name each time one looks.
    NewNameEachLook,
    /// Whatever came counts as what was owed.
    AmountAssumed,
    /// Amounts go through a float.
    FloatMoney,
    /// A repeated capture captures again.
    CaptureWithoutKey,
    /// A repeated refund refunds again.
    RefundWithoutKey,
    /// A pending refund counts as done.
    PendingIsDone,
    /// The bus takes whatever sequence comes.
    BusComparesNothing,
    /// Read models are written wherever their checkpoint stands.
    ProjectorNotFenced,
    /// The checkpoint moves, the rows do not.
    CheckpointBeforeRows,
    /// The rows are written, the checkpoint does not move.
    RowsBeforeCheckpoint,
    /// Rows of events that a restored log does not have are written.
    FoldsVoidHistory,
    /// A row is not written.
    RowForgotten,
    /// A row that is there is not found.
    RowNotFound,
    /// A read model starts again over old rows.
    WipesCheckpointOnly,
}
