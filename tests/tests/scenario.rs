//! Scenarios: manifests in, plans out. See `scenario/` for the cases and `play` for their format.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

#[path = "scenario/play.rs"]
mod play;
#[path = "scenario/render.rs"]
mod render;

use std::path::Path;

use stentor_tests::txtar;

#[test]
fn every_scenario_plans_what_it_says() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenario");
    txtar::run(&dir, play::play).unwrap();
}
