//! Device kinds that this kernel lacks, and what stands in for them.
//!
//! Topologies are run unmodified, so the substitution happens where the node asks: its `ip` is covered by a
//! script that changes the kind and says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::{Error, Netns, system};

/// An `ifb` that nothing is redirected to takes addresses, is up, and drops what it is sent: all that a dummy does.
///
/// The real program must keep the name `ip`: it takes a longer one for a command.
const IP: &str = r#"#!/bin/sh
previous=
for word in "$@"; do
  shift
  if [ "$previous" = type ] && [ "$word" = dummy ]; then
    word=ifb
    echo "lab: this kernel has no dummy devices; an ifb stands in, which drops what it is sent just the same" >&2
  fi
  set -- "$@" "$word"
  previous=$word
done
exec /run/.lab/ip "$@"
"#;

/// Covers `ip` inside the node, if the kernel has no dummy devices.
///
/// # Errors
/// The node's private folders cannot be written.
pub fn install(node: &Netns) -> Result<(), Error> {
    let probe = "ip link add lab-probe type dummy && ip link del lab-probe";
    if node.sh(probe).is_ok() {
        return Ok(());
    }
    let script = node.path("/run/.lab/script");
    fs::create_dir_all(node.path("/run/.lab")).map_err(system("make /run/.lab"))?;
    fs::write(&script, IP).map_err(system("write a script"))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
        .map_err(system("make a script executable"))?;
    node.sh(
        "ip=$(readlink -f \"$(command -v ip)\"); : >/run/.lab/ip; mount --bind \"$ip\" /run/.lab/ip; \
             mount --bind /run/.lab/script \"$ip\"",
    )?;
    Ok(())
}
