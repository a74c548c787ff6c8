use super::*;
use crate::session::agree::{Graceful, Refresh};
use crate::types::{Asn, AsnWidth, HoldTime, RouterId, SessionKind};

const V4: Family = Family::IPV4_UNICAST;
const V6: Family = Family::IPV6_UNICAST;

fn agreed(theirs: Option<GracefulRestart>, notification: NotificationSupport) -> Agreed {
    Agreed {
        remote_asn: Asn::new(65001).unwrap(),
        remote_id: RouterId::new("10.0.0.2".parse().unwrap()).unwrap(),
        kind: SessionKind::External,
        hold: HoldTime::new(90).unwrap(),
        keepalive: None,
        families: vec![V4, V6],
        asn_width: AsnWidth::Four,
        refresh: Refresh::Enhanced,
        max_message: 4096,
        extended_next_hop: vec![],
        graceful: Graceful {
            theirs,
            ours: vec![],
            notification,
        },
    }
}

fn restarts(restart_time: u16, families: &[(Family, Forwarding)]) -> Option<GracefulRestart> {
    Some(GracefulRestart {
        state: RestartState::Fresh,
        notification: NotificationSupport::Yes,
        restart_time,
        families: families.to_vec(),
    })
}

const BOTH: [(Family, Forwarding); 2] = [(V4, Forwarding::Preserved), (V6, Forwarding::Lost)];

#[test]
fn only_families_of_the_capability_are_kept_and_only_for_the_restart_time() {
    let now = Instant::now();
    let mut helper = Helper::default();
    let agreed = agreed(restarts(100, &BOTH[..1]), NotificationSupport::No);
    let lost = helper.session_lost(now, &agreed, Loss::Silent);
    assert_eq!((lost.sweep, lost.keep), (vec![], vec![V4]));
    let end = now + Duration::from_secs(100);
    assert_eq!(helper.next_timeout(), Some(end));
    assert!(helper.take_due(end - Duration::from_millis(1)).is_empty());
    assert_eq!(helper.take_due(end), [V4]);
    assert_eq!(helper.holds(), Holds::Nothing);
}

#[test]
fn nothing_is_kept_for_a_peer_without_the_capability_or_with_a_restart_time_of_zero() {
    let now = Instant::now();
    for theirs in [None, restarts(0, &BOTH), restarts(100, &[])] {
        let agreed = agreed(theirs, NotificationSupport::Yes);
        let lost = Helper::default().session_lost(now, &agreed, Loss::Silent);
        assert!(lost.keep.is_empty());
    }
}

#[test]
fn after_a_notification_routes_are_kept_only_with_the_n_bit_and_never_after_a_hard_reset() {
    let now = Instant::now();
    let keep = |notification, loss| {
        let agreed = agreed(restarts(100, &BOTH), notification);
        !Helper::default().session_lost(now, &agreed, loss).keep.is_empty()
    };
    assert!(keep(NotificationSupport::No, Loss::Silent));
    assert!(keep(NotificationSupport::Yes, Loss::Silent));
    assert!(!keep(NotificationSupport::No, Loss::Notified));
    assert!(keep(NotificationSupport::Yes, Loss::Notified));
    assert!(!keep(NotificationSupport::No, Loss::Hard));
    assert!(!keep(NotificationSupport::Yes, Loss::Hard));
}

#[test]
fn a_second_loss_flushes_what_was_stale_from_the_first() {
    let now = Instant::now();
    let mut helper = Helper::default();
    let agreed = agreed(
        restarts(100, &[(V4, Forwarding::Preserved)]),
        NotificationSupport::No,
    );
    helper.session_lost(now, &agreed, Loss::Silent);
    assert!(helper.session_up(now, &agreed).is_empty());
    let lost = helper.session_lost(now, &agreed, Loss::Silent);
    assert_eq!((lost.sweep, lost.keep), (vec![V4], vec![V4]));
}

#[test]
fn a_peer_back_without_the_forwarding_bit_or_the_family_loses_its_stale_routes() {
    let now = Instant::now();
    let before = agreed(restarts(100, &BOTH), NotificationSupport::No);
    let back = |theirs| {
        let mut helper = Helper::default();
        helper.session_lost(now, &before, Loss::Silent);
        helper.session_up(now, &agreed(theirs, NotificationSupport::No))
    };
    assert_eq!(back(restarts(100, &BOTH)), [V6]);
    assert_eq!(back(restarts(100, &[(V6, Forwarding::Preserved)])), [V4]);
    assert_eq!(back(None), [V4, V6]);
}

#[test]
fn a_peer_that_never_sends_end_of_rib_is_swept_by_the_timer() {
    let now = Instant::now();
    let mut helper = Helper::default();
    let agreed = agreed(
        restarts(100, &[(V4, Forwarding::Preserved)]),
        NotificationSupport::No,
    );
    helper.session_lost(now, &agreed, Loss::Silent);
    helper.session_up(now, &agreed);
    assert_eq!(helper.next_timeout(), Some(now + STALE_MAX));
    assert_eq!(helper.take_due(now + STALE_MAX), [V4]);
    assert_eq!(helper.end_of_rib(V4), Swept::NotDue);
}

#[test]
fn restart_bit_is_set_only_after_a_restart_and_the_forwarding_bit_also_after_a_lost_session() {
    let wished = Some(Wished { restart_time: 120 });
    let bits = |past| {
        let c = capability(wished, [V4].into_iter(), past);
        (c.state, c.families)
    };
    assert_eq!(
        bits(Past::None),
        (RestartState::Fresh, vec![(V4, Forwarding::Lost)])
    );
    assert_eq!(
        bits(Past::Restarted),
        (RestartState::Restarted, vec![(V4, Forwarding::Preserved)])
    );
    assert_eq!(
        bits(Past::SessionLost),
        (RestartState::Fresh, vec![(V4, Forwarding::Preserved)])
    );
    let helper_only = capability(None, [V4].into_iter(), Past::Restarted);
    assert!(helper_only.families.is_empty());
    assert_eq!(helper_only.state, RestartState::Fresh);
}

#[test]
fn deferral_waits_for_peers_that_are_coming_not_for_those_that_are_away() {
    let now = Instant::now();
    let after = |seconds, peers: &[Progress]| {
        let mut deferral = Deferral::new(now, vec![V4]);
        let at = now + Duration::from_secs(seconds);
        !deferral.release(at, |_| peers.to_vec()).is_empty()
    };
    use Progress::{Away, Coming, Done};
    assert!(!after(0, &[Away, Away]));
    assert!(!after(1, &[Done, Coming]));
    assert!(after(1, &[Done, Away]));
    assert!(after(1, &[Done, Done]));
    assert!(after(20, &[Away, Away]), "nobody is there: it does not matter");
    assert!(!after(20, &[Away, Coming]));
    assert!(after(120, &[Coming, Coming]), "never longer than the timer");
}
