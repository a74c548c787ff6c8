//! The namespaces of a test, and the programs in them. What it looks like is drawn in [`crate::plan`].

use std::cell::RefCell;
use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout};

use anyhow::{Context as _, Result, bail};
use lab::{LinkEnd, Netns, Process, until, veth};

use crate::agent::Agent;
use crate::mode::Config;
use crate::plan::{APART, APART_DEVICE, CALLER, CLIENT, Family, Place, Site, VIPS, doors};
use crate::stage::LIMIT;
use crate::words::{Order, Progress, Report};

/// All of it. Ends with its owner, however that ends.
pub(crate) struct Bed {
    pub(crate) client: Spot,
    pub(crate) caller: Spot,
    /// A pod of the near node, but not of its cgroup.
    pub(crate) apart: Spot,
    pub(crate) near: Node,
    pub(crate) far: Node,
    router: Netns,
}

/// A node of the cluster, its pod with backends, and the agent.
pub(crate) struct Node {
    pub(crate) site: Site,
    agent: Option<Agent>,
    pub(crate) pod: Spot,
    pub(crate) host: Spot,
}

/// A namespace and the program in it.
pub(crate) struct Spot {
    worker: RefCell<Worker>,
    pub(crate) netns: Netns,
}

struct Worker {
    process: Process,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Bed {
    /// Everything but the agents.
    pub(crate) fn new() -> Result<Self> {
        let router = Netns::new("router")?;
        tell_all(&router)?;
        let client = Netns::new("client")?;
        cable(&router, "c0", &client, CLIENT)?;
        let near = Node::new(Site::Near, &router)?;
        let far = Node::new(Site::Far, &router)?;
        let caller = near.pod("caller", CALLER)?;
        let apart = Netns::new("apart")?;
        wire(&apart, &near.host.netns, Site::Near, APART, APART_DEVICE)?;
        for family in Family::ALL {
            for net in VIPS {
                via(&router, family.nth(net, 0), length(family), Site::Near, family)?;
            }
        }
        Ok(Self {
            client: Spot::new(client)?,
            caller: Spot::new(caller)?,
            apart: Spot::new(apart)?,
            near,
            far,
            router,
        })
    }

    pub(crate) fn nodes(&mut self) -> [&mut Node; 2] {
        [&mut self.near, &mut self.far]
    }

    /// The agents begin, or begin anew in another mode, with nothing left of the one before.
    pub(crate) fn start(&mut self, config: &Config, objects: &str) -> Result<()> {
        for node in self.nodes() {
            node.spawn(config, objects)?;
        }
        for node in self.nodes() {
            if let Some(agent) = &mut node.agent {
                agent.wait_until_ready()?;
            }
        }
        Ok(())
    }

    /// The near node gets its other addresses, and all routes lead there.
    pub(crate) fn renumber(&self) -> Result<()> {
        let near = &self.near.host.netns;
        for family in Family::ALL {
            let (old, new, length) = (
                Site::Near.address(family),
                Site::Near.moved(family),
                length(family),
            );
            let gateway = family.nth(Site::Near.net(), 1);
            let pods = family.nth(Site::Near.pods(), 0);
            let (flag, nodad) = match family {
                Family::V4 => ("-4", ""),
                Family::V6 => ("-6", "nodad"),
            };
            near.sh_in_network(&format!("ip addr add {new}/{length} dev eth0 {nodad}"))?;
            // The kernel's worker makes an address a source some moments later.
            until(LIMIT, "the other address to be in use", || {
                let local = near.sh_in_network(&format!("ip {flag} route show table local {new}"));
                local
                    .is_ok_and(|text| text.contains("local"))
                    .then_some(())
                    .ok_or(String::new())
            })?;
            // Routes that name the old address as source go with it.
            near.sh_in_network(&format!(
                "sysctl -qw net.ipv4.conf.eth0.promote_secondaries=1
                 routes=$(ip {flag} route show root {pods}/{length} | sed 's/ src .*//')
                 echo \"$routes\" | while read -r route; do ip {flag} route replace $route src {new}; done
                 ip addr del {old}/{length} dev eth0
                 ip route replace default via {gateway}"
            ))?;
            for net in VIPS.iter().map(|net| family.nth(*net, 0)).chain([pods]) {
                self.router
                    .sh_in_network(&format!("ip route replace {net}/{length} via {new}"))?;
            }
        }
        Ok(())
    }
}

impl Node {
    fn new(site: Site, router: &Netns) -> Result<Self> {
        let host = Netns::new(site.name())?;
        tell_all(&host)?;
        let link = site.name();
        cable(router, link, &host, site.net())?;
        for family in Family::ALL {
            via(router, family.nth(site.pods(), 0), length(family), site, family)?;
        }
        let mut node = Self {
            site,
            agent: None,
            pod: Spot::new(pod(&host, site, &format!("{}-pod", site.name()), 10)?)?,
            host: Spot::new(host)?,
        };
        node.host.serve(Place::Host(site))?;
        node.pod.serve(Place::Pod(site))?;
        Ok(node)
    }

    /// The agent begins, with nothing left of the one before, and serves.
    pub(crate) fn begin(&mut self, config: &Config, objects: &str) -> Result<()> {
        self.spawn(config, objects)?.wait_until_ready()
    }

    pub(crate) fn agent(&mut self) -> Result<&mut Agent> {
        self.agent.as_mut().context("an agent was begun")
    }

    fn spawn(&mut self, config: &Config, objects: &str) -> Result<&mut Agent> {
        self.agent = None;
        let agent = Agent::begin(&self.host.netns, self.site.name(), config, objects)?;
        Ok(self.agent.insert(agent))
    }

