//! Storage over ordinary files and block devices.
#![forbid(unsafe_code)]
