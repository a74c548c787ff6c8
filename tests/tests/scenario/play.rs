//! Plays one archive, section by section, in the order they stand:
//!
//! - `*.yaml`, `*.yml`, `*.json`: the file has this content from here on; an empty section deletes it.
//! - `options`: `key: value` lines by the names of Cilium's ConfigMap, and `node: name` (default `node-a`).
//! - `observed`: what this node saw. `default via 10.0.0.1 dev eth0 metric 100 [table 7] [down]`,
//!   `held ns/service 192.0.2.1 2001:db8::1`, `cilium_host 02:00:0a:01:02:03`. Replaces what was there before.
//! - `plan` (or `plan` with anything after it, to name it): the plan at this point, rewritten with what it really is.
//!
//! At each `plan` the laws of planning are checked too: planning twice gives the same; so does planning a plan that
//! was applied (its addresses held); so does reading everything anew, in any order of files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use stentor::plan::gateway::MAIN_TABLE;
use stentor::plan::origins::Remembering;
use stentor::plan::{Desired, Options, plan};
use stentor::source::folder::{Folder, Found, Look};
use stentor::world::{DefaultRoute, LinkState, Observed, ServiceRef, World};
use stentor_tests::txtar::Archive;

use super::render::render;

const ROOT: &str = "/m";
/// The clock of every scenario: 2026-01-01T00:00:00Z.
const NOW: u64 = 1_767_225_600;

pub(crate) fn play(archive: &Archive) -> anyhow::Result<Archive> {
    let mut after = archive.clone();
    let mut stage = Stage::new();
    for file in &mut after.files {
        let name = file.name.clone();
        let with_context = || format!("section {name}");
        match name.as_str() {
            "options" => stage.options(&file.data).with_context(with_context)?,
            "observed" => stage.observed(&file.data).with_context(with_context)?,
            _ if is_manifest(&name) => stage.write(&name, &file.data),
            _ if name.starts_with("plan") => {
                let desired = stage.plan().with_context(with_context)?;
                file.data = render(&desired, &stage.world.source_problems);
            }
            _ => bail!("section {name} is neither a manifest nor options, observed or plan"),
        }
    }
    Ok(after)
}

/// Applies edits (numbers of manifest sections, `true` to delete that file instead) one by one to a fresh stage.
///
/// # Errors
/// A law of planning that does not hold after some of the edits.
pub(crate) fn edit(archive: &Archive, edits: &[(usize, bool)]) -> anyhow::Result<()> {
    let manifests: Vec<_> = archive.files.iter().filter(|f| is_manifest(&f.name)).collect();
    let mut stage = Stage::new();
    for (number, delete) in edits {
        let Some(file) = manifests.get(number % manifests.len().max(1)) else {
            continue;
        };
        stage.write(&file.name, if *delete { "" } else { &file.data });
        stage.plan()?;
    }
    Ok(())
}

