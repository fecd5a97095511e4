//! What the end-to-end scenarios share.
#![forbid(unsafe_code)]
