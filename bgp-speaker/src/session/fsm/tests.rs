use std::fmt::Write as _;

use super::*;
use crate::session::agree::{Graceful, Refresh};
use crate::session::event::Ending;
use crate::types::{Asn, AsnWidth, Family, HoldTime, RouterId, SessionKind};
use crate::wire::capability::NotificationSupport;

fn agreed() -> Box<Agreed> {
    Box::new(Agreed {
        remote_asn: Asn::new(65001).unwrap(),
        remote_id: RouterId::new("10.0.0.2".parse().unwrap()).unwrap(),
        kind: SessionKind::External,
        hold: HoldTime::new(90).unwrap(),
        keepalive: Some(Duration::from_secs(30)),
        families: vec![Family::IPV4_UNICAST],
        asn_width: AsnWidth::Four,
        refresh: Refresh::Enhanced,
        max_message: 4096,
        extended_next_hop: vec![],
        graceful: Graceful {
            theirs: None,
            ours: vec![],
            notification: NotificationSupport::No,
        },
    })
}

fn states() -> [State; 6] {
    [
        State::Idle,
        State::Connect,
        State::Active,
        State::OpenSent,
        State::OpenConfirm(agreed()),
        State::Established(agreed()),
    ]
}

fn events() -> Vec<(&'static str, Event)> {
    let ending = |answer: Notification| {
        let why = sent(&answer);
        Box::new(Ending {
            say: Some(answer),
            why,
        })
    };
    let stop = || {
        Box::new(Ending {
            say: Some(Notification::cease(Cease::AdministrativeShutdown)),
            why: DownReason::Shutdown("maintenance".into()),
        })
    };
    let header = || ending(Notification::connection_not_synchronized());
    let heard = || Box::new(Notification::cease(Cease::PeerDeconfigured));
    vec![
        ("ManualStart", Event::ManualStart),
        ("ManualStop", Event::ManualStop(stop())),
        ("AutomaticStart", Event::AutomaticStart),
        (
            "ManualStart_with_PassiveTcpEstablishment",
            Event::ManualStartWithPassiveTcpEstablishment,
        ),
        (
            "AutomaticStart_with_PassiveTcpEstablishment",
            Event::AutomaticStartWithPassiveTcpEstablishment,
        ),
        (
            "AutomaticStart_with_DampPeerOscillations",
            Event::AutomaticStartWithDampPeerOscillations,
        ),
        (
            "AutomaticStart_with_DampPeerOscillations_and_PassiveTcpEstablishment",
            Event::AutomaticStartWithDampPeerOscillationsAndPassiveTcpEstablishment,
        ),
        ("AutomaticStop", Event::AutomaticStop(stop())),
        ("ConnectRetryTimer_Expires", Event::ConnectRetryTimerExpires),
        ("HoldTimer_Expires", Event::HoldTimerExpires),
        ("KeepaliveTimer_Expires", Event::KeepaliveTimerExpires),
        ("DelayOpenTimer_Expires", Event::DelayOpenTimerExpires),
        ("IdleHoldTimer_Expires", Event::IdleHoldTimerExpires),
        ("TcpConnection_Valid", Event::TcpConnectionValid),
        ("Tcp_CR_Invalid", Event::TcpCrInvalid),
        ("Tcp_CR_Acked", Event::TcpCrAcked),
        ("TcpConnectionConfirmed", Event::TcpConnectionConfirmed),
        (
            "TcpConnectionFails",
            Event::TcpConnectionFails(DownReason::ConnectionClosed(None)),
        ),
        ("BGPOpen", Event::BgpOpen(agreed())),
        (
            "BGPOpen with DelayOpenTimer running",
            Event::BgpOpenWithDelayOpenTimerRunning,
        ),
        ("BGPHeaderErr", Event::BgpHeaderErr(header())),
        (
            "BGPOpenMsgErr",
            Event::BgpOpenMsgErr(ending(Notification::bad_peer_as())),
        ),
        ("OpenCollisionDump", Event::OpenCollisionDump),
        (
            "NotifMsgVerErr",
            Event::NotifMsgVerErr(Box::new(Notification::unsupported_version())),
        ),
        ("NotifMsg", Event::NotifMsg(heard())),
        ("KeepAliveMsg", Event::KeepAliveMsg),
        ("UpdateMsg", Event::UpdateMsg(MessageType::Update)),
        (
            "UpdateMsgErr",
            Event::UpdateMsgErr(ending(Notification::malformed_attribute_list())),
        ),
        ("SendHoldTimer_Expires", Event::SendHoldTimerExpires),
    ]
}

fn words(action: &Action) -> String {
    match action {
        Action::Dial => "dial".into(),
        Action::SendOpen => "send OPEN".into(),
        Action::SendKeepalive => "send KEEPALIVE".into(),
        Action::Notify(n) => format!("send NOTIFICATION {}/{}", n.code, n.subcode),
        Action::Drop(Close::Flush) => "close".into(),
        Action::Drop(Close::Abort) => "abort".into(),
        Action::CameUp => "up".into(),
        Action::Failed(_) => "failed".into(),
        Action::WentDown(..) => "down".into(),
    }
}

