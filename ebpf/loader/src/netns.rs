//! Network namespaces of the processes at a cgroup: who their sockets are, and how to do something inside one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;

use ebpf_abi::plain::Plain;
use ebpf_abi::socket::{Namespace, Sockets, owner};
use ebpf_abi::{V6, maps};

use crate::{Datapath, Error, MapFd};

/// Where runtimes keep namespaces that may have no process.
const KEPT: &str = "/run/netns";

/// What sockets need to know of this node, which is the network namespace of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// One of the addresses with node ports.
    pub node4: Option<Ipv4Addr>,
    pub node6: Option<Ipv6Addr>,
    pub node_ports: RangeInclusive<u16>,
    /// Bits of [`ebpf_abi::socket::choice`].
    pub choices: u32,
    /// All addresses of this node.
    pub own: BTreeSet<IpAddr>,
    /// Those of the other nodes.
    pub others: BTreeSet<IpAddr>,
}

impl Datapath {
    /// Tells the programs of sockets about this node.
    pub fn write_surroundings(&self, node: &Surroundings) -> Result<(), Error> {
        let host = cookie().map_err(Error::Namespace)?;
        let others = node.others.iter().map(|address| (address, owner::OTHER_NODE));
        let own = node.own.iter().map(|address| (address, owner::THIS_NODE));
        let addresses = others.chain(own).map(|(address, owner)| (wide(*address), owner));
        replace(&self.map(maps::NODE_ADDRESSES)?, &addresses.collect())?;
        let namespace = Namespace {
            v4: node.node4.map(Into::into).unwrap_or_default(),
            v6: node.node6.map(Into::into).unwrap_or_default(),
        };
        self.map(maps::NAMESPACES)?.put(&host, &namespace)?;
        let sockets = Sockets {
            host,
            node4: namespace.v4,
            node6: namespace.v6,
            first_port: *node.node_ports.start(),
            last_port: *node.node_ports.end(),
            choices: node.choices,
            pad: 0,
        };
        self.map(maps::SOCKETS)?.put(&0_u32, &sockets)
    }

    /// Looks for network namespaces of processes at a cgroup, and tells the programs which addresses their sockets have.
    /// Returns how many there are beside the caller's own.
    pub fn follow_namespaces(&self, cgroup: &Path) -> Result<usize, Error> {
        let host = cookie().map_err(Error::Namespace)?;
        let map = self.map(maps::NAMESPACES)?;
        let mut found: BTreeMap<u64, Namespace> = BTreeMap::new();
        for place in places(cgroup).map_err(Error::Namespace)? {
            let seen = inside(&place, || Ok((cookie()?, addresses()?)));
            let (cookie, namespace) = seen.map_err(Error::Namespace)?;
            if cookie != host {
                found.insert(cookie, namespace);
            }
        }
        let count = found.len();
        if let Some(own) = map.get::<u64, Namespace>(&host)? {
            found.insert(host, own);
        }
        replace(&map, &found)?;
        Ok(count)
    }
}

/// Makes a map say this and nothing else, with as few writes as that takes.
fn replace<K: Plain + Ord, V: Plain + PartialEq>(map: &MapFd, wanted: &BTreeMap<K, V>) -> Result<(), Error> {
    let known: BTreeMap<K, V> = map.all()?.into_iter().collect();
    for key in known.keys().filter(|key| !wanted.contains_key(key)) {
        map.remove(key)?;
    }
    for (key, value) in wanted {
        if known.get(key) != Some(value) {
            map.put(key, value)?;
        }
    }
    Ok(())
}

