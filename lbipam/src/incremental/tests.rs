//! Step by step equals all anew.

use proptest::prelude::*;

use super::*;
use crate::plan::plan;
use crate::plan::tests::{POOLS, some_pool, some_request};
use crate::range::Block;
use crate::request::{Family, TrafficPolicy, Wish};

/// What may happen between two steps. Numbers of requests and pools are taken modulo how many there are.
#[derive(Clone, Debug)]
enum Event {
    /// There, or not as it was.
    Request(Request),
    /// The same with nothing to hold, as when a Service is made.
    Made(Request),
    Gone(usize),
    /// Its status has what was decided.
    Applied(usize),
    AllApplied,
    /// Somebody wrote into the status of one what another has.
    Claims(usize, usize),
    /// As after a restart over the same objects.
    Forgotten,
    Pool(usize, Pool),
    PoolGone(usize),
    Step,
}

fn some_event(sharing: bool) -> impl Strategy<Value = Event> {
    let request = (0usize..8)
        .prop_flat_map(some_request)
        .prop_map(move |mut request| {
            if !sharing {
                request.sharing = None;
            }
            request
        });
    let made = request.clone().prop_map(|request| {
        Event::Made(Request {
            held: Vec::new(),
            ..request
        })
    });
    let pool = (0usize..4).prop_flat_map(|at| (Just(at), some_pool(POOLS[at])));
    prop_oneof![
        3 => request.prop_map(Event::Request),
        6 => made,
        3 => (0usize..8).prop_map(Event::Gone),
        4 => (0usize..8).prop_map(Event::Applied),
        4 => Just(Event::AllApplied),
        2 => (0usize..8, 0usize..8).prop_map(|(at, of)| Event::Claims(at, of)),
        1 => Just(Event::Forgotten),
        2 => pool.prop_map(|(at, pool)| Event::Pool(at, pool)),
        1 => (0usize..4).prop_map(Event::PoolGone),
        8 => Just(Event::Step),
    ]
}

#[derive(Default)]
struct History {
    pools: BTreeMap<usize, Pool>,
    requests: BTreeMap<RequestId, Request>,
    planner: Incremental,
    decisions: BTreeMap<RequestId, Decision>,
}

impl History {
    fn nth(&self, at: usize) -> Option<Request> {
        let number = self.requests.len().max(1);
        self.requests.values().nth(at % number).cloned()
    }

    fn request(&mut self, request: Request) {
        self.requests.insert(request.id.clone(), request.clone());
        self.planner.request(request);
    }

    fn apply(&mut self, mut request: Request) {
        let Some(decision) = self.decisions.get(&request.id) else {
            return;
        };
        let given = &decision.addresses;
        request.held = given.iter().map(|given| given.address).collect();
        request.origins = given
            .iter()
            .map(|given| (given.address, given.pool.clone()))
            .collect();
        self.request(request);
    }

    fn take(&mut self, event: Event) -> Result<(), TestCaseError> {
        match event {
            Event::Request(request) | Event::Made(request) => self.request(request),
            Event::Gone(at) => {
                if let Some(request) = self.nth(at) {
                    self.requests.remove(&request.id);
                    self.decisions.remove(&request.id);
                    self.planner.gone(&request.id);
                }
            }
            Event::Applied(at) => {
                if let Some(request) = self.nth(at) {
                    self.apply(request);
                }
            }
            Event::AllApplied => {
                for request in self.requests.clone().into_values() {
                    self.apply(request);
                }
            }
            Event::Claims(at, of) => {
                if let (Some(mut request), Some(other)) = (self.nth(at), self.nth(of)) {
                    let decision = self.decisions.get(&other.id);
                    let has = decision.into_iter().flat_map(|decision| &decision.addresses);
                    request.held = has.map(|given| given.address).collect();
                    request.pools = other.pools;
                    self.request(request);
                }
            }
            Event::Forgotten => {
                self.planner = Incremental::default();
                self.planner.pools(self.pools.values().cloned().collect());
                for request in self.requests.values() {
                    self.planner.request(request.clone());
                }
            }
            Event::Pool(at, pool) => {
                self.pools.insert(at, pool);
                self.planner.pools(self.pools.values().cloned().collect());
            }
            Event::PoolGone(at) => {
                self.pools.remove(&at);
                self.planner.pools(self.pools.values().cloned().collect());
            }
            Event::Step => self.step()?,
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), TestCaseError> {
        let told = self.planner.step();
        let pools: Vec<Pool> = self.pools.values().cloned().collect();
        let requests: Vec<Request> = self.requests.values().cloned().collect();
        let whole = plan(&pools, &requests);
        for (id, decision) in &whole.decisions {
            prop_assert_eq!(self.planner.decision(id), Some(decision), "{}", id);
            prop_assert!(
                told.contains(id) || self.decisions.get(id) == Some(decision),
                "{} was not told",
                id
            );
        }
        let lacking = whole
            .decisions
            .values()
            .filter(|decision| !decision.is_satisfied());
        prop_assert_eq!(self.planner.counts(), (requests.len(), lacking.count()));
        prop_assert_eq!(self.planner.reports(), whole.pools);
        self.decisions = whole.decisions;
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn step_by_step_is_all_anew(
        events in any::<bool>().prop_flat_map(|sharing| proptest::collection::vec(some_event(sharing), 1..60))
    ) {
        let mut history = History::default();
        history.planner.pools(Vec::new());
        for event in events {
            history.take(event)?;
        }
        history.step()?;
    }
}

fn one(name: &str) -> Request {
    Request {
        id: RequestId {
            namespace: "ns".to_owned(),
            name: name.to_owned(),
        },
        created: Some(1),
        wish: Wish::Families([Family::Ipv4].into()),
        pools: ["p".to_owned()].into(),
        sharing: None,
        ports: BTreeSet::new(),
        traffic_policy: TrafficPolicy::Cluster,
        selector: BTreeMap::new(),
        held: Vec::new(),
        origins: BTreeMap::new(),
    }
}

#[test]
fn one_more_is_decided_about_alone_and_gets_what_another_gave_back() {
    let mut planner = Incremental::default();
    planner.pools(vec![Pool::new(
        "p",
        vec![Block::Prefix("10.0.0.0/24".parse().unwrap())],
    )]);
    for name in ["a", "b", "c"] {
        planner.request(one(name));
    }
    assert_eq!(planner.step().len(), 3);
    for (name, last) in [("a", 0), ("b", 1), ("c", 2)] {
        planner.request(Request {
            held: vec![[10, 0, 0, last].into()],
            ..one(name)
        });
    }
    assert_eq!(planner.step().len(), 3);
    assert_eq!(planner.open().count(), 0);
    planner.gone(&one("b").id);
    planner.request(one("d"));
    assert_eq!(planner.step(), BTreeSet::from([one("d").id]));
    let given = &planner.decision(&one("d").id).unwrap().addresses;
    assert_eq!(given[0].address, IpAddr::from([10, 0, 0, 1]));
}
