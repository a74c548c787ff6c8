//! A file of manifests.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let read = crds::read_bytes(Path::new("fuzz.yaml"), data);
    for problem in &read.problems {
        assert!(!problem.to_string().is_empty());
    }
});
