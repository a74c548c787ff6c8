//! Listening to what programs tell about packets: a place, a ring of our own there, and saying again and again that we are
//! still here. `ebpf_abi::event` is the other end.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use aya::maps::{Map as AyaMap, MapData, RingBuf};
use ebpf_abi::event::{Event, Listener as Wants, PLACES, RING};
use ebpf_abi::maps;
use ebpf_abi::plain::from_octets;

use crate::kernel::{Command, Create, bpf_fd, info, number};
use crate::pinned::{Pinned, now};
use crate::{Error, MapFd};

/// Seconds that programs go on telling without hearing from us.
const PATIENCE: u32 = 5;
/// How often we say that we are still here.
const AGAIN: Duration = Duration::from_secs(1);
/// `BPF_MAP_TYPE_RINGBUF`.
const RINGBUF: u32 = 27;
/// The element of everybody together.
const ALL: u32 = 0;

/// Which events somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    Drops,
    /// Packets that went on.
    Traces,
    Both,
}

/// Somebody who listens. Several may at once, and each gets every event.
pub struct Listener {
    folder: PathBuf,
    events: MapFd,
    listeners: MapFd,
    interest: Interest,
    place: Place,
    said: Instant,
}

/// Where programs put events for us.
struct Place {
    number: u32,
    /// Id of the ring: by it one sees whether the place is still ours.
    id: u32,
    ring: RingBuf<MapData>,
}

impl Listener {
    /// Begins to listen to the programs of these maps.
    pub fn start(pinned: &Pinned, interest: Interest) -> Result<Self, Error> {
        let (events, listeners) = (pinned.map(maps::EVENTS)?, pinned.map(maps::LISTENERS)?);
        let folder = pinned.folder().to_owned();
        let place = take(&folder, &events, &listeners, interest)?;
        Ok(Self {
            folder,
            events,
            listeners,
            interest,
            place,
            said: Instant::now(),
        })
    }

    /// The next event; `None` if there was none in this time, or if a signal came.
    pub fn next(&mut self, limit: Duration) -> Result<Option<Event>, Error> {
        let until = Instant::now() + limit;
        loop {
            self.say()?;
            while let Some(octets) = self.place.ring.next() {
                if let Some(event) = from_octets(&octets) {
                    return Ok(Some(event));
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            match wait(&self.place.ring, left.min(AGAIN)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(None),
                Err(source) => return Err(refused("poll", source)),
            }
        }
    }

    /// Says that we are still here, if it is time. Who was stopped for too long may have lost the place, and takes another.
    fn say(&mut self) -> Result<(), Error> {
        if self.said.elapsed() < AGAIN {
            return Ok(());
        }
        self.said = Instant::now();
        if self.events.get::<u32, u32>(&self.place.number)? == Some(self.place.id) {
            return announce(&self.listeners, self.place.number, self.interest);
        }
        self.place = take(&self.folder, &self.events, &self.listeners, self.interest)?;
        Ok(())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // What fails here ends by itself a little later.
        if let Ok(Some(id)) = self.events.get::<u32, u32>(&self.place.number)
            && id == self.place.id
        {
            let _ = self.listeners.put(&self.place.number, &Wants::default());
            let _ = self.events.remove(&self.place.number);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("folder", &self.folder)
            .field("interest", &self.interest)
            .field("place", &self.place.number)
            .finish_non_exhaustive()
    }
}

/// A place that nobody has, with a new ring.
fn take(folder: &PathBuf, events: &MapFd, listeners: &MapFd, interest: Interest) -> Result<Place, Error> {
    // Two that begin at once must not take the same one. The lock ends with the file.
    let lock = File::open(folder).and_then(|file| file.lock().map(|()| file));
    let _lock = lock.map_err(|source| Error::Folder {
        path: folder.clone(),
        source,
    })?;
    let seconds = seconds();
    for place in 1..=PLACES {
        let wants: Wants = listeners.get(&place)?.unwrap_or_default();
        if wants.drops > seconds || wants.traces > seconds {
            continue;
        }
        let mut create = Create {
            kind: RINGBUF,
            entries: RING,
            ..Create::default()
        };
        let fd =
            bpf_fd(Command::MapCreate, &mut create).map_err(|source| refused("BPF_MAP_CREATE", source))?;
        events.put(&place, &number(fd.as_fd()))?;
        let id = info(fd.as_fd())
            .map_err(|source| refused("BPF_OBJ_GET_INFO_BY_FD", source))?
            .id;
        let ring = MapData::from_fd(fd)
            .and_then(|data| RingBuf::try_from(AyaMap::RingBuf(data)))
            .map_err(|error| refused("mmap", io::Error::other(error)))?;
        announce(listeners, place, interest)?;
        return Ok(Place {
            number: place,
            id,
            ring,
        });
    }
    Err(Error::NoPlace(PLACES))
}

/// Programs look at the element of everybody first, so it has the latest of all times.
fn announce(listeners: &MapFd, place: u32, interest: Interest) -> Result<(), Error> {
    let until = seconds().saturating_add(PATIENCE);
    let (drops, traces) = match interest {
        Interest::Drops => (until, 0),
        Interest::Traces => (0, until),
        Interest::Both => (until, until),
    };
    listeners.put(&place, &Wants { drops, traces })?;
    let all: Wants = listeners.get(&ALL)?.unwrap_or_default();
    // Where two write at once, the one that lost writes again in a second.
    let all = Wants {
        drops: all.drops.max(drops),
        traces: all.traces.max(traces),
    };
    listeners.put(&ALL, &all)
}

fn seconds() -> u32 {
    u32::try_from(now().as_secs()).unwrap_or(u32::MAX)
}

/// Until the ring has something, or the time is over.
fn wait(ring: &RingBuf<MapData>, limit: Duration) -> io::Result<()> {
    let mut poll = libc::pollfd {
        fd: ring.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // Rounded up, else the last millisecond is spent asking.
    let limit = i32::try_from(limit.as_millis().saturating_add(1)).unwrap_or(i32::MAX);
    // SAFETY: one pollfd, which lives until the call returns.
    #[expect(unsafe_code, reason = "the library offers the descriptor and no way to wait")]
    let result = unsafe { libc::poll(&raw mut poll, 1, limit) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn refused(call: &'static str, source: io::Error) -> Error {
    Error::Access {
        map: maps::EVENTS.name,
        call,
        source,
    }
}
