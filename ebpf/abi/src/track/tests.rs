use proptest::prelude::*;

use super::*;

const LIFETIMES: Lifetimes = Lifetimes {
    open: 8000,
    opening: 60,
    closed: 10,
    other: 60,
};
const NOW: u32 = 100_000;

fn tcp_step(state: u8, flags: u8) -> Step {
    step(NOW, State(state), NOW + 1, Seen::Tcp(flags), &LIFETIMES).expect("the connection goes on")
}

#[test]
fn a_syn_opens_with_the_short_lifetime_and_the_next_packet_gives_the_long_one() {
    let first = begin(NOW, Seen::Tcp(tcp::SYN), &LIFETIMES);
    assert_eq!(first.state, State(0));
    assert_eq!(first.expires, NOW + 60 + 7);
    let second = step(NOW, first.state, first.expires, Seen::Tcp(tcp::ACK), &LIFETIMES).expect("it goes on");
    assert_eq!(second.state, State(State::OPEN));
    assert_eq!(second.expires, NOW + 8000 + 1000);
    assert_eq!(second.tell, Tell::Alive);
}

#[test]
fn a_connection_may_be_picked_up_in_its_middle_and_is_open_once_it_goes_on() {
    for seen in [Seen::Tcp(tcp::ACK), Seen::TcpFragment] {
        let first = begin(NOW, seen, &LIFETIMES);
        assert_eq!((first.state, first.expires), (State(0), NOW + 60 + 7));
        let second = step(NOW, first.state, first.expires, seen, &LIFETIMES).expect("it goes on");
        assert_eq!(second.state, State(State::OPEN));
        assert_eq!(second.tell, Tell::Alive);
    }
}

#[test]
fn the_answer_to_a_syn_opens_nothing_and_what_follows_does() {
    let answer = tcp_step(0, tcp::SYN | tcp::ACK);
    assert_eq!((answer.state, answer.tell), (State(0), Tell::Nothing));
    let data = tcp_step(0, tcp::ACK);
    assert_eq!((data.state, data.tell), (State(State::OPEN), Tell::Alive));
    let lost = tcp_step(State::OPEN, tcp::SYN | tcp::ACK);
    assert_eq!(lost.state, State(State::OPEN), "it stays open");
}

#[test]
fn no_single_packet_of_tcp_makes_a_connection_that_is_kept() {
    for flags in 0..=u8::MAX {
        let first = begin(NOW, Seen::Tcp(flags), &LIFETIMES);
        assert!(!first.state.is_open(), "{flags:#x}");
        assert!(first.expires <= NOW + 60 + 7, "{flags:#x}");
    }
}

#[test]
fn a_syn_sent_again_tells_the_other_way_nothing() {
    let again = tcp_step(0, tcp::SYN);
    assert_eq!(again.state, State(0));
    assert_eq!(again.tell, Tell::Nothing);
}

#[test]
fn one_fin_keeps_the_long_lifetime() {
    let step = tcp_step(State::OPEN, tcp::FIN | tcp::ACK);
    assert_eq!(step.state, State(State::OPEN | State::CLOSED_HERE));
    assert_eq!(step.expires, NOW + 9000);
    assert_eq!(step.tell, Tell::Closed);
}

#[test]
fn fins_of_both_ways_leave_ten_seconds_that_nothing_prolongs() {
    let closed = tcp_step(State::OPEN | State::CLOSED_THERE, tcp::FIN | tcp::ACK);
    assert!(closed.state.is_closed());
    assert_eq!(closed.expires, NOW + 10);
    assert_eq!(closed.tell, Tell::Closed);
    let later = step(
        NOW + 5,
        closed.state,
        closed.expires,
        Seen::Tcp(tcp::ACK),
        &LIFETIMES,
    )
    .expect("no SYN");
    assert_eq!(later.expires, NOW + 10);
    let heard = told(
        NOW + 5,
        closed.state,
        closed.expires,
        Tell::Alive,
        Seen::Tcp(tcp::ACK),
        &LIFETIMES,
    );
    assert_eq!(heard, (closed.state, closed.expires));
}

