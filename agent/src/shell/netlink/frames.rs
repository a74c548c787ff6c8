//! Which devices take frames of XDP, as the kernel's family `netdev` of generic netlink tells since 6.3. No library of ours
//! speaks it, and it takes two questions: which number the family has here, and what its devices can do.
//!
//! ```text
//! message    length 4 | kind 2 | flags 2 | number 4 | port 4   command 1 | version 1 | 0 2   attributes
//! attribute  length 2 | kind 2 | value, filled up to words of four
//! ```

use std::collections::BTreeMap;
use std::io;

use rtnetlink::sys::protocols::NETLINK_GENERIC;
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, Socket, SocketAddr, TokioSocket};

use crate::datapath::frames::Frames;

/// What devices say, and a word whenever one of them says something else.
pub(super) struct Devices {
    family: u16,
    news: TokioSocket,
}

impl Devices {
    /// `None`: the kernel has no such family.
    pub(super) fn open() -> io::Result<Option<Self>> {
        let socket = connected()?;
        let name = attribute(FAMILY_NAME, b"netdev\0");
        let question = message(CONTROL, REQUEST, GET_FAMILY, &name);
        let mut found = None;
        let asked = ask(&socket, &question, |answer| found = Some(read_family(answer)));
        match asked {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        }
        let Some((Some(family), group)) = found else {
            return Ok(None);
        };
        let mut news = TokioSocket::new(NETLINK_GENERIC)?;
        news.socket_mut().bind_auto()?;
        if let Some(group) = group {
            news.socket_mut().add_membership(group)?;
        }
        Ok(Some(Self { family, news }))
    }

    /// By index; devices that are not there say nothing.
    pub(super) fn read(&self) -> io::Result<BTreeMap<u32, Frames>> {
        let mut found = BTreeMap::new();
        let question = message(self.family, REQUEST | DUMP, GET_DEVICE, &[]);
        ask(&connected()?, &question, |answer| {
            found.extend(read_device(answer))
        })?;
        Ok(found)
    }

    /// Until a device may say something else.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        // What it says is read as a whole.
        self.news.recv_from_full().await.map(drop)
    }
}

const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const GROUPS: u16 = 7;
const GROUP_NAME: u16 = 1;
const GROUP_ID: u16 = 2;
const GET_DEVICE: u8 = 1;
const DEVICE_INDEX: u16 = 1;
const DEVICE_FEATURES: u16 = 3;
/// `NETDEV_XDP_ACT_NDO_XMIT`: what the kernel itself goes by before it hands a driver a frame.
const TAKES: u64 = 4;
/// `NLM_F_REQUEST`, `NLM_F_ROOT | NLM_F_MATCH`.
const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Of the message, and of the family's own.
const HEADER: usize = 16;
const OWN_HEADER: usize = 4;

fn connected() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// Hands each answer's attributes over. The kernel has answered, at least in part, before `send` returns, so this does not
/// wait.
fn ask(socket: &Socket, question: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
    socket.send(question, 0)?;
    let many = question.get(6..8) != Some(&REQUEST.to_ne_bytes());
    loop {
        let (octets, _) = socket.recv_from_full()?;
        let mut rest = octets.as_slice();
        while let Some((kind, body, after)) = next_message(rest) {
            rest = after;
            match kind {
                DONE => return Ok(()),
                ERROR => {
                    let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    return match code {
                        0 => Ok(()),
                        code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                    };
                }
                _ => each(body.get(OWN_HEADER..).unwrap_or_default()),
            }
            if !many {
                return Ok(());
            }
        }
    }
}

/// Kind and body of the first message, and what follows it.
fn next_message(octets: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*octets.first_chunk()?);
    let length = usize::try_from(length).ok().filter(|length| *length >= HEADER)?;
    let kind = u16::from_ne_bytes(*octets.get(4..)?.first_chunk()?);
    let body = octets.get(HEADER..length)?;
    Some((kind, body, octets.get(padded(length)..).unwrap_or_default()))
}

/// Kind and value of each attribute.
fn attributes(mut octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// Nested ones, and those in network order, are marked.
    const MARKS: u16 = 0xc000;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*octets.first_chunk()?));
        let kind = u16::from_ne_bytes(*octets.get(2..)?.first_chunk()?);
        let value = octets.get(4..length)?;
        octets = octets.get(padded(length)..).unwrap_or_default();
        Some((kind & !MARKS, value))
    })
}

fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|octets| u32::from_ne_bytes(*octets))
}

