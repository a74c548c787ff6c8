//! Two nodes and a cable: our speaker on one side, a daemon on the other.

use std::env;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use lab::router::{
    Dials, Families, Kind, Neighbor, Origination, Router, RouterConfig, Seen, Session, TtlSecurity,
};
use lab::{LinkEnd, Netns, until, veth};
use stentor_tests::capture::Capture;
use stentor_tests::subject::{Moment, Subject, Wish};

use crate::table::Row;

/// For what takes a second or two. Far longer than needed, for machines that are slow or busy.
pub(crate) const SOON: Duration = Duration::from_mins(1);

/// The speaker under test.
pub(crate) const SUBJECT: &str = env!("CARGO_BIN_EXE_subject");

/// What differs between beds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) our_asn: u32,
    pub(crate) their_asn: u32,
    pub(crate) our_router_id: [u8; 4],
    pub(crate) we: Dials,
    pub(crate) they: Dials,
    pub(crate) hold: u16,
    pub(crate) graceful: Option<u16>,
}

impl Plan {
    /// We dial, no graceful restart.
    pub(crate) const PLAIN: Self = Self {
        our_asn: 65001,
        their_asn: 65002,
        our_router_id: [10, 9, 0, 1],
        we: Dials::Yes,
        they: Dials::Never,
        hold: 9,
        graceful: None,
    };
}

/// What runs in the bed. Fields drop in order: the speakers before their nodes.
#[derive(Debug)]
pub(crate) struct Bed {
    pub(crate) row: Row,
    pub(crate) subject: Option<Subject>,
    pub(crate) router: Router,
    pub(crate) wish: Wish,
    /// The addresses of the session.
    pub(crate) ours: IpAddr,
    pub(crate) theirs: IpAddr,
    pub(crate) capture: Option<Capture>,
    pub(crate) our_node: Arc<Netns>,
    pub(crate) their_node: Arc<Netns>,
}

