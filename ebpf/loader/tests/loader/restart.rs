//! Starts that find maps and links of others: other sizes, other layouts, other versions.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use ebpf_abi::V4;
use ebpf_abi::flow::{Flow, Tuple};
use ebpf_abi::maglev::Seeds;
use ebpf_abi::maps;
use ebpf_loader::{Datapath, Dropped, Hook, Mode, Remade, Store};

use crate::attach::{tcx, veth};
use crate::node::{load, node, run};
use crate::store::{Kind, planner, service, slice};

#[test]
fn another_size_keeps_what_fits() {
    node(|folder| {
        let sizes = |entries: u32| {
            let names = [
                maps::FLOWS4.name,
                maps::FRONTENDS4.name,
                maps::SETS.name,
                maps::MAGLEV.name,
            ];
            BTreeMap::from(names.map(|name| (name, entries)))
        };
        let datapath = load(folder, &sizes(2048))?;
        ensure!(datapath.remade().is_empty(), "{:?}", datapath.remade());
        let mut store = Store::open(&datapath)?;
        let mut planner = planner(store.read(&Seeds::default())?, Seeds::default());
        for n in 0..8 {
            planner.handle(service(n, Kind::Maglev, 0));
            planner.handle(slice(n, 3));
        }
        store.carry_out(&mut planner)?;
        flows(&datapath, 100)?;
        let image = planner.image();

        // Larger: all of it.
        let datapath = load(folder, &sizes(4096))?;
        let resized = |kept| Remade::Resized {
            map: "FLOWS4",
            from: 2048,
            to: 4096,
            kept,
            dropped: 0,
        };
        ensure!(
            datapath.remade().contains(&resized(100)),
            "{:?}",
            datapath.remade()
        );
        ensure!(datapath.remade().len() == 4, "{:?}", datapath.remade());
        ensure!(
            Store::open(&datapath)?.read(&Seeds::default())? == *image,
            "all is as before"
        );
        ensure!(
            load(folder, &sizes(4096))?.remade().is_empty(),
            "nothing is left to do"
        );

        // Too small: what is dropped is counted, and can be planned again.
        let datapath = load(
            folder,
            &BTreeMap::from([(maps::FRONTENDS4.name, 10), (maps::SETS.name, 3)]),
        )?;
        let sets = datapath
            .remade()
            .iter()
            .find(|remade| matches!(remade, Remade::Resized { map: "SETS", .. }));
        let Some(Remade::Resized { kept, dropped, .. }) = sets else {
            anyhow::bail!("{:?}", datapath.remade());
        };
        ensure!(kept + dropped == 8, "{sets:?}");
        ensure!(
            sets.context("it is there")?.to_string().contains("did not fit"),
            "{sets:?}"
        );
        Store::open(&datapath)?.read(&Seeds::default())?;
        Ok(())
    });
}

#[test]
fn a_map_of_another_layout_is_made_anew() {
    node(|folder| {
        drop(load(folder, &BTreeMap::new())?);
        // As another build of the same version might have left it.
        let pins = folder.join("v1/maps");
        fs::remove_file(pins.join("NODES"))?;
        fs::rename(pins.join("SLOTS"), pins.join("NODES"))?;
        let datapath = load(folder, &BTreeMap::new())?;
        ensure!(
            datapath.remade() == [Remade::Emptied { map: "NODES" }],
            "{:?}",
            datapath.remade()
        );
        Ok(())
    });
}

#[test]
fn another_version_takes_the_links_over_and_drops_the_rest() {
    node(|folder| {
        let index = veth()?;
        let mut datapath = load(folder, &BTreeMap::new())?;
        datapath.attach(Hook::Xdp, "veth0", index)?;
        datapath.attach(Hook::Ingress, "veth0", index)?;
        datapath.attach_as(Hook::Egress, "veth0", index, Mode::Filter)?;
        drop(datapath);
        fs::rename(folder.join("v1"), folder.join("v0"))?;
        let mut datapath = load(folder, &BTreeMap::new())?;
        for hook in Hook::ALL {
            datapath.attach(hook, "veth0", index)?;
        }
        ensure!(tcx()? == 1, "it is the same link");
        let dropped = datapath.drop_other_versions()?;
        let expected = Dropped {
            version: 0,
            links: 0,
            maps: maps::ALL.len(),
        };
        ensure!(dropped == [expected], "{dropped:?}");
        ensure!(!folder.join("v0").exists(), "it is gone");
        ensure!(
            tcx()? == 1 && run("ip -d link show veth0")?.contains("xdp"),
            "ours hang on"
        );
        ensure!(datapath.drop_other_versions()?.is_empty(), "nothing is left");
        Ok(())
    });
}

#[test]
fn a_folder_that_is_not_on_a_bpf_file_system_is_refused() {
    node(|_| {
        let other = tempfile::tempdir()?;
        let refused = load(&other.path().join("stentor"), &BTreeMap::new());
        ensure!(
            refused.is_err_and(|error| error.to_string().contains("BPF file system")),
            "it is refused"
        );
        Ok(())
    });
}

#[test]
fn the_folder_is_made_on_the_file_system_that_is_there() {
    node(|folder| load(&folder.join("stentor"), &BTreeMap::new()).map(drop));
}

fn flows(datapath: &Datapath, count: u32) -> Result<()> {
    let keys: Vec<Tuple<V4>> = (0..count)
        .map(|n| Tuple {
            source: V4(n),
            ..Tuple::default()
        })
        .collect();
    let values = vec![Flow::<V4>::default(); keys.len()];
    Ok(datapath.map(maps::FLOWS4)?.put_all(&keys, &values)?)
}
