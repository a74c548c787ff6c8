//! What becomes of a control plane whose owner does not come to drop it.

use std::path::Path;
use std::{fs, mem, thread};

use anyhow::{Context as _, Result, anyhow, ensure};
use lab::kubernetes::{Assets, ControlPlane};
use stentor_tests::cluster::{Api, LIMIT};

/// As after `kill -9`: the kernel ends them.
pub(crate) fn nothing_is_left(_: &mut ControlPlane, _: &Api) -> Result<()> {
    let owner = thread::spawn(|| -> Result<_> {
        let control_plane = ControlPlane::start(&Assets::find()?)?;
        let left = (control_plane.pids(), control_plane.kubeconfig());
        mem::forget(control_plane);
        Ok(left)
    });
    let (pids, kubeconfig) = owner.join().map_err(|_| anyhow!("the owner panicked"))??;
    ensure!(pids.len() == 2, "{pids:?}");
    lab::until(LIMIT, "its processes to end", || {
        let alive: Vec<&u32> = pids.iter().filter(|pid| is_alive(**pid)).collect();
        if alive.is_empty() {
            Ok(())
        } else {
            Err(format!("{alive:?}"))
        }
    })?;
    fs::remove_dir_all(kubeconfig.parent().context("a file has a folder")?)?;
    Ok(())
}

/// What has ended and was not waited for is still listed, as a zombie.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    let stat = stat.unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}
