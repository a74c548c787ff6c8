use proptest::prelude::*;

use super::*;

fn id(number: u32) -> BackendId {
    BackendId::new(number, 1).expect("it fits")
}

/// The table as indices of backends.
fn table(size: u32, backends: &[(u32, &str, u32)]) -> Vec<u32> {
    let mut sorted: Vec<_> = backends.to_vec();
    sorted.sort_by_key(|(_, name, _)| name.to_owned());
    let mut walkers: Vec<Walker> = sorted
        .iter()
        .map(|(number, name, weight)| {
            Walker::new(id(*number), *weight, name.as_bytes(), size, &Seeds::default()).expect("a size")
        })
        .collect();
    let mut table = vec![BackendId::NONE; usize::try_from(size).expect("small")];
    fill(&mut table, &mut walkers);
    table.into_iter().map(BackendId::index).collect()
}

fn runs(table: &[u32]) -> Vec<(u32, usize)> {
    table
        .chunk_by(|a, b| a == b)
        .map(|run| (run[0], run.len()))
        .collect()
}

const GOLDEN: [(u32, &str, u32); 4] = [
    (0, "[0.0.0.1:1/TCP,State:active]", 2),
    (1, "[0.0.0.3:3/TCP,State:active]", 13),
    (2, "[0.0.0.4:4/TCP,State:active]", 111),
    (3, "[0.0.0.5:5/TCP,State:active]", 10),
];

#[test]
fn the_table_is_the_one_cilium_fills() {
    let begins = [(2, 5), (3, 1), (2, 3), (1, 1), (2, 2), (0, 1)];
    assert_eq!(runs(&table(251, &GOLDEN))[..6], begins);
}

#[test]
fn weights_share_the_table_as_cilium_does() {
    let table = table(1021, &GOLDEN);
    let counts: Vec<usize> = (0..4)
        .map(|number| table.iter().filter(|n| **n == number).count())
        .collect();
    assert_eq!(counts, [16, 98, 832, 75]);
}

#[test]
fn two_equal_backends_share_evenly() {
    let two = [
        (0, "[10.0.0.1:80/TCP,State:active]", 100),
        (1, "[10.0.0.2:80/TCP,State:active]", 100),
    ];
    let table = table(1021, &two);
    let first = table.iter().filter(|n| **n == 0).count();
    assert!(first == 510 || first == 511, "{first}");
}

#[test]
fn nobody_leaves_the_table_as_it_is() {
    let mut table = [id(7); 251];
    fill(&mut table, &mut []);
    assert_eq!(table, [id(7); 251]);
}

#[test]
fn a_length_that_is_no_listed_prime_is_refused() {
    assert_eq!(Walker::new(id(0), 100, b"x", 250, &Seeds::default()), None);
}

#[test]
fn a_leaving_backend_moves_few_others() {
    let names: Vec<String> = (0..20)
        .map(|n| format!("[10.0.0.{n}:80/TCP,State:active]"))
        .collect();
    let all: Vec<(u32, &str, u32)> = (0..)
        .zip(&names)
        .map(|(n, name)| (n, name.as_str(), 100))
        .collect();
    let (before, after) = (table(16381, &all), table(16381, &all[1..]));
    let moved = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| **before != 0 && before != after)
        .count();
    assert!(moved * 100 < 16381 * 3, "{moved} of 16381 moved");
}

/// As [`fill`], with every step walked.
fn fill_step_by_step(table: &mut [BackendId], walkers: &mut [Walker]) {
    let (count, size) = (walkers.len(), table.len());
    let sum: u64 = walkers.iter().map(|walker| walker.weight).sum();
    for walker in &mut *walkers {
        walker.due = walker.weight / u64::try_from(count).expect("small");
    }
    let mut turn = 0;
    for full in 1..=size {
        let full = u64::try_from(full).expect("small");
        let mut at = turn;
        while full * walkers[at].weight < walkers[at].due {
            at = (at + 1) % count;
        }
        take(table, &mut walkers[at], u32::try_from(size).expect("small"));
        walkers[at].due += sum;
        turn = (turn + 1) % count;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_few_last_places_go_to_those_who_would_walk_there(
        names in prop::collection::vec(any::<u32>(), 1..80),
        weights in prop::collection::vec(2..200_u32, 80),
        size in prop::sample::select(&SIZES[..4]),
    ) {
        let mut walkers: Vec<Walker> = (0..).zip(names.iter().zip(weights))
            .map(|(n, (name, weight))| {
                Walker::new(id(n), weight, &name.to_ne_bytes(), size, &Seeds::default()).expect("a size")
            })
            .collect();
        let mut table = vec![BackendId::NONE; usize::try_from(size).expect("small")];
        let mut expected = table.clone();
        fill_step_by_step(&mut expected, &mut walkers.clone());
        fill(&mut table, &mut walkers);
        prop_assert_eq!(table, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_place_is_filled_whatever_the_weights(weights in prop::collection::vec(1..200_u32, 1..40)) {
        let names: Vec<String> = (0..weights.len()).map(|n| format!("[10.0.0.{n}:80/TCP,State:active]")).collect();
        let mut sorted: Vec<(&String, u32)> = names.iter().zip(weights).collect();
        sorted.sort();
        let mut walkers: Vec<Walker> = (0..).zip(&sorted)
            .map(|(n, (name, weight))| Walker::new(id(n), *weight, name.as_bytes(), 251, &Seeds::default()).expect("a size"))
            .collect();
        let mut table = [BackendId::NONE; 251];
        fill(&mut table, &mut walkers);
        prop_assert!(table.iter().all(|place| !place.is_none()));
    }
}
