//! cargo-fuzz's way in; the property is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millstream_fuzz::association(data));
