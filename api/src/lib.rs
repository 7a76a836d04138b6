//! Speaks HTTP and composes the roles of the platform; the only crate that knows all the others.

pub mod embedded;
