//! Many electors over a network that delays and loses messages and cuts nodes off, with clocks that run apart and
//! processes that stall, die and resign: never two holders, and a dead one is replaced in time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use l2announce::{Claim, Elector, Event, Input, Output, Record, Timing, Version};
use proptest::prelude::*;

/// All times of the simulation are microseconds of a true clock that nobody has.
type Micros = u64;
const SECOND: Micros = 1_000_000;

/// Clocks run at 82 % to 118 % of the true one. A lease of 15 s over a deadline of 10 s bears 50 % between two.
const SLOWEST: u64 = 820;
const FASTEST: u64 = 1180;

#[derive(Debug, Clone)]
struct Trouble {
    /// Of 1000 messages.
    lost: u64,
    longest_delay: Micros,
    /// How late a process may run.
    longest_stall: Micros,
    /// Per second and process, of 1000.
    dies: u64,
    resigns: u64,
    /// The same: it is cut off, for up to half a minute.
    cut_off: u64,
}

const QUIET: Trouble = Trouble {
    lost: 0,
    longest_delay: SECOND / 20,
    longest_stall: 0,
    dies: 0,
    resigns: 0,
    cut_off: 0,
};

#[derive(Debug)]
enum Happening {
    Wake,
    Arrives {
        request: u64,
        order: Output,
        name: String,
    },
    Answered {
        request: u64,
        answer: Input,
    },
    OutOfPatience {
        request: u64,
    },
    /// Once per second and node: it may die, resign or come back.
    Fate,
}

struct Node {
    elector: Option<Elector>,
    name: String,
    /// Thousandths.
    rate: u64,
    offset: Micros,
    request: Option<u64>,
    /// As its user knows it.
    until: Option<Instant>,
    cut_off_until: Micros,
}

struct Simulation {
    timing: Timing,
    trouble: Trouble,
    epoch: Instant,
    now: Micros,
    nodes: Vec<Node>,
    record: Option<(u64, Record)>,
    versions: u64,
    requests: u64,
    lives: u64,
    queue: BTreeMap<(Micros, u64), (usize, Happening)>,
    queued: u64,
    random: u64,
    reigns: u64,
}

