//! Octets of resident memory per route: `cargo bench --bench memory`. Prints, does not judge.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]
#![allow(dead_code, reason = "the setting is shared with another bench")]

#[path = "rib/setting.rs"]
mod setting;

use bgp_speaker::wire::update::Update;

use self::setting::*;

fn main() {
    const COUNT: u32 = 1_000_000;
    let mut out = Vec::new();

    let before = resident();
    let mut rib = rib(2);
    for update in updates_one_by_one(1, COUNT) {
        receive(&mut rib, 1, vec![update]);
    }
    report("received and decided", before, COUNT);
    drain(&mut rib, 2, &mut out);
    let (octets, buffers) = (out.iter().map(bytes::Bytes::len).sum::<usize>(), out.len());
    drop(out);
    report("announced to one peer, its dump kept for others", before, COUNT);
    println!("{octets} octets in {buffers} buffers");
    // Its memory would be used again and hide what the next one takes.
    std::mem::forget(rib);

    let before = resident();
    let mut rib = setting::rib(9);
    for n in 1..=8 {
        for update in updates_one_by_one(n, COUNT / 8) {
            receive(&mut rib, n, vec![update]);
        }
    }
    report("eight paths to each prefix, per path", before, COUNT);
}

/// So that not all of them are in memory at once.
fn updates_one_by_one(n: u16, count: u32) -> impl Iterator<Item = Update> {
    (0..count).step_by(800).map(move |from| {
        let mut update = updates(n, 1, 1).remove(0);
        let all = from..count.min(from + 800);
        update.announced[0].prefixes = all.map(numbered).collect();
        update
    })
}

fn report(what: &str, before: usize, routes: u32) {
    let now = resident();
    println!(
        "{what}: {:.1} B/route",
        now.saturating_sub(before) as f64 / f64::from(routes)
    );
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}