/// Timers that ran before the step, one per state that has any.
fn running(state: &State, now: Instant) -> TimerTable {
    let mut timers = TimerTable::default();
    let later = now + Duration::from_secs(1000);
    let run: &[Timer] = match state {
        State::Idle => &[Timer::IdleHold],
        State::Connect | State::Active => &[Timer::ConnectRetry],
        State::OpenSent => &[Timer::Hold],
        State::OpenConfirm(_) => &[Timer::Hold, Timer::Keepalive],
        State::Established(_) => &[Timer::Hold, Timer::Keepalive, Timer::SendHold],
    };
    for timer in run {
        timers.start(*timer, later);
    }
    timers
}

fn describe_timers(before: &TimerTable, after: &TimerTable, now: Instant) -> String {
    let mut words = String::new();
    for timer in Timer::ALL {
        match (before.get(timer), after.get(timer)) {
            (was, Some(at)) if was != Some(at) => {
                // Jitter rounded away: the table shows which value it was taken from.
                let seconds = at.duration_since(now).as_secs_f64();
                let nominal = [3.0, 30.0, 90.0, 120.0, 240.0, 480.0]
                    .into_iter()
                    .find(|n| seconds <= *n)
                    .unwrap();
                write!(words, " +{timer:?} {nominal}s").unwrap();
            }
            (Some(_), None) => write!(words, " -{timer:?}").unwrap(),
            (None | Some(_), None | Some(_)) => {}
        }
    }
    words
}

#[test]
fn every_state_and_event_pair_does_what_the_table_says() {
    let now = Instant::now();
    let wished = Wished::default();
    let mut table = String::from(
        "# (state, event) -> next state: actions; timers started (+) and stopped (-).\n\
         # An active session, then where a passive one differs. UPDATE=1 rewrites.\n",
    );
    let mut numbers = Vec::new();
    for state in states() {
        writeln!(table, "\n{:?}", state.name()).unwrap();
        for (name, event) in events() {
            if state == State::Idle {
                numbers.push(event.number());
            }
            let mut rows = Vec::new();
            for initiative in [Initiative::Dials, Initiative::Waits] {
                let mut fsm = Fsm {
                    state: state.clone(),
                    timers: running(&state, now),
                };
                let before = fsm.timers;
                let mut cx = Context {
                    now,
                    wished: &wished,
                    jitter: &mut Jitter::new(1),
                    retry: Duration::from_secs(3),
                    initiative,
                };
                let mut actions = Vec::new();
                fsm.step(&mut cx, event.clone(), &mut actions);
                let actions: Vec<String> = actions.iter().map(words).collect();
                rows.push(format!(
                    "{:?}: {};{}",
                    fsm.state.name(),
                    actions.join(", "),
                    describe_timers(&before, &fsm.timers, now)
                ));
            }
            let row = |text: &str| text.replace(": ;", ";").trim_end_matches(';').to_owned();
            writeln!(table, "  {:2} {name} -> {}", event.number(), row(&rows[0])).unwrap();
            if rows[0] != rows[1] {
                writeln!(table, "     passive -> {}", row(&rows[1])).unwrap();
            }
        }
    }
    let all: Vec<u8> = (1..=29).collect();
    assert_eq!(numbers, all, "one event of each number");

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/session/fsm/table.txt");
    if std::env::var_os("UPDATE").is_some_and(|v| v == "1") {
        std::fs::write(path, &table).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    for (number, (is, should)) in table.lines().zip(expected.lines()).enumerate() {
        assert_eq!(is, should, "line {} of {path}; UPDATE=1 rewrites", number + 1);
    }
    assert_eq!(table.lines().count(), expected.lines().count());
}

#[test]
fn no_timer_outlives_the_state_it_belongs_to() {
    let now = Instant::now();
    let wished = Wished::default();
    for state in states() {
        for (name, event) in events() {
            let mut fsm = Fsm {
                state: state.clone(),
                timers: running(&state, now),
            };
            let mut cx = Context {
                now,
                wished: &wished,
                jitter: &mut Jitter::new(1),
                retry: Duration::from_secs(3),
                initiative: Initiative::Dials,
            };
            fsm.step(&mut cx, event, &mut Vec::new());
            let allowed: &[Timer] = match &fsm.state {
                State::Idle => &[Timer::IdleHold],
                State::Connect | State::Active => &[Timer::ConnectRetry],
                State::OpenSent => &[Timer::Hold],
                State::OpenConfirm(_) => &[Timer::Hold, Timer::Keepalive],
                State::Established(_) => &[Timer::Hold, Timer::Keepalive, Timer::SendHold],
            };
            for timer in Timer::ALL {
                let runs = fsm.timers.get(timer).is_some();
                assert!(
                    !runs || allowed.contains(&timer),
                    "{timer:?} runs in {:?} after {name} in {:?}",
                    fsm.state.name(),
                    state.name()
                );
            }
        }
    }
}

#[test]
fn a_hold_time_of_zero_starts_neither_hold_nor_keepalive_timer() {
    let now = Instant::now();
    let mut fsm = Fsm {
        state: State::OpenSent,
        timers: running(&State::OpenSent, now),
    };
    let quiet = Agreed {
        hold: HoldTime::new(0).unwrap(),
        keepalive: None,
        ..*agreed()
    };
    let mut cx = Context {
        now,
        wished: &Wished::default(),
        jitter: &mut Jitter::new(1),
        retry: Duration::ZERO,
        initiative: Initiative::Dials,
    };
    fsm.step(&mut cx, Event::BgpOpen(Box::new(quiet)), &mut Vec::new());
    fsm.step(&mut cx, Event::KeepAliveMsg, &mut Vec::new());
    assert_eq!(fsm.state().name(), StateName::Established);
    assert_eq!(fsm.timers().next(), None);
}