fn is_manifest(name: &str) -> bool {
    [".yaml", ".yml", ".json"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

struct Stage {
    world: World,
    options: Options,
    folder: Folder,
    texts: BTreeMap<String, String>,
    /// Files written since the last look.
    dirty: BTreeMap<PathBuf, Found>,
}

impl Stage {
    fn new() -> Self {
        Self {
            world: World::new("node-a"),
            options: Options::default(),
            folder: Folder::new(PathBuf::from(ROOT)),
            texts: BTreeMap::new(),
            dirty: BTreeMap::new(),
        }
    }

    fn write(&mut self, name: &str, text: &str) {
        let path = Path::new(ROOT).join(name);
        if text.is_empty() {
            self.texts.remove(name);
            self.dirty.insert(path, Found::Gone);
        } else {
            self.texts.insert(name.to_owned(), text.to_owned());
            self.dirty.insert(path, Found::Text(text.as_bytes().to_vec()));
        }
    }

    fn options(&mut self, text: &str) -> anyhow::Result<()> {
        let mut keys = BTreeMap::new();
        for line in text.lines() {
            let (key, value) = line.split_once(": ").with_context(|| format!("{line:?}"))?;
            keys.insert(key, value);
        }
        if let Some(node) = keys.remove("node") {
            self.world.node = node.into();
        }
        let variables = keys.iter().map(|(key, value)| {
            let name = key.to_uppercase().replace('-', "_");
            (format!("CILIUM_{name}"), (*value).to_owned())
        });
        let (config, warnings) = stentor::config::load(None, variables, &stentor::config::Given::new())?;
        ensure!(warnings.is_empty(), "{warnings:?}");
        self.options = config.options;
        Ok(())
    }

    fn observed(&mut self, text: &str) -> anyhow::Result<()> {
        let mut observed = Observed::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["default", "via", gateway, "dev", interface, rest @ ..] => {
                    let after = |word: &str| {
                        let at = rest.iter().position(|w| *w == word)?;
                        rest.get(at + 1)?.parse().ok()
                    };
                    observed.default_routes.push(DefaultRoute {
                        metric: after("metric").unwrap_or(0),
                        gateway: gateway.parse()?,
                        interface: (*interface).to_owned(),
                        table: after("table").unwrap_or(MAIN_TABLE),
                        link: if rest.contains(&"down") {
                            LinkState::Down
                        } else {
                            LinkState::Up
                        },
                    });
                }
                ["held", service, addresses @ ..] => {
                    let (namespace, name) = service.split_once('/').context("namespace/name")?;
                    let service = ServiceRef {
                        namespace: namespace.into(),
                        name: name.into(),
                    };
                    let addresses = addresses.iter().map(|a| a.parse()).collect::<Result<_, _>>()?;
                    observed.held_vips.insert(service, addresses);
                }
                ["cilium_host", mac] => {
                    let octets: Vec<u8> = mac
                        .split(':')
                        .map(|o| u8::from_str_radix(o, 16))
                        .collect::<Result<_, _>>()?;
                    observed.cilium_host_mac = octets.try_into().ok();
                }
                _ => bail!("{line:?}"),
            }
        }
        self.world.observed = observed;
        Ok(())
    }

    /// The plan at this point, with the laws checked. What it allocates is held afterwards, as in the agent.
    fn plan(&mut self) -> anyhow::Result<Desired> {
        let dirty = std::mem::take(&mut self.dirty).into_iter().collect();
        let batch = self.folder.take(NOW, Look::Files(dirty));
        self.world.take(batch);
        let desired = plan(&self.world, &self.options);
        ensure!(
            plan(&self.world, &self.options) == desired,
            "planning twice gives two plans"
        );

        // Last good versions can't be read anew.
        if self
            .world
            .source_problems
            .iter()
            .all(|p| p.reason != "last-good-version-kept")
        {
            for world in [self.anew(Order::Forward)?, self.anew(Order::Backward)?] {
                let again = plan(&world, &self.options);
                ensure!(again == desired, "reading everything anew gives another plan");
            }
        }
        self.world.observed.held_vips.clone_from(&desired.vips);
        let nothing = |_: &ServiceRef| &[][..];
        let mut origins = std::mem::take(&mut self.world.observed.origins);
        // One that knows no pools looks at everything.
        Remembering::default().step(&self.world, &mut origins, [], desired.vips.iter(), nothing);
        self.world.observed.origins = origins;
        let applied = plan(&self.world, &self.options);
        ensure!(applied == desired, "planning an applied plan changes it");
        Ok(desired)
    }

    /// The World from nothing, one file at a time.
    fn anew(&self, order: Order) -> anyhow::Result<World> {
        let mut world = World::new(self.world.node.clone());
        world.observed = self.world.observed.clone();
        let mut folder = Folder::new(PathBuf::from(ROOT));
        let mut files: Vec<(&String, &String)> = self.texts.iter().collect();
        match order {
            Order::Forward => {}
            Order::Backward => files.reverse(),
        }
        for (name, text) in files {
            let found = Found::Text(text.as_bytes().to_vec());
            let look = Look::Files(vec![(Path::new(ROOT).join(name), found)]);
            world.take(folder.take(NOW, look));
        }
        ensure!(
            world.source_problems == self.world.source_problems,
            "reading anew finds other problems"
        );
        Ok(world)
    }
}

enum Order {
    Forward,
    Backward,
}
