//! One parser under the bytes that libFuzzer finds; the binary's name says which.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    stillpoint_vault::fuzzing::parse(env!("CARGO_BIN_NAME"), bytes);
});
