//! NOTIFICATION and ROUTE-REFRESH.
#![no_main]

use bgp_speaker::wire::Notification;
use bgp_speaker::wire::route_refresh::{RouteRefresh, Rules};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let body = Bytes::copy_from_slice(data);
    if let Ok(notification) = Notification::decode(&body) {
        let text = format!(
            "{notification} {notification:?} {:?}",
            notification.communication()
        );
        assert!(!text.chars().any(char::is_control));
        if data.len() <= 4096 - 19 {
            assert_eq!(notification.encode().slice(19..), body);
        }
    }
    for rules in [Rules::Plain, Rules::Enhanced] {
        match RouteRefresh::decode(&body, rules) {
            Ok(refresh) => assert_eq!(refresh.encode().len(), 23),
            Err(error) => assert!(matches!(error.answer().code, 1 | 7)),
        }
    }
});
