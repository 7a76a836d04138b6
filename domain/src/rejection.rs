//! Rejections: business answers that change nothing. Named after the rule broken; one closed enum per aggregate.

/// What kind of refusal it is; the edge turns it into a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectionClass {
    /// The thing does not exist for this caller (404).
    Missing,
    /// The input breaks a rule whatever the state (422).
    Invalid,
    /// The thing is in a state that does not allow it (409).
    State,
}

/// A rejection as the layers above see it: the type survives the store as its code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejected {
    /// PascalCase name of the rule, prefixed by nothing: `OrderNotEditable`.
    pub code: &'static str,
    /// The kind of refusal.
    pub class: RejectionClass,
    /// A sentence for the caller.
    pub message: String,
}

/// Declares the closed enum of an aggregate's rejections with code, class and message for each.
macro_rules! rejections {
    ($(#[$meta:meta])* { $( $variant:ident $({ $($field:ident : $ty:ty),* $(,)? })? => $class:ident, $message:literal; )* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        pub enum Rejection {
            $(
                #[doc = $message]
                #[error($message)]
                $variant $({ $( #[doc = "See the message."] $field : $ty),* })?
            ),*
        }
        impl Rejection {
            /// The PascalCase code on the wire.
            pub fn code(&self) -> &'static str {
                match self { $( Self::$variant { .. } => stringify!($variant) ),* }
            }
            /// The kind of refusal.
            pub fn class(&self) -> $crate::rejection::RejectionClass {
                match self { $( Self::$variant { .. } => $crate::rejection::RejectionClass::$class ),* }
            }
        }
        impl From<Rejection> for $crate::rejection::Rejected {
            fn from(rejection: Rejection) -> Self {
                Self { code: rejection.code(), class: rejection.class(), message: rejection.to_string() }
            }
        }
    };
}
pub(crate) use rejections;
