//! Admission: one transaction that decides and writes.