fn wide(address: IpAddr) -> V6 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The network namespaces of processes at a cgroup or below it, of this thread, and those that are kept; each once.
pub(crate) fn places(cgroup: &Path) -> io::Result<Vec<File>> {
    let own = File::open("/proc/thread-self/ns/net")?;
    let about = own.metadata()?;
    // All namespaces are files of one file system.
    let (device, mut seen) = (about.dev(), BTreeSet::from([about.ino()]));
    let mut places = vec![own];
    let mut add = |path: &Path| {
        let Ok(file) = File::open(path) else { return };
        if let Ok(about) = file.metadata()
            && about.dev() == device
            && seen.insert(about.ino())
        {
            places.push(file);
        }
    };
    let mut folders = vec![cgroup.to_owned()];
    while let Some(folder) = folders.pop() {
        // A cgroup of threads has no processes of its own.
        let names = fs::read_to_string(folder.join("cgroup.procs"));
        let names = names.or_else(|_| fs::read_to_string(folder.join("cgroup.threads")));
        let names = match names {
            Ok(names) => names,
            // Gone by now.
            Err(_) if folder != cgroup => continue,
            Err(error) => return Err(error),
        };
        for name in names.lines() {
            add(&Path::new("/proc").join(name).join("ns/net"));
        }
        let Ok(below) = fs::read_dir(&folder) else {
            continue;
        };
        let below = below.flatten().filter(|entry| entry.path().is_dir());
        folders.extend(below.map(|entry| entry.path()));
    }
    for entry in fs::read_dir(KEPT).into_iter().flatten().flatten() {
        add(&entry.path());
    }
    Ok(places)
}

/// Does something in a network namespace, on a thread that ends with it.
pub(crate) fn inside<T: Send>(place: &File, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let done = scope.spawn(|| {
            // SAFETY: a plain system call on a descriptor that the caller holds; only this thread moves.
            #[expect(unsafe_code, reason = "the library has no setns")]
            let moved = unsafe { libc::setns(place.as_raw_fd(), libc::CLONE_NEWNET) };
            if moved != 0 {
                return Err(io::Error::last_os_error());
            }
            work()
        });
        done.join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread ended early")))
    })
}

/// The number that the kernel gives to this thread's network namespace, and never again to another one.
fn cookie() -> io::Result<u64> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).unwrap_or(0);
    // SAFETY: value and length are live, and the length is the value's.
    #[expect(unsafe_code, reason = "the library has no getsockopt")]
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &raw mut length,
        )
    };
    if done == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Linux 5.14.
const SO_NETNS_COOKIE: libc::c_int = 71;

pub(crate) fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: a plain system call; the descriptor is new, and ours alone.
    #[expect(unsafe_code, reason = "the library has no socket")]
    unsafe {
        let fd = libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// The first address of each family that others can reach.
fn addresses() -> io::Result<Namespace> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: the pointer is live; what it points to then is freed below.
    #[expect(unsafe_code, reason = "the library has no getifaddrs")]
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let (mut v4, mut v6): (Option<Ipv4Addr>, Option<Ipv6Addr>) = (None, None);
    let mut next = list;
    // SAFETY: the C library's list, unchanged until it is freed; an address has the size that its family says.
    #[expect(unsafe_code, reason = "see above")]
    unsafe {
        while let Some(entry) = next.as_ref() {
            next = entry.ifa_next;
            let Some(address) = entry.ifa_addr.as_ref() else {
                continue;
            };
            match i32::from(address.sa_family) {
                libc::AF_INET => {
                    let address = entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned();
                    let address = Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes());
                    if !address.is_loopback() && !address.is_link_local() {
                        v4.get_or_insert(address);
                    }
                }
                libc::AF_INET6 => {
                    let address = entry.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned();
                    let address = Ipv6Addr::from(address.sin6_addr.s6_addr);
                    if !address.is_loopback() && !address.is_unicast_link_local() {
                        v6.get_or_insert(address);
                    }
                }
                _ => {}
            }
        }
        libc::freeifaddrs(list);
    }
    Ok(Namespace {
        v4: v4.map(Into::into).unwrap_or_default(),
        v6: v6.map(Into::into).unwrap_or_default(),
    })
}
