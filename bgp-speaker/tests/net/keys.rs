//! A TCP-MD5 key that only one side has: nobody comes up, and whoever dials says why.

use std::time::Duration;

use bgp_speaker::config::{Auth, Connect, PeerConfig, Timers};
use bgp_speaker::speaker::{DownReason, Event, Shutdown, StateName};
use bgp_speaker::types::Secret;

use crate::{LIMIT, Running, free_port, instance, neighbour};

/// An unanswered dial is given up after half of it.
const RETRY: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_key_that_only_the_dialling_side_has_keeps_the_session_down_and_is_named() {
    one_sided(
        key(),
        Auth::None,
        "a password that is missing or differs on the other side looks the same",
    )
    .await;
}

#[tokio::test]
async fn a_key_that_only_the_accepting_side_has_keeps_the_session_down_and_is_named() {
    one_sided(
        Auth::None,
        key(),
        "a password that only the other side has looks the same",
    )
    .await;
}

fn key() -> Auth {
    Auth::Md5(Secret::new(b"s3cret").unwrap())
}

async fn one_sided(dialling: Auth, accepting: Auth, hint: &str) {
    let port = free_port();
    let accepts = PeerConfig {
        auth: accepting,
        ..neighbour(2, port)
    };
    let dials = PeerConfig {
        auth: dialling,
        connect: Connect::ActiveAndPassive,
        local_address: Some([127, 0, 0, 2].into()),
        timers: Timers {
            connect_retry: RETRY,
            ..Timers::default()
        },
        ..neighbour(1, port)
    };
    let mut one = Running::start(instance(1, Some(port), 0, vec![("two", accepts)]));
    one.until("two", StateName::Active).await;
    let mut two = Running::start(instance(2, None, 0, vec![("one", dials)]));
    // Refused as long as nobody listens; then twice without an answer.
    let unanswered = async {
        let mut times = 0;
        while times < 2 {
            let Event::State { to, why, .. } = two.events.recv().await.unwrap() else {
                continue;
            };
            assert!(to < StateName::OpenSent, "connected in spite of the key");
            let Some(DownReason::ConnectFailed(error)) = why.as_deref() else {
                continue;
            };
            if error.contains("did not answer") {
                assert!(error.contains(hint), "{error}");
                times += 1;
            }
        }
    };
    tokio::time::timeout(LIMIT, unanswered).await.unwrap();
    let (_, why) = two.peer("one").await.last_down.unwrap();
    assert!(matches!(*why, DownReason::ConnectFailed(_)), "{why}");
    // The other side heard nothing at all.
    assert_eq!(one.peer("two").await.state, StateName::Active);
    assert_eq!(one.peer("two").await.times_established, 0);
    one.end(Shutdown::Stop).await;
    two.end(Shutdown::Stop).await;
}
