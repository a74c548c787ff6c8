//! Scenarios: manifests in, plans out. See `scenario/` for the cases and `play` for their format.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

#[path = "scenario/play.rs"]
mod play;
#[path = "scenario/render.rs"]
mod render;

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use stentor_tests::txtar::{self, Archive};

#[test]
fn every_scenario_plans_what_it_says() {
    txtar::run(&folder(), play::play).unwrap();
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenario")
}

fn archives() -> Vec<Archive> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| Archive::parse(&std::fs::read_to_string(path).unwrap()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_history_of_edits_comes_to_the_plan_of_what_is_there(
        case in 0..1000_usize,
        edits in prop::collection::vec((0..100_usize, prop::bool::weighted(0.3)), 1..8),
    ) {
        let archives = archives();
        let archive = &archives[case % archives.len()];
        if let Err(error) = play::edit(archive, &edits) {
            return Err(TestCaseError::fail(format!("{}: {error:#}", archive.comment)));
        }
    }
}
