use super::*;

const TIMING: fn() -> Timing = Timing::default;

/// An elector with its clock, and what it ordered last.
struct Bench {
    elector: Elector,
    begin: Instant,
    now: Instant,
    out: Vec<Output>,
}

impl Bench {
    fn new() -> Self {
        let begin = Instant::now();
        Self {
            elector: Elector::new(begin, "me", TIMING(), 7),
            begin,
            now: begin,
            out: Vec::new(),
        }
    }

    fn tell(&mut self, input: Input) -> &[Output] {
        self.out.clear();
        self.elector.handle(self.now, input, &mut self.out);
        &self.out
    }

    /// Lets time pass to the next timer.
    fn timer(&mut self) -> &[Output] {
        self.now = self.elector.next_timeout().unwrap().max(self.now);
        self.tell(Input::TimedOut)
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn at(&self, seconds: u64) -> Instant {
        self.begin + Duration::from_secs(seconds)
    }

    /// Holds version `1`, written at second 0.
    fn holder() -> Self {
        let mut bench = Self::new();
        bench.timer();
        bench.tell(Input::Found(None));
        bench.tell(Input::Written(version("1")));
        assert_eq!(bench.elector.holds_until(), Some(bench.at(10)));
        bench
    }
}

fn version(text: &str) -> Version {
    Version(text.to_owned())
}

fn found(text: &str, holder: Option<&str>) -> Input {
    let record = Record {
        holder: holder.map(str::to_owned),
        lease: Duration::from_secs(15),
    };
    Input::Found(Some((version(text), record)))
}

fn write(over: Option<&str>, claim: Claim) -> Output {
    Output::Write {
        over: over.map(version),
        claim,
    }
}

fn lost(loss: Loss) -> Output {
    Output::Tell(Event::Lost(loss))
}

#[test]
fn a_record_that_is_not_there_is_made_and_then_held() {
    let mut bench = Bench::new();
    assert_eq!(bench.timer(), [Output::Read]);
    assert_eq!(bench.tell(Input::Found(None)), [write(None, Claim::Take)]);
    assert_eq!(bench.elector.holds_until(), None, "before the answer");
    let until = bench.at(10);
    assert_eq!(
        bench.tell(Input::Written(version("1"))),
        [Output::Tell(Event::Won { until })]
    );
}

#[test]
fn the_holder_renews_its_own_version_and_acts_longer() {
    let mut bench = Bench::holder();
    assert_eq!(bench.timer(), [write(Some("1"), Claim::Renew)]);
    let until = bench.now + TIMING().renew();
    // The answer takes a second, and the deadline still counts from the question.
    bench.pass(1);
    assert_eq!(
        bench.tell(Input::Written(version("2"))),
        [Output::Tell(Event::Renewed { until })]
    );
}

#[test]
fn a_renewal_that_stored_nothing_renews_nothing() {
    let mut bench = Bench::holder();
    bench.timer();
    assert_eq!(bench.tell(Input::Written(version("1"))), []);
    assert_eq!(bench.elector.holds_until(), Some(bench.at(10)));
}

#[test]
fn a_holder_without_answers_stops_before_anybody_else_may_start() {
    let mut bench = Bench::holder();
    let mut lost_at = None;
    while lost_at.is_none() {
        if bench.timer().contains(&lost(Loss::Expired)) {
            lost_at = Some(bench.now);
        } else {
            bench.tell(Input::Failed);
        }
    }
    assert_eq!(lost_at, Some(bench.at(10)));
    assert!(TIMING().renew() < TIMING().lease());
}

#[test]
fn an_answer_after_the_deadline_makes_no_holder() {
    let mut bench = Bench::holder();
    bench.timer();
    bench.pass(30);
    assert_eq!(bench.tell(Input::Written(version("2"))), [lost(Loss::Expired)]);
    // The record is ours all the same: one more write, and it may act.
    assert_eq!(bench.timer(), [write(Some("2"), Claim::Renew)]);
    let until = bench.now + TIMING().renew();
    assert_eq!(
        bench.tell(Input::Written(version("3"))),
        [Output::Tell(Event::Won { until })]
    );
}

#[test]
fn a_candidate_waits_a_whole_lease_from_the_moment_it_saw_a_change() {
    let mut bench = Bench::new();
    bench.timer();
    let holder = "other".to_owned();
    assert_eq!(
        bench.tell(found("1", Some("other"))),
        [Output::Tell(Event::Follows { holder })]
    );
    bench.pass(14);
    assert_eq!(bench.timer(), [Output::Read]);
    // A sign of life: it begins anew.
    assert_eq!(bench.tell(found("2", Some("other"))), []);
    let seen = bench.now;
    loop {
        bench.timer();
        let orders = bench.tell(found("2", Some("other"))).to_vec();
        if bench.now < seen + TIMING().lease() {
            assert_eq!(orders, []);
        } else {
            assert_eq!(orders, [write(Some("2"), Claim::Take)]);
            break;
        }
    }
}

#[test]
fn a_longer_lease_of_the_holder_is_respected() {
    let mut bench = Bench::new();
    bench.timer();
    let record = Record {
        holder: Some("other".to_owned()),
        lease: Duration::from_secs(60),
    };
    let input = Input::Found(Some((version("1"), record)));
    bench.tell(input.clone());
    bench.pass(40);
    bench.timer();
    assert_eq!(bench.tell(input.clone()), []);
    bench.pass(20);
    bench.timer();
    assert_eq!(bench.tell(input), [write(Some("1"), Claim::Take)]);
}

#[test]
fn a_released_record_is_taken_at_once() {
    let mut bench = Bench::new();
    bench.timer();
    bench.tell(found("1", Some("other")));
    bench.timer();
    assert_eq!(bench.tell(found("2", None)), [write(Some("2"), Claim::Take)]);
}

#[test]
fn a_record_that_vanished_is_guarded_as_if_it_were_there() {
    let mut bench = Bench::new();
    bench.timer();
    bench.tell(found("1", Some("other")));
    bench.timer();
    assert_eq!(bench.tell(Input::Found(None)), []);
    bench.pass(15);
    bench.timer();
    assert_eq!(bench.tell(Input::Found(None)), [write(None, Claim::Take)]);
}

#[test]
fn who_loses_the_race_for_a_record_looks_who_won() {
    let mut bench = Bench::new();
    bench.timer();
    bench.tell(found("1", None));
    assert_eq!(bench.tell(Input::Refused), [Output::Read]);
    let holder = "other".to_owned();
    assert_eq!(
        bench.tell(found("2", Some("other"))),
        [Output::Tell(Event::Follows { holder })]
    );
}

#[test]
fn a_holder_that_finds_another_name_stops_at_once() {
    let mut bench = Bench::holder();
    bench.timer();
    bench.tell(Input::Refused);
    let orders = bench.tell(found("2", Some("other"))).to_vec();
    assert_eq!(
        orders.first(),
        Some(&lost(Loss::Taken {
            by: "other".to_owned()
        }))
    );
    assert_eq!(bench.elector.holds_until(), None);
}

#[test]
fn an_edit_by_somebody_else_costs_the_holder_nothing() {
    let mut bench = Bench::holder();
    bench.timer();
    assert_eq!(bench.tell(Input::Refused), [Output::Read]);
    assert_eq!(
        bench.tell(found("2", Some("me"))),
        [write(Some("2"), Claim::Renew)]
    );
}

#[test]
fn a_write_without_an_answer_that_was_done_is_confirmed_before_it_counts() {
    let mut bench = Bench::new();
    bench.timer();
    bench.tell(found("1", None));
    bench.pass(5);
    assert_eq!(bench.tell(Input::Failed), []);
    assert_eq!(bench.timer(), [Output::Read]);
    assert_eq!(
        bench.tell(found("2", Some("me"))),
        [write(Some("2"), Claim::Renew)]
    );
    assert_eq!(bench.elector.holds_until(), None);
    let until = bench.now + TIMING().renew();
    assert_eq!(
        bench.tell(Input::Written(version("3"))),
        [Output::Tell(Event::Won { until })]
    );
}

#[test]
fn a_write_without_an_answer_that_is_done_late_is_ours_all_the_same() {
    let mut bench = Bench::new();
    bench.timer();
    bench.tell(found("1", None));
    bench.tell(Input::Failed);
    bench.timer();
    // It is still under way, so the next one is refused.
    assert_eq!(bench.tell(found("1", None)), [write(Some("1"), Claim::Take)]);
    assert_eq!(bench.tell(Input::Refused), [Output::Read]);
    assert_eq!(
        bench.tell(found("2", Some("me"))),
        [write(Some("2"), Claim::Renew)]
    );
}

#[test]
fn a_namesake_is_waited_for_like_anybody() {
    let mut bench = Bench::new();
    bench.timer();
    let holder = "me".to_owned();
    assert_eq!(
        bench.tell(found("1", Some("me"))),
        [Output::Tell(Event::Follows { holder })]
    );
}

#[test]
fn who_resigns_has_stopped_before_it_releases() {
    let mut bench = Bench::holder();
    assert_eq!(
        bench.tell(Input::Resigned),
        [lost(Loss::Resigned), write(Some("1"), Claim::Release)]
    );
    assert_eq!(
        bench.tell(Input::Written(version("2"))),
        [Output::Tell(Event::Ended)]
    );
    assert_eq!(bench.elector.next_timeout(), None);
}

#[test]
fn who_resigns_while_a_write_is_under_way_releases_what_it_wrote() {
    let mut bench = Bench::holder();
    bench.timer();
    assert_eq!(bench.tell(Input::Resigned), [lost(Loss::Resigned)]);
    assert_eq!(
        bench.tell(Input::Written(version("2"))),
        [write(Some("2"), Claim::Release)]
    );
}

#[test]
fn who_resigns_and_has_nothing_ends_at_once() {
    let mut bench = Bench::new();
    bench.timer();
    assert_eq!(bench.tell(Input::Resigned), [Output::Tell(Event::Ended)]);
    assert_eq!(bench.tell(found("1", None)), []);
}

#[test]
fn who_can_not_release_gives_up() {
    let mut bench = Bench::holder();
    bench.tell(Input::Resigned);
    let limit = bench.at(11);
    while bench.elector.next_timeout().is_some() {
        bench.tell(Input::Failed);
        bench.timer();
        assert!(bench.now <= limit);
    }
    assert_eq!(bench.out, [Output::Tell(Event::Ended)]);
}
