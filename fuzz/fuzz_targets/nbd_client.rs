//! Fuzzes [`qbm_fuzz_bodies::client`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qbm_fuzz_bodies::client(bytes));
