//! The body of an OPEN.
#![no_main]

use bgp_speaker::wire::Open;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match Open::decode(&Bytes::copy_from_slice(data)) {
        Ok(open) => {
            let _ = (open.families(), open.graceful_restart(), open.four_octet_asn());
            let again = open.encode();
            assert!(again.len() <= 4096 || data.len() > 4096 - 19);
            assert_eq!(Open::decode(&again.slice(19..)), Ok(open));
        }
        Err(error) => {
            assert_eq!(error.answer().code, 2);
            assert!(!error.to_string().is_empty());
        }
    }
});