const OUR_V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 0, 1));
const THEIR_V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 0, 2));
const OUR_V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 1));
const THEIR_V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 2));

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Bed {
    /// Lays the cable, starts the capture and the daemon. Our speaker is not started yet.
    pub(crate) fn new(row: Row, plan: Plan) -> Result<Self> {
        let our_node = Arc::new(Netns::new("ours")?);
        let their_node = Arc::new(Netns::new("theirs")?);
        let left = LinkEnd::new(&our_node, "eth0", &["10.9.0.1/24", "fd09::1/64"]);
        let right = LinkEnd::new(&their_node, "eth0", &["10.9.0.2/24", "fd09::2/64"]);
        veth(left, right, None)?;
        for node in [&our_node, &their_node] {
            // Else a pulled cable takes the addresses with it.
            node.sh(
                "sysctl -qw net.ipv6.conf.all.keep_addr_on_down=1 net.ipv6.conf.eth0.keep_addr_on_down=1",
            )?;
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{number}.pcap", row.kind, row.transport());
        let file = captures().join(name.to_lowercase());
        let capture = Capture::start(&our_node, "eth0", file)?;
        let (ours, theirs) = match row.families {
            Families::Ipv4 | Families::Both => (OUR_V4, THEIR_V4),
            Families::Ipv6 | Families::Ipv4OverIpv6 => (OUR_V6, THEIR_V6),
        };
        let side = |local, address, asn, dials, v6: IpAddr| Neighbor {
            address,
            local,
            asn,
            families: row.families,
            dials,
            password: None,
            ttl_security: TtlSecurity::Off,
            hold: plan.hold,
            graceful_restart: plan.graceful,
            ipv6_next_hop: (row.families == Families::Both).then_some(v6),
        };
        let wish = Wish {
            router: RouterConfig {
                asn: plan.our_asn,
                router_id: plan.our_router_id.into(),
                neighbors: vec![side(ours, theirs, plan.their_asn, plan.we, OUR_V6)],
            },
            routes: Vec::new(),
            many: 0,
        };
        let config = RouterConfig {
            asn: plan.their_asn,
            router_id: [10, 9, 0, 2].into(),
            neighbors: vec![side(theirs, ours, plan.our_asn, plan.they, THEIR_V6)],
        };
        let router = Router::start(row.kind, &their_node, config)?;
        Ok(Self {
            row,
            subject: None,
            router,
            wish,
            ours,
            theirs,
            capture: Some(capture),
            our_node,
            their_node,
        })
    }

    pub(crate) fn kind(&self) -> Kind {
        self.row.kind
    }

    /// Starts our speaker with the wish as it is now. One that runs is killed first.
    pub(crate) fn start(&mut self) -> Result<()> {
        drop(self.subject.take());
        self.subject = Some(Subject::start(&self.our_node, Path::new(SUBJECT), &self.wish)?);
        Ok(())
    }

    /// Starts it as one that was restarted.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        self.subject = Some(Subject::start_again(
            &self.our_node,
            Path::new(SUBJECT),
            &self.wish,
        )?);
        Ok(())
    }

    pub(crate) fn subject(&mut self) -> Result<&mut Subject> {
        self.subject.as_mut().context("our speaker does not run")
    }

    /// Puts a changed wish in force.
    pub(crate) fn configure(&mut self) -> Result<()> {
        let wish = self.wish.clone();
        self.subject()?.configure(&wish)
    }

    pub(crate) fn our_side(&mut self) -> &mut Neighbor {
        &mut self.wish.router.neighbors[0]
    }

    pub(crate) fn their_side(&mut self) -> &mut Neighbor {
        &mut self.router.config_mut().neighbors[0]
    }

    /// Starts the daemon anew, with the changes made to its configuration.
    pub(crate) fn restart_router(&mut self) -> Result<()> {
        self.router.kill();
        Ok(self.router.run()?)
    }

    /// Waits until both sides call the session established, which it was or became after `since`.
    pub(crate) fn establishes(&mut self, since: Moment) -> Result<()> {
        let theirs = self.theirs;
        self.subject()?.establishes(theirs, since, SOON)?;
        Ok(self.router.established(self.ours, SOON)?)
    }

    /// Starts our speaker and waits for the session.
    pub(crate) fn up(&mut self) -> Result<()> {
        self.start()?;
        let beginning = Moment::BEGINNING;
        self.establishes(beginning)
    }

    /// Waits until the daemon has lost the session.
    pub(crate) fn router_loses(&self, limit: Duration) -> Result<()> {
        let what = format!("{} to lose the session", self.kind());
        let found = until(limit, what, || match self.router.session(self.ours) {
            Ok(Session::Down(_)) => Ok(()),
            Ok(Session::Established) => Err("Established".to_owned()),
            Err(error) => Err(error.to_string()),
        });
        Ok(found?)
    }

    /// Waits until the routes the daemon has from us are as wanted.
    pub(crate) fn router_receives(
        &self,
        what: &str,
        mut wanted: impl FnMut(&[Seen]) -> bool,
    ) -> Result<Vec<Seen>> {
        let what = format!("{what} at {}", self.kind());
        let found = until(SOON, what, || {
            let seen = self
                .router
                .received(self.ours)
                .map_err(|error| error.to_string())?;
            match wanted(&seen) {
                true => Ok(seen),
                false => Err(format!("{seen:?}\n{}", self.router_log())),
            }
        });
        Ok(found?)
    }

    /// The end of what the daemon wrote.
    pub(crate) fn router_log(&self) -> String {
        let log = self.router.log();
        let lines: Vec<_> = log.lines().collect();
        let end = lines.iter().rev().take(20).rev();
        end.copied().collect::<Vec<_>>().join("\n")
    }

    /// Waits until the routes we have from the daemon are as wanted.
    pub(crate) fn we_receive(
        &mut self,
        what: &str,
        wanted: impl FnMut(&[Seen]) -> bool,
    ) -> Result<Vec<Seen>> {
        let theirs = self.theirs;
        self.subject()?.receives(theirs, what, SOON, wanted)
    }

    /// Prefixes for us to announce, of the families of the session.
    pub(crate) fn our_prefixes(&self) -> Vec<IpNet> {
        self.pick(
            &["192.0.2.1/32", "192.0.2.128/25"],
            &["2001:db8::1/128", "2001:db8:1::/48"],
        )
    }

    /// Prefixes for the daemon to announce.
    pub(crate) fn their_prefixes(&self) -> Vec<IpNet> {
        self.pick(
            &["198.51.100.0/24", "203.0.113.1/32"],
            &["2001:db8:e::/48", "2001:db8:f::1/128"],
        )
    }

    fn pick(&self, v4: &[&str], v6: &[&str]) -> Vec<IpNet> {
        let mut prefixes = Vec::new();
        if self.row.families.has_ipv4() {
            prefixes.extend(v4.iter().filter_map(|prefix| prefix.parse::<IpNet>().ok()));
        }
        if self.row.families.has_ipv6() {
            prefixes.extend(v6.iter().filter_map(|prefix| prefix.parse::<IpNet>().ok()));
        }
        prefixes
    }

    /// Announces plain routes from both sides and waits until they have arrived.
    pub(crate) fn exchange(&mut self) -> Result<()> {
        let (ours, theirs) = (self.our_prefixes(), self.their_prefixes());
        self.wish.routes = ours.iter().copied().map(Origination::plain).collect();
        self.configure()?;
        for prefix in &theirs {
            self.router.announce(Origination::plain(*prefix))?;
        }
        self.both_have(&ours, &theirs)
    }

    /// Waits until each side has exactly these routes of the other, and none is stale.
    pub(crate) fn both_have(&mut self, ours: &[IpNet], theirs: &[IpNet]) -> Result<()> {
        self.router_receives("our routes", |seen| fresh(seen, ours))?;
        self.we_receive("their routes", |seen| fresh(seen, theirs))?;
        Ok(())
    }

    /// The next hop a route of this side must have.
    pub(crate) fn next_hop(&self, side: IpAddr, prefix: IpNet) -> IpAddr {
        let v6 = prefix.addr().is_ipv6() || self.row.families == Families::Ipv4OverIpv6;
        match (v6, side == self.ours) {
            (false, true) => OUR_V4,
            (false, false) => THEIR_V4,
            (true, true) => OUR_V6,
            (true, false) => THEIR_V6,
        }
    }

    /// A counter of the TCP stack of a node, by its name in `/proc/net/netstat`.
    pub(crate) fn tcp_counter(node: &Netns, name: &str) -> Result<u64> {
        let text = node.exec(&["cat", "/proc/net/netstat"])?;
        let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
        let (names, values) = (lines.next(), lines.next());
        let (names, values) = names.zip(values).context("no TcpExt in netstat")?;
        let position = names.split(' ').position(|word| word == name);
        let position = position.with_context(|| format!("the kernel does not count {name}"))?;
        let value = values.split(' ').nth(position).context("netstat is short")?;
        Ok(value.parse()?)
    }

    /// Waits until the kernel of a node has refused a segment, for the reason counted under `name`.
    pub(crate) fn refuses(&self, node: &Netns, name: &str) -> Result<()> {
        let found = until(
            SOON,
            format!("{name} at {}", node.name()),
            || match Self::tcp_counter(node, name) {
                Ok(0) => Err("0".to_owned()),
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            },
        );
        found?;
        let session = self.router.session(self.ours)?;
        ensure!(session != Session::Established, "established in spite of {name}");
        Ok(())
    }

    /// What tshark thinks of all that we sent.
    pub(crate) fn judge(&mut self) -> Result<()> {
        let capture = self.capture.take().context("no capture")?;
        capture.judge(self.ours)
    }
}

/// Whether these are exactly the routes, none of them stale.
pub(crate) fn fresh(seen: &[Seen], prefixes: &[IpNet]) -> bool {
    same(seen, prefixes) && seen.iter().all(|route| !route.stale)
}

/// Whether these are exactly the routes.
pub(crate) fn same(seen: &[Seen], prefixes: &[IpNet]) -> bool {
    let mut wanted = prefixes.to_vec();
    wanted.sort_unstable();
    seen.iter().map(|route| route.prefix).eq(wanted)
}

/// Captures of failed tests stay here; those of good ones are removed.
fn captures() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_TMPDIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    target.join("interop")
}