impl Simulation {
    fn new(count: usize, trouble: Trouble, seed: u64) -> Self {
        let mut simulation = Self {
            timing: Timing::default(),
            trouble,
            epoch: Instant::now(),
            now: 0,
            nodes: Vec::new(),
            record: None,
            versions: 0,
            requests: 0,
            lives: 0,
            queue: BTreeMap::new(),
            queued: 0,
            random: seed | 1,
            reigns: 0,
        };
        for node in 0..count {
            let rate = SLOWEST + simulation.below(FASTEST - SLOWEST + 1);
            let offset = simulation.below(1000 * SECOND);
            simulation.nodes.push(Node {
                elector: None,
                name: String::new(),
                rate,
                offset,
                request: None,
                until: None,
                cut_off_until: 0,
            });
            simulation.come_back(node);
            simulation.later(SECOND, node, Happening::Fate);
        }
        simulation
    }

    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound.max(1)
    }

    fn later(&mut self, delay: Micros, node: usize, happening: Happening) {
        self.queued += 1;
        self.queue
            .insert((self.now + delay, self.queued), (node, happening));
    }

    fn local(&self, node: usize) -> Instant {
        let Node { rate, offset, .. } = self.nodes[node];
        self.epoch + Duration::from_micros(offset + self.now * rate / 1000)
    }

    /// When a node's clock shows that; not in the past.
    fn until_local(&self, node: usize, at: Instant) -> Micros {
        let Node { rate, offset, .. } = self.nodes[node];
        let shown = micros(at - self.epoch);
        let due = (shown.saturating_sub(offset) * 1000).div_ceil(rate);
        due.saturating_sub(self.now)
    }

    /// As a new process; half of the time with the name of the one before.
    fn come_back(&mut self, node: usize) {
        self.lives += 1;
        if self.nodes[node].name.is_empty() || self.below(2) == 0 {
            self.nodes[node].name = format!("n{node}-{}", self.lives);
        }
        let (now, seed) = (self.local(node), self.random);
        let name = self.nodes[node].name.clone();
        self.nodes[node].elector = Some(Elector::new(now, &name, self.timing, seed));
        self.later(0, node, Happening::Wake);
    }

    fn die(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.elector = None;
        node.request = None;
        node.until = None;
    }

    fn run(&mut self, span: Micros) {
        self.run_until(span, |_| false);
    }

    /// Whether it came to that.
    fn run_until(&mut self, span: Micros, good: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + span;
        while !good(self) {
            let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) else {
                self.now = end;
                return false;
            };
            let ((at, _), (node, happening)) = entry.remove_entry();
            self.now = at;
            self.happen(node, happening);
        }
        true
    }

    fn happen(&mut self, node: usize, happening: Happening) {
        match happening {
            Happening::Wake => {
                let due = self.nodes[node].elector.as_ref().and_then(Elector::next_timeout);
                if due.is_some_and(|due| due <= self.local(node)) {
                    self.handle(node, Input::TimedOut);
                }
            }
            Happening::Arrives { request, order, name } => {
                let answer = self.serve(order, name);
                self.carry(node, Happening::Answered { request, answer });
            }
            Happening::Answered { request, answer } => {
                if self.nodes[node].request == Some(request) {
                    self.nodes[node].request = None;
                    self.handle(node, answer);
                }
            }
            Happening::OutOfPatience { request } => {
                if self.nodes[node].request == Some(request) {
                    self.nodes[node].request = None;
                    self.handle(node, Input::Failed);
                }
            }
            Happening::Fate => self.fate(node),
        }
    }

    fn fate(&mut self, node: usize) {
        self.later(SECOND, node, Happening::Fate);
        if self.below(1000) < self.trouble.cut_off {
            self.nodes[node].cut_off_until = self.now + self.below(30 * SECOND);
        }
        let drawn = self.below(1000);
        if self.nodes[node].elector.is_none() {
            if drawn < 300 {
                self.come_back(node);
            }
        } else if drawn < self.trouble.dies {
            self.die(node);
        } else if drawn < self.trouble.dies + self.trouble.resigns {
            self.handle(node, Input::Resigned);
        }
    }

    fn serve(&mut self, order: Output, name: String) -> Input {
        match order {
            Output::Read => {
                let found = self.record.clone();
                Input::Found(found.map(|(version, record)| (Version(version.to_string()), record)))
            }
            Output::Write { over, claim } => {
                let here = self
                    .record
                    .as_ref()
                    .map(|(version, _)| Version(version.to_string()));
                if here != over {
                    return Input::Refused;
                }
                let holder = match claim {
                    Claim::Take | Claim::Renew => Some(name),
                    Claim::Release => None,
                };
                self.versions += 1;
                self.record = Some((
                    self.versions,
                    Record {
                        holder,
                        lease: self.timing.lease(),
                    },
                ));
                Input::Written(Version(self.versions.to_string()))
            }
            Output::Tell(_) => unreachable!("nobody asks that"),
        }
    }

    fn handle(&mut self, node: usize, input: Input) {
        let now = self.local(node);
        let mut out = Vec::new();
        let Some(elector) = &mut self.nodes[node].elector else {
            return;
        };
        elector.handle(now, input, &mut out);
        let wake = elector.next_timeout();
        for output in out {
            match output {
                Output::Tell(event) => self.told(node, event),
                Output::Read | Output::Write { .. } => self.send(node, output),
            }
        }
        if let Some(at) = wake {
            let stall = self.below(self.trouble.longest_stall);
            let delay = self.until_local(node, at) + stall;
            self.later(delay, node, Happening::Wake);
        }
    }

    fn send(&mut self, node: usize, order: Output) {
        assert_eq!(self.nodes[node].request, None, "one request at a time");
        self.requests += 1;
        let request = self.requests;
        self.nodes[node].request = Some(request);
        let patience = self.until_local(node, self.local(node) + self.timing.limit());
        self.later(patience, node, Happening::OutOfPatience { request });
        let name = self.nodes[node].name.clone();
        self.carry(node, Happening::Arrives { request, order, name });
    }

    /// Half of the messages are quick.
    fn carry(&mut self, node: usize, message: Happening) {
        let lost = self.below(1000) < self.trouble.lost || self.now < self.nodes[node].cut_off_until;
        let longest = match self.below(2) {
            0 => QUIET.longest_delay,
            _ => self.trouble.longest_delay,
        };
        let delay = self.below(longest);
        if !lost {
            self.later(delay, node, message);
        }
    }

    fn told(&mut self, node: usize, event: Event) {
        match event {
            Event::Won { until } | Event::Renewed { until } => {
                self.reigns += u64::from(matches!(event, Event::Won { .. }));
                self.nodes[node].until = Some(until);
                let holders = self.holders();
                assert!(holders.len() <= 1, "{holders:?} hold at {}", self.now);
            }
            Event::Lost(_) => self.nodes[node].until = None,
            Event::Follows { .. } => {}
            Event::Ended => self.die(node),
        }
    }

    /// Who acts now: told to, and before the deadline on its own clock. It may be stalled and not know better.
    fn holders(&self) -> Vec<usize> {
        let acts = |node: &usize| {
            self.nodes[*node]
                .until
                .is_some_and(|until| self.local(*node) < until)
        };
        (0..self.nodes.len()).filter(acts).collect()
    }
}

