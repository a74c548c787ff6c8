use proptest::prelude::*;

use super::*;

const RATE: Rate = Rate {
    interval: 10,
    burst: 3,
};

/// Spends at each of these times; what the event said, or that there was none.
fn spent(times: &[u64]) -> Vec<Option<u64>> {
    let mut budget = Budget::default();
    let mut said = Vec::new();
    for time in times {
        let (next, missed) = spend(*time, budget, RATE);
        budget = next;
        said.push(missed);
    }
    said
}

#[test]
fn a_burst_is_told_and_what_is_more_is_counted_in_the_next_event() {
    let said = spent(&[100, 100, 100, 100, 100, 110]);
    assert_eq!(said, [Some(0), Some(0), Some(0), None, None, Some(2)]);
}

#[test]
fn a_budget_that_rested_is_full_and_not_more() {
    let said = spent(&[100, 100, 100, 1_000_000, 1_000_000, 1_000_000, 1_000_000]);
    assert_eq!(said.iter().filter(|said| said.is_some()).count(), 6);
    assert_eq!(said.last(), Some(&None));
}

#[test]
fn a_listener_is_forgotten_when_its_time_is_over() {
    let listener = Listener { drops: 10, traces: 0 };
    assert!(listener.wants(9, Kind::Drop));
    assert!(!listener.wants(10, Kind::Drop));
    assert!(!listener.wants(0, Kind::Trace));
}

#[test]
fn an_answer_keeps_the_verdict_beside_what_is_counted() {
    let dropped = 2 | answer::dropped(DropReason::NoService);
    assert_eq!(answer::verdict(dropped), 2);
    assert_eq!(answer::counted(dropped), Some(DropReason::NoService.number()));
    assert_eq!(answer::counted(2), None);
    assert_eq!(
        answer::counted(1 | answer::FORWARDED),
        Some(crate::config::FORWARDED)
    );
}

#[test]
fn only_a_system_call_has_a_caller() {
    let caller = Caller {
        process: 1234,
        name: *b"curl\0\0\0\0\0\0\0\0\0\0\0\0",
    };
    let mut event = Event {
        direction: Direction::Socket as u8,
        ..Event::EMPTY
    };
    event.octets[..20].copy_from_slice(crate::plain::octets(&caller));
    assert_eq!(event.caller(), Some(caller));
    assert_eq!(event.packet(), [0_u8; 0]);
    event.direction = Direction::Egress as u8;
    assert_eq!(event.caller(), None);
}

#[test]
fn addresses_of_an_event_are_those_of_its_family() {
    let mut event = Event {
        family: 4,
        source: [u32::from_ne_bytes([10, 0, 0, 1]), 0, 0, 0],
        ..Event::EMPTY
    };
    let (source, _) = event.addresses().expect("addresses");
    assert_eq!(source.to_string(), "10.0.0.1");
    event.family = 6;
    event.source = V6::from("2001:db8::1".parse::<Ipv6Addr>().expect("v6")).0;
    let (source, _) = event.addresses().expect("addresses");
    assert_eq!(source.to_string(), "2001:db8::1");
    event.family = 0;
    assert_eq!(event.addresses(), None);
}

#[test]
fn a_length_that_lies_shows_no_more_than_there_is() {
    let event = Event {
        captured: u8::MAX,
        ..Event::EMPTY
    };
    assert_eq!(event.packet().len(), OCTETS);
}

proptest! {
    #[test]
    fn no_more_is_told_than_the_rate_allows_and_nothing_is_forgotten(
        steps in proptest::collection::vec(0_u64..30, 1..300)
    ) {
        let mut now = 1000;
        let (mut budget, mut told, mut said) = (Budget::default(), 0, 0);
        for step in &steps {
            now += step;
            let (next, missed) = spend(now, budget, RATE);
            budget = next;
            if let Some(missed) = missed {
                told += 1;
                said += missed;
            }
        }
        prop_assert!(told <= (now - 1000) / RATE.interval + RATE.burst);
        let all = u64::try_from(steps.len()).expect("small");
        prop_assert_eq!(told + said + budget.missed, all);
    }
}
