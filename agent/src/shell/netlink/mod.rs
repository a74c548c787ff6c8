//! The kernel's routes and links.
//!
//! Two things in one task:
//!
//! - It follows links, addresses and default routes and tells what it sees, whole, whenever it changed, and
//!   which links went down with the prefixes that were connected to them.
//! - It keeps a blackhole route for each prefix it is told to discard. The routes carry a protocol number of
//!   their own ([`PROTOCOL`]): what an earlier run left is adopted or removed, what others made is left alone.
//!   What can't be written stays in the difference, is reported as a named problem and tried again, later
//!   each time.
//!
//! A message of the kernel only says that something changed; what it is now is read as a whole. So messages
//! lost in a burst lose nothing.

mod discard;
mod frames;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bgp_speaker::types::Prefix;
use futures_util::StreamExt as _;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol};
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::datapath::devices::{DefaultRoute as Leads, Device};
use crate::world::DefaultRoute;

/// Marks the routes of this program (`ip route show proto 83`).
pub const PROTOCOL: u8 = 83;

/// Reads are at least this far apart.
const READ_INTERVAL: Duration = Duration::from_millis(100);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(60);

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    Seen(Seen),
    /// The link can carry nothing any more; `prefixes` were connected to it.
    LinkDown {
        interface: String,
        prefixes: Vec<Prefix>,
    },
    /// The discard routes that could not be written or removed; empty again when all is well.
    Discards(Vec<Failed>),
    /// Netlink can't be used; why. It is tried again, and [`News::Seen`] says that it can.
    Broken(String),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub default_routes: Vec<DefaultRoute>,
    pub cilium_host_mac: Option<[u8; 6]>,
    /// All devices, by index.
    pub devices: Arc<[Device]>,
}

/// A discard route that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failed {
    pub prefix: Prefix,
    pub action: Action,
    pub error: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Add,
    Remove,
}

/// One link as it was last read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Link {
    name: String,
    up: bool,
    mac: Vec<u8>,
    /// Kept from when it was up: the kernel forgets them when it goes down.
    prefixes: BTreeSet<Prefix>,
    device: Device,
}

/// Runs until the receiver of `news` is gone. `wish` is `None` until there is a first plan: what an earlier
/// run left is not touched before that.
pub async fn run(wish: watch::Receiver<Option<BTreeSet<Prefix>>>, news: mpsc::Sender<News>) {
    let mut follower = Follower {
        wish,
        news,
        links: BTreeMap::new(),
        told: Told::default(),
        failed: Vec::new(),
        retry: None,
        pause: RETRY_FIRST,
    };
    let mut pause = RETRY_FIRST;
    while let Some(why) = follower.connected().await {
        follower.broken(why).await;
        tokio::select! {
            () = follower.news.closed() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_LONGEST),
        }
    }
}

struct Follower {
    wish: watch::Receiver<Option<BTreeSet<Prefix>>>,
    news: mpsc::Sender<News>,
    links: BTreeMap<u32, Link>,
    told: Told,
    failed: Vec<Failed>,
    retry: Option<Instant>,
    pause: Duration,
}

/// What was told last: the same again is no news.
#[derive(Debug, Default)]
struct Told {
    seen: Option<Seen>,
    broken: Option<String>,
}

impl Told {
    fn seen(&mut self, seen: Seen) -> Option<News> {
        // Whatever was wrong is not any more, and only this says so.
        let mended = self.broken.take().is_some();
        let differs = self.seen.as_ref() != Some(&seen);
        self.seen = Some(seen.clone());
        (mended || differs).then_some(News::Seen(seen))
    }

    fn broken(&mut self, why: String) -> Option<News> {
        let differs = self.broken.as_ref() != Some(&why);
        self.broken = Some(why.clone());
        differs.then_some(News::Broken(why))
    }
}

type Messages = futures_channel::mpsc::UnboundedReceiver<(
    rtnetlink::packet_core::NetlinkMessage<RouteNetlinkMessage>,
    rtnetlink::sys::SocketAddr,
)>;