/// The family's number, and its group that is told of changes.
fn read_family(answer: &[u8]) -> (Option<u16>, Option<u32>) {
    let (mut family, mut group) = (None, None);
    for (kind, value) in attributes(answer) {
        match kind {
            FAMILY_ID => family = value.first_chunk().map(|id| u16::from_ne_bytes(*id)),
            GROUPS => {
                for (_, each) in attributes(value) {
                    let named = attributes(each).any(|(kind, name)| kind == GROUP_NAME && name == b"mgmt\0");
                    if named {
                        group =
                            attributes(each).find_map(|(kind, id)| (kind == GROUP_ID).then(|| number(id))?);
                    }
                }
            }
            _ => {}
        }
    }
    (family, group)
}

fn read_device(answer: &[u8]) -> Option<(u32, Frames)> {
    let (mut index, mut features) = (None, None);
    for (kind, value) in attributes(answer) {
        match kind {
            DEVICE_INDEX => index = number(value),
            DEVICE_FEATURES => features = value.first_chunk().map(|octets| u64::from_ne_bytes(*octets)),
            _ => {}
        }
    }
    let frames = match features? & TAKES {
        0 => Frames::Refused,
        _ => Frames::Taken,
    };
    Some((index?, frames))
}

fn message(kind: u16, flags: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + OWN_HEADER + attributes.len()).unwrap_or(u32::MAX);
    let mut octets = length.to_ne_bytes().to_vec();
    octets.extend(kind.to_ne_bytes());
    octets.extend(flags.to_ne_bytes());
    octets.extend([0; 8]);
    octets.extend([command, 1, 0, 0]);
    octets.extend(attributes);
    octets
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut octets = u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes().to_vec();
    octets.extend(kind.to_ne_bytes());
    octets.extend(value);
    octets.resize(padded(length), 0);
    octets
}

const fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn answers_are_read_and_what_is_cut_off_is_not() {
        let index = attribute(DEVICE_INDEX, &7_u32.to_ne_bytes());
        let features = |bits: u64| attribute(DEVICE_FEATURES, &bits.to_ne_bytes());
        let answer = |bits| [index.clone(), attribute(2, &[]), features(bits)].concat();
        assert_eq!(read_device(&answer(0x67)), Some((7, Frames::Taken)));
        assert_eq!(read_device(&answer(0x23)), Some((7, Frames::Refused)));
        let whole = answer(0x67);
        for length in 0..whole.len() {
            assert_eq!(read_device(whole.get(..length).unwrap()), None, "{length}");
        }
        let question = message(21, REQUEST, GET_DEVICE, &whole);
        let (kind, body, rest) = next_message(&question).unwrap();
        assert_eq!(
            (kind, body.get(OWN_HEADER..), rest),
            (21, Some(&whole[..]), &[][..])
        );
        assert_eq!(next_message(question.get(..question.len() - 1).unwrap()), None);
    }

    #[test]
    fn a_group_is_found_by_its_name() {
        let group = |name: &[u8], id: u32| {
            let inside = [
                attribute(GROUP_NAME, name),
                attribute(GROUP_ID, &id.to_ne_bytes()),
            ]
            .concat();
            attribute(1, &inside)
        };
        let groups = [group(b"page-pool\0", 5), group(b"mgmt\0", 6)].concat();
        let answer = [
            attribute(FAMILY_ID, &34_u16.to_ne_bytes()),
            attribute(GROUPS | 0x8000, &groups),
        ];
        assert_eq!(read_family(&answer.concat()), (Some(34), Some(6)));
        assert_eq!(read_family(&[]), (None, None));
    }

    #[test]
    fn a_veth_takes_frames_once_its_other_end_has_gro_and_says_so() {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: a network namespace needs root");
            return;
        }
        let scenario = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let run = |command: &str| {
                let words: Vec<&str> = command.split(' ').collect();
                let (program, words) = words.split_first().unwrap();
                assert!(
                    Command::new(program).args(words).status().unwrap().success(),
                    "{command}"
                );
            };
            run("ip link add here type veth peer name there");
            run("ip link set here up");
            run("ip link set there up");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let Some(mut devices) = Devices::open().unwrap() else {
                    println!("skipped: the kernel has no netdev family");
                    return;
                };
                let here = nix::net::if_::if_nametoindex("here").unwrap();
                assert_eq!(devices.read().unwrap().get(&here), Some(&Frames::Refused));
                run("ethtool -K there gro on");
                devices.changed().await.unwrap();
                assert_eq!(devices.read().unwrap().get(&here), Some(&Frames::Taken));
            });
        });
        scenario.join().unwrap();
    }
}