#[test]
fn a_reset_before_the_connection_is_open_closes_both_ways() {
    let step = tcp_step(0, tcp::RST | tcp::ACK);
    assert!(step.state.is_closed());
    assert_eq!(step.expires, NOW + 10);
    assert_eq!(step.tell, Tell::Reset);
}

#[test]
fn a_lone_reset_does_not_end_an_open_connection() {
    let step = tcp_step(State::OPEN, tcp::RST);
    assert!(!step.state.is_closed());
    assert_eq!(step.expires, NOW + 9000);
}

#[test]
fn a_syn_on_a_closing_connection_begins_a_new_one() {
    for state in [
        State::OPEN | State::CLOSED_HERE,
        State::OPEN | State::CLOSED_THERE,
        State::CLOSED,
    ] {
        assert_eq!(
            step(NOW, State(state), NOW + 5, Seen::Tcp(tcp::SYN), &LIFETIMES),
            None
        );
    }
    assert!(step(NOW, State(State::OPEN), NOW + 5, Seen::Tcp(tcp::SYN), &LIFETIMES).is_some());
}

#[test]
fn most_packets_of_an_open_connection_write_nothing() {
    let fresh = tcp_step(State::OPEN, tcp::ACK);
    for later in [0, 1, 999] {
        let step = step(
            NOW + later,
            fresh.state,
            fresh.expires,
            Seen::Tcp(tcp::ACK),
            &LIFETIMES,
        )
        .expect("no SYN");
        assert_eq!(
            (step.expires, step.tell),
            (fresh.expires, Tell::Nothing),
            "{later} s later"
        );
    }
    let step = step(
        NOW + 1000,
        fresh.state,
        fresh.expires,
        Seen::Tcp(tcp::ACK),
        &LIFETIMES,
    )
    .expect("no SYN");
    assert_eq!((step.expires, step.tell), (NOW + 10_000, Tell::Alive));
}

#[test]
fn shorter_lifetimes_take_hold_with_the_next_packet() {
    let fresh = begin(NOW, Seen::Other, &LIFETIMES);
    let short = Lifetimes {
        other: 5,
        ..LIFETIMES
    };
    let step = step(NOW, fresh.state, fresh.expires, Seen::Other, &short).expect("no SYN");
    assert_eq!(step.expires, NOW + 5);
}

fn any_seen() -> impl Strategy<Value = Seen> {
    prop_oneof![
        any::<u8>().prop_map(Seen::Tcp),
        Just(Seen::TcpFragment),
        Just(Seen::Other)
    ]
}

proptest! {
    #[test]
    fn an_entry_in_use_outlives_its_lifetime(
        state in 0..=7_u8, seen in any_seen(), age in 0..9000_u32, rest in 1..9000_u32,
    ) {
        let now = NOW + age;
        if let Some(step) = step(now, State(state), now + rest, seen, &LIFETIMES) {
            let lifetime = lifetime(step.state, seen, &LIFETIMES);
            if !State(state).is_closed() {
                prop_assert!(step.expires >= now + lifetime);
                prop_assert!(step.expires <= now + lifetime + lifetime / 8);
            }
            // What is closed stays closed, and what is known is not forgotten.
            prop_assert_eq!(step.state.0 & state, state);
        } else {
            prop_assert!(seen.opens() && State(state).is_closing());
        }
    }

    #[test]
    fn no_clock_reading_overflows(
        now in any::<u32>(), expires in any::<u32>(), state in any::<u8>(), seen in any_seen(),
    ) {
        let _ = begin(now, seen, &LIFETIMES);
        let _ = step(now, State(state), expires, seen, &LIFETIMES);
        for tell in [Tell::Nothing, Tell::Alive, Tell::Closed, Tell::Reset] {
            let _ = told(now, State(state), expires, tell, seen, &LIFETIMES);
        }
    }
}