impl Follower {
    /// One connection to the kernel, and why it ended. `None`: nobody listens any more.
    async fn connected(&mut self) -> Option<String> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ];
        let mut devices = frames::Devices::open().unwrap_or_else(|error| {
            tracing::debug!(%error, "the kernel does not tell which devices take frames of XDP");
            None
        });
        let (connection, handle, messages) = match rtnetlink::new_multicast_connection(&groups) {
            Ok(parts) => parts,
            Err(error) => return Some(error.to_string()),
        };
        // The connection moves the octets; it ends when this function does.
        tokio::select! {
            () = connection => Some("the connection to the kernel ended".to_owned()),
            ended = self.follow(&handle, messages, &mut devices) => ended,
        }
    }

    async fn follow(
        &mut self,
        handle: &Handle,
        mut messages: Messages,
        devices: &mut Option<frames::Devices>,
    ) -> Option<String> {
        let mut read_at = Some(Instant::now());
        loop {
            let timer = [read_at, self.retry].into_iter().flatten().min();
            tokio::select! {
                message = messages.next() => match message {
                    Some((message, _)) => {
                        if matters(&message.payload) {
                            read_at.get_or_insert_with(|| Instant::now() + READ_INTERVAL);
                        }
                    }
                    None => return Some("the connection to the kernel ended".to_owned()),
                },
                () = frames_changed(devices) => {
                    read_at.get_or_insert_with(|| Instant::now() + READ_INTERVAL);
                }
                changed = self.wish.changed() => {
                    if changed.is_err() {
                        return None;
                    }
                    self.pause = RETRY_FIRST;
                    self.retry = None;
                    self.discard(handle).await;
                }
                () = self.news.closed() => return None,
                () = tokio::time::sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => {
                    let now = Instant::now();
                    if read_at.is_some_and(|at| at <= now) {
                        // A read that fails is tried again, whether the kernel has news or not.
                        read_at = match self.read(handle, devices.as_ref()).await {
                            Ok(()) => None,
                            Err(error) => {
                                self.broken(error.to_string()).await;
                                Some(now + RETRY_FIRST)
                            }
                        };
                        self.discard(handle).await;
                    } else if self.retry.is_some_and(|at| at <= now) {
                        self.retry = None;
                        self.discard(handle).await;
                    }
                }
            }
        }
    }

    /// Reads links and default routes and tells what is new about them.
    async fn read(
        &mut self,
        handle: &Handle,
        devices: Option<&frames::Devices>,
    ) -> Result<(), rtnetlink::Error> {
        let mut links = read::links(handle).await?;
        // What is not told is not taken for granted.
        let told = devices
            .and_then(|devices| devices.read().ok())
            .unwrap_or_default();
        for (index, frames) in told {
            if let Some(link) = links.get_mut(&index) {
                link.device.frames = frames;
            }
        }
        for down in went_down(&mut self.links, links) {
            self.tell(Some(down)).await;
        }
        let default_routes = read::default_routes(handle, &self.links).await?;
        let cilium_host = self.links.values().find(|link| link.name == "cilium_host");
        let devices = self.links.values().map(|link| {
            let leads_out = default_routes.iter().any(|route| route.interface == link.name);
            Device {
                default_route: if leads_out { Leads::Here } else { Leads::None },
                ..link.device.clone()
            }
        });
        let devices = devices.collect();
        let news = self.told.seen(Seen {
            devices,
            default_routes,
            cilium_host_mac: cilium_host.and_then(|link| link.mac.as_slice().try_into().ok()),
        });
        self.tell(news).await;
        Ok(())
    }

    async fn broken(&mut self, why: String) {
        let news = self.told.broken(why);
        self.tell(news).await;
    }

    /// Makes the kernel's discard routes what they should be.
    async fn discard(&mut self, handle: &Handle) {
        let Some(wish) = self.wish.borrow_and_update().clone() else {
            return;
        };
        let failed = discard::apply(handle, &wish).await;
        if failed.is_empty() {
            self.retry = None;
            self.pause = RETRY_FIRST;
        } else if self.retry.is_none() {
            self.retry = Some(Instant::now() + self.pause);
            self.pause = (self.pause * 2).min(RETRY_LONGEST);
        }
        if failed != self.failed {
            self.failed.clone_from(&failed);
            self.tell(Some(News::Discards(failed))).await;
        }
    }

    async fn tell(&self, news: Option<News>) {
        if let Some(news) = news {
            // A receiver that is gone ends `follow`.
            let _ = self.news.send(news).await;
        }
    }
}

