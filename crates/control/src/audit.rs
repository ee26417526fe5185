//! The audit: one record for each mutation, in its transaction.
