//! One attribute, as the API carries them.
#![no_main]

use bgp_speaker::wire::decode_one;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Err(error) = decode_one(data) {
        assert!(!error.to_string().is_empty());
    }
});
