//! Debian packages: how they are installed without a daemon of theirs ever running.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::{From, Need, is_root};
use crate::step;

/// Debian asks this program whether a package may start its daemon.
const POLICY: &str = "/usr/sbin/policy-rc.d";

const INSTALL: &str = include_str!("install.sh");

/// Installs what comes as packages; where it cannot, the error names all of them.
pub(super) fn install(missing: &[&Need]) -> Result<()> {
    let mut packages = Vec::new();
    let mut units = Vec::new();
    for need in missing {
        match need.from {
            From::Debian => packages.push(need.what),
            From::DebianDaemon { unit } => {
                packages.push(need.what);
                units.push(unit);
            }
            From::Made(_) | From::Tried(_) => {}
        }
    }
    if packages.is_empty() {
        return Ok(());
    }
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !is_debian(&release) || step::find("apt-get").is_none() {
        let name = value_of(&release, "PRETTY_NAME").unwrap_or("this machine");
        bail!(
            "{name} is not a system this knows how to install on; please install what Debian calls: {}",
            packages.join(" ")
        );
    }
    if !is_root() {
        bail!(
            "installing needs root; run as root: cargo xtask setup, or apt-get install {}",
            packages.join(" ")
        );
    }
    println!("setup: installing: {}", packages.join(" "));
    step::run_as(&mut installation(POLICY, &packages), "apt-get install")?;
    units.into_iter().for_each(disable);
    Ok(())
}

fn installation(policy: &str, packages: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", INSTALL, "install.sh", policy]).args(packages);
    command
}

/// A package that is installed also enables its daemon, for the next start of the machine.
fn disable(unit: &str) {
    if step::find("systemctl").is_none() {
        return;
    }
    println!("setup: disabling the unit {unit}: labs and tests start their own");
    let mut command = Command::new("systemctl");
    command.args(["disable", "--quiet", unit]);
    if Path::new("/run/systemd/system").exists() {
        // It runs only where the machine's owner has a policy that lets it.
        command.arg("--now");
    }
    // A unit that the package does not bring after all is no reason to stop.
    if let Err(error) = step::run(&mut command) {
        println!("setup: {error:#}");
    }
}

/// Debian itself and what calls itself like it.
fn is_debian(release: &str) -> bool {
    let named =
        |key| value_of(release, key).is_some_and(|value| value.split(' ').any(|word| word == "debian"));
    named("ID") || named("ID_LIKE")
}

fn value_of<'a>(release: &'a str, key: &str) -> Option<&'a str> {
    let lines = release.lines().filter_map(|line| line.split_once('='));
    lines
        .filter(|(name, _)| *name == key)
        .map(|(_, value)| value.trim_matches('"'))
        .next()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    use std::path::PathBuf;
    use std::process::{Child, Stdio};
    use std::time::Duration;

    use super::*;

    /// A machine with an `apt-get` of our own.
    struct Machine {
        folder: PathBuf,
    }

    impl Machine {
        /// `install` is what its `apt-get install` does, with the policy's path in `$policy`.
        fn new(name: &str, install: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("stentor-setup-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            let machine = Self { folder };
            let script = format!(
                "#!/bin/sh\npolicy={}\ncd {}\n[ $1 != install ] || {{ {install}; }}\n",
                machine.policy().display(),
                machine.folder.display(),
            );
            let program = machine.folder.join("apt-get");
            fs::write(&program, script).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            machine
        }

        fn policy(&self) -> PathBuf {
            self.folder.join("policy-rc.d")
        }

        fn start(&self) -> Child {
            let path = std::env::var("PATH").unwrap();
            installation(self.policy().to_str().unwrap(), &["bird2"])
                .env("PATH", format!("{}:{path}", self.folder.display()))
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()
                .unwrap()
        }

        fn wrote(&self, file: &str) -> Option<String> {
            fs::read_to_string(self.folder.join(file)).ok()
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    const ASK: &str = "$policy; echo $? > verdict";

    #[test]
    fn no_daemon_may_start_while_packages_are_installed_and_all_may_afterwards() {
        let machine = Machine::new("fine", ASK);
        assert!(machine.start().wait().unwrap().success());
        assert_eq!(machine.wrote("verdict").as_deref(), Some("101\n"));
        assert!(!machine.policy().exists());
    }

    #[test]
    fn an_installation_that_fails_leaves_no_policy_behind() {
        let machine = Machine::new("fails", "exit 100");
        assert_eq!(machine.start().wait().unwrap().code(), Some(100));
        assert!(!machine.policy().exists());
    }

    #[test]
    fn an_installation_that_is_interrupted_leaves_no_policy_behind() {
        let machine = Machine::new("interrupted", "echo > begun; exec sleep 60");
        let mut child = machine.start();
        lab::until(Duration::from_mins(1), "apt-get", || {
            machine.wrote("begun").ok_or_else(|| "not begun".to_owned())
        })
        .unwrap();
        // As a terminal does it: the whole group.
        let group = format!("-{}", child.id());
        Command::new("kill")
            .args(["-TERM", "--", &group])
            .status()
            .unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(!machine.policy().exists());
    }

    #[test]
    fn a_policy_left_by_a_killed_installation_goes_with_the_next_one() {
        let machine = Machine::new("left", ASK);
        let ours = "#!/bin/sh\n# Made by cargo xtask setup, for as long as it installs.\nexit 101\n";
        fs::write(machine.policy(), ours).unwrap();
        assert!(machine.start().wait().unwrap().success());
        assert!(!machine.policy().exists());
    }

    #[test]
    fn the_owners_policy_stays() {
        let machine = Machine::new("owner", "true");
        fs::write(machine.policy(), "#!/bin/sh\nexit 0\n").unwrap();
        assert!(machine.start().wait().unwrap().success());
        assert_eq!(
            machine.wrote("policy-rc.d").as_deref(),
            Some("#!/bin/sh\nexit 0\n")
        );
    }

    #[test]
    fn debian_and_its_children_are_known_and_others_are_not() {
        assert!(is_debian("ID=debian\n"));
        assert!(is_debian("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_debian("ID=fedora\n"));
        assert!(!is_debian(""));
    }
}