/// Until a device takes frames that took none, or the other way round.
async fn frames_changed(devices: &mut Option<frames::Devices>) {
    let changed = match devices {
        Some(devices) => devices.changed().await,
        None => std::future::pending().await,
    };
    // News that did not fit were lost, and everything is read anew. Whatever else fails would fail again at once.
    if changed.is_err_and(|error| error.raw_os_error() != Some(nix::libc::ENOBUFS)) {
        *devices = None;
    }
}

/// Takes the new links over and tells which went down.
fn went_down(known: &mut BTreeMap<u32, Link>, mut now: BTreeMap<u32, Link>) -> Vec<News> {
    let mut down = Vec::new();
    for (index, before) in known.iter() {
        let after = now.get_mut(index);
        let still_up = after.as_ref().is_some_and(|link| link.up);
        if before.up && !still_up {
            down.push(News::LinkDown {
                interface: before.name.clone(),
                prefixes: before.prefixes.iter().copied().collect(),
            });
        }
        if let (Some(after), false) = (after, still_up) {
            after.prefixes.extend(before.prefixes.iter().copied());
        }
    }
    *known = now;
    down
}

/// Whether a message can change what is followed here. A full routing table coming and going does not.
fn matters(payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
    let of_interest = |route: &RouteMessage| {
        route.header.destination_prefix_length == 0 || route.header.protocol == RouteProtocol::Other(PROTOCOL)
    };
    match payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
        ) => of_interest(route),
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewLink(_)
            | RouteNetlinkMessage::DelLink(_)
            | RouteNetlinkMessage::NewAddress(_)
            | RouteNetlinkMessage::DelAddress(_),
        ) => true,
        // Messages were lost: look at everything.
        NetlinkPayload::Overrun(_) => true,
        _ => false,
    }
}

/// Which of `peers` are neighbours on a link that `prefixes` were connected to.
#[must_use]
pub fn reached_through(prefixes: &[Prefix], peers: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    peers
        .into_iter()
        .filter(|peer| prefixes.iter().any(|p| p.contains(&Prefix::host(*peer))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, up: bool, prefixes: &[&str]) -> Link {
        Link {
            name: name.into(),
            up,
            mac: Vec::new(),
            device: Device::default(),
            prefixes: prefixes
                .iter()
                .map(|p| {
                    let (addr, len) = p.split_once('/').unwrap();
                    Prefix::new(addr.parse().unwrap(), len.parse().unwrap()).unwrap()
                })
                .collect(),
        }
    }

    #[test]
    fn after_a_fault_the_same_sight_is_news_and_the_same_fault_is_none() {
        let mut told = Told::default();
        assert_eq!(told.seen(Seen::default()), Some(News::Seen(Seen::default())));
        assert_eq!(told.seen(Seen::default()), None);
        let why = || "no buffer".to_owned();
        assert_eq!(told.broken(why()), Some(News::Broken(why())));
        assert_eq!(told.broken(why()), None);
        assert_eq!(told.seen(Seen::default()), Some(News::Seen(Seen::default())));
    }

    #[test]
    fn a_link_that_goes_down_names_what_was_connected_to_it() {
        let mut known = BTreeMap::from([(2, link("net0", true, &["10.0.0.0/24"]))]);
        let news = went_down(&mut known, BTreeMap::from([(2, link("net0", false, &[]))]));
        let [News::LinkDown { interface, prefixes }] = news.as_slice() else {
            panic!("{news:?}");
        };
        assert_eq!(interface, "net0");
        let peers = ["10.0.0.9".parse().unwrap(), "10.0.1.9".parse().unwrap()];
        assert_eq!(reached_through(prefixes, peers), [peers[0]]);
    }

    #[test]
    fn a_link_that_vanishes_is_down_and_one_that_stays_down_is_no_news() {
        let mut known = BTreeMap::from([(2, link("net0", true, &[])), (3, link("net1", false, &[]))]);
        let news = went_down(&mut known, BTreeMap::from([(3, link("net1", false, &[]))]));
        assert_eq!(news.len(), 1);
        assert!(went_down(&mut known, BTreeMap::new()).is_empty());
    }
}
