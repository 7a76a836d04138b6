//! Hand-made history for tests.