    /// Another pod of this node.
    pub(crate) fn pod(&self, name: &str, number: usize) -> Result<Netns> {
        pod(&self.host.netns, self.site, name, number)
    }
}

impl Spot {
    pub(crate) fn new(netns: Netns) -> Result<Self> {
        let own = env::current_exe()?;
        let own = own.to_str().context("the test's path is no text")?;
        let (process, stdin, stdout) = netns.converse(&[own, crate::WORKER])?;
        let worker = Worker {
            process,
            stdin,
            stdout: BufReader::new(stdout),
        };
        Ok(Self {
            worker: RefCell::new(worker),
            netns,
        })
    }

    fn serve(&mut self, place: Place) -> Result<()> {
        self.order(&Order::Serve(doors(place))).map(drop)
    }

    /// Kills the program: backends are gone, and their kernel says so to clients.
    pub(crate) fn kill(&mut self) {
        self.worker.get_mut().process.kill();
    }

    /// Says an order, and waits until it is carried out.
    pub(crate) fn order(&self, order: &Order) -> Result<Report> {
        self.say(order)?;
        self.hear()
    }

    /// Only says it: others can be told meanwhile.
    pub(crate) fn say(&self, order: &Order) -> Result<()> {
        let mut text = serde_json::to_string(order)?;
        text.push('\n');
        let worker = &mut *self.worker.borrow_mut();
        worker.stdin.write_all(text.as_bytes())?;
        Ok(worker.stdin.flush()?)
    }

    pub(crate) fn hear(&self) -> Result<Report> {
        let worker = &mut *self.worker.borrow_mut();
        let mut line = String::new();
        if worker.stdout.read_line(&mut line)? == 0 {
            bail!("{} is gone: {}", self.netns.name(), worker.process.log());
        }
        match serde_json::from_str(&line)? {
            Report::Failed(why) => bail!("{}: {why}", self.netns.name()),
            report => Ok(report),
        }
    }

    pub(crate) fn progress(&self) -> Result<Progress> {
        self.counted(&Order::Progress)
    }

    pub(crate) fn rest(&self) -> Result<Progress> {
        self.counted(&Order::Rest)
    }

    fn counted(&self, order: &Order) -> Result<Progress> {
        match self.order(order)? {
            Report::Progress(progress) => Ok(progress),
            other => bail!("{}: {other:?} to {order:?}", self.netns.name()),
        }
    }
}

/// Kernels tell each neighbour of few expired packets a second. Here all ask at once, and are told.
fn tell_all(netns: &Netns) -> Result<()> {
    netns.sh_in_network(
        "sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0 net.ipv4.icmp_msgs_per_sec=100000 \
         net.ipv4.icmp_msgs_burst=10000",
    )?;
    Ok(())
}

/// The router has the first address of a network, and who is behind the cable the second, and a default route.
fn cable(router: &Netns, link: &str, other: &Netns, net: [&str; 2]) -> Result<()> {
    let addresses = |n| Family::ALL.map(|family| format!("{}/{}", family.nth(net, n), length(family)));
    let (ours, theirs) = (addresses(1), addresses(2));
    veth(
        LinkEnd::new(router, link, &[&ours[0], &ours[1]]),
        LinkEnd::new(other, "eth0", &[&theirs[0], &theirs[1]]),
        None,
    )?;
    for family in Family::ALL {
        let gateway = family.nth(net, 1);
        other.sh_in_network(&format!("ip route add default via {gateway}"))?;
    }
    // A cable of copper has no packet larger than its MTU, and none whose checksum is yet to be made. What the kernel keeps
    // for later between two ends of a veth pair does not outlive a program in the driver that sends it on.
    router.exec(&["ethtool", "-K", link, "tx", "off", "gro", "on"])?;
    Ok(())
}

fn via(router: &Netns, net: std::net::IpAddr, length: u8, site: Site, family: Family) -> Result<()> {
    let gateway = site.address(family);
    router.sh_in_network(&format!("ip route add {net}/{length} via {gateway}"))?;
    Ok(())
}

fn length(family: Family) -> u8 {
    match family {
        Family::V4 => 24,
        Family::V6 => 64,
    }
}

/// A pod as a CNI makes it: behind a veth pair, with a gateway that all pods share.
fn pod(node: &Netns, site: Site, name: &str, number: usize) -> Result<Netns> {
    let pod = Netns::pod_of(node, name)?;
    wire(&pod, node, site, number, &format!("lxc{number}"))?;
    Ok(pod)
}

/// The node calls its end `outside`.
fn wire(pod: &Netns, node: &Netns, site: Site, number: usize, outside: &str) -> Result<()> {
    veth(
        LinkEnd::new(pod, "eth0", &[]),
        LinkEnd::new(node, outside, &[]),
        None,
    )?;
    for (family, gateway, length, flags) in [
        (Family::V4, "169.254.1.1", 32, ""),
        (Family::V6, "fe80::1", 128, "nodad"),
    ] {
        let address = family.nth(site.pods(), number);
        let own = site.address(family);
        pod.sh(&format!(
            "ip addr add {address}/{length} dev eth0 {flags}; ip route replace {gateway} dev eth0; \
             ip route add default via {gateway} dev eth0"
        ))?;
        node.sh_in_network(&format!(
            "ip addr add {gateway}/{length} dev {outside} {flags}; ip route add {address} dev {outside} src {own}"
        ))?;
    }
    Ok(())
}
