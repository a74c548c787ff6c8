//! One capability: code, then value.
#![no_main]

use bgp_speaker::wire::Capability;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&code, value)) = data.split_first() else {
        return;
    };
    if value.len() > 255 {
        return;
    }
    if let Ok(capability) = Capability::decode(code, value) {
        assert_eq!(capability.code(), code);
        assert_eq!(
            Capability::decode(code, &capability.to_bytes()[2..]),
            Ok(capability)
        );
    }
});
