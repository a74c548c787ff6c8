//! A stream cut into parts: whole messages come out the same however it is cut.
#![no_main]

use bgp_speaker::wire::{Error, Frame, Framer, MAX_EXTENDED_MESSAGE, MAX_MESSAGE};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fn frames(stream: &[u8], step: usize, limit: usize) -> (Vec<Frame>, Option<Error>) {
    let mut framer = Framer::new();
    framer.set_limit(limit);
    let mut frames = Vec::new();
    for part in stream.chunks(step.max(1)) {
        framer.push(Bytes::copy_from_slice(part));
        loop {
            match framer.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(error.answer().code, 1);
                    return (frames, Some(error));
                }
            }
        }
    }
    (frames, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((&step, stream)) = data.split_first() else {
        return;
    };
    for limit in [MAX_MESSAGE, MAX_EXTENDED_MESSAGE] {
        assert_eq!(
            frames(stream, usize::from(step), limit),
            frames(stream, usize::MAX, limit)
        );
    }
});
