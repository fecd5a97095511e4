//! Storage over a simulated medium that loses, tears, reorders, fails and crashes.
#![forbid(unsafe_code)]
