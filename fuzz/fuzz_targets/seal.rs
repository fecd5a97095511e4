//! Fuzzes [`qbm_fuzz_bodies::seal`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qbm_fuzz_bodies::seal(bytes));
