//! The body of an UPDATE. What is announced is sent on and must arrive the same.
#![no_main]

use bgp_speaker::wire::MAX_EXTENDED_MESSAGE;
use bgp_speaker::wire::attr::{self, EncodeContext};
use bgp_speaker::wire::update::{self, Announce, Announced, Carrier, Context};
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use stentor_fuzz::contexts;

fn send_on(announced: &Announced, context: &Context) {
    let mut attributes = BytesMut::new();
    let encode = EncodeContext {
        asn_width: context.asn_width,
        session: context.session,
        carrier: Carrier::of(announced.family, &announced.attrs.next_hop),
    };
    attr::encode(&announced.attrs, &encode, &mut attributes);
    let announce = Announce {
        family: announced.family,
        attributes: &attributes,
        next_hop: &announced.attrs.next_hop,
        max_message: MAX_EXTENDED_MESSAGE,
    };
    let mut out = BytesMut::new();
    // AS4_PATH can make an UPDATE of the greatest length longer.
    let Ok(taken) = update::encode_announce(&announce, &announced.prefixes, &mut out) else {
        return;
    };
    let again = update::decode(&out.freeze().slice(19..), context).expect("what we encode is sound");
    assert_eq!(again.errors, []);
    let mut wanted = announced.clone();
    wanted.prefixes.truncate(taken);
    if context.session == bgp_speaker::types::SessionKind::Internal {
        wanted.attrs.local_pref = wanted.attrs.local_pref.or(Some(100));
    }
    assert_eq!(again.announced, [wanted]);
}

fuzz_target!(|data: &[u8]| {
    let body = Bytes::copy_from_slice(data);
    for context in contexts() {
        match update::decode(&body, &context) {
            Ok(update) => {
                for announced in &update.announced {
                    send_on(announced, &context);
                }
                for error in &update.errors {
                    assert!(!error.to_string().is_empty());
                }
            }
            Err(error) => {
                assert_eq!(error.answer().code, 3);
                assert!(error.answer().encode().len() <= 4096);
            }
        }
    }
});