/// How long a record may go without a holder while nothing is in the way: seen, waited for, looked at again.
fn bound(timing: &Timing) -> Micros {
    let look = timing.retry() * 22 / 10 + Duration::from_secs(1);
    let local = micros(timing.lease() + look * 2);
    local * 1000 / SLOWEST
}

fn micros(span: Duration) -> Micros {
    Micros::try_from(span.as_micros()).expect("a simulation lasts minutes")
}

fn troubles() -> impl Strategy<Value = Trouble> {
    (
        0..300_u64,
        1..12 * SECOND,
        0..8 * SECOND,
        0..30_u64,
        0..30_u64,
        0..100_u64,
    )
        .prop_map(
            |(lost, longest_delay, longest_stall, dies, resigns, cut_off)| Trouble {
                lost,
                longest_delay,
                longest_stall,
                dies,
                resigns,
                cut_off,
            },
        )
}

proptest! {
    #[test]
    fn there_are_never_two_holders_and_a_dead_one_is_replaced(
        count in 2..6_usize,
        trouble in troubles(),
        seed in any::<u64>(),
    ) {
        let mut simulation = Simulation::new(count, trouble.clone(), seed);
        simulation.run(300 * SECOND);
        simulation.trouble = QUIET;
        // What is under way arrives, who stalls runs again, who is dead or cut off comes back.
        let calm = trouble.longest_delay * 2 + trouble.longest_stall + 45 * SECOND;
        simulation.run(calm);
        let elected = bound(&simulation.timing);
        prop_assert!(simulation.run_until(elected, |simulation| simulation.holders().len() == 1));
        for _ in 0..3 {
            let holder = simulation.holders()[0];
            simulation.die(holder);
            prop_assert!(simulation.run_until(elected, |simulation| simulation.holders().len() == 1));
        }
        // Left alone it stays with whom it is.
        let (holder, reigns) = (simulation.holders(), simulation.reigns);
        simulation.run(60 * SECOND);
        prop_assert_eq!(simulation.holders(), holder);
        prop_assert_eq!(simulation.reigns, reigns);
    }

    #[test]
    fn without_trouble_somebody_holds_within_seconds(count in 1..6_usize, seed in any::<u64>()) {
        let mut simulation = Simulation::new(count, QUIET, seed);
        prop_assert!(simulation.run_until(SECOND, |simulation| simulation.holders().len() == 1));
        simulation.run(60 * SECOND);
        prop_assert_eq!(simulation.reigns, 1);
    }
}
