//! The two kinds of packets the kernel hands to a program. Every access is checked against the end of the packet anew: the
//! verifier wants to see it, and helpers that change a packet forget what was checked.

use aya_ebpf::bindings::bpf_adj_room_mode::{BPF_ADJ_ROOM_MAC, BPF_ADJ_ROOM_NET};
use aya_ebpf::bindings::{
    __sk_buff, BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L2_ETH,
    BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
    BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, xdp_md,
};
use aya_ebpf::helpers::generated::{
    bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_pull_data,
    bpf_xdp_adjust_head, bpf_xdp_adjust_tail,
};
use ebpf_abi::checksum::Delta;
use ebpf_abi::dsr::{ETHERTYPE_V4, Gap, Room};
use ebpf_abi::packet::{Checksum, ETHERNET, Packet, fix_header, fix_transport};
use ebpf_abi::resize::{Owed, Resize};

/// No header lies deeper; the verifier wants a bound.
const DEEPEST: usize = 2047;
/// What a packet's headers may need to be read: Ethernet, IPv6 with some extension headers, TCP.
const HEADERS: u32 = 192;
/// What an ICMP error holds of a packet at most, and Ethernet.
const QUOTED: u32 = 14 + 1232;

/// A frame in XDP.
pub struct Frame(pub *mut xdp_md);

/// A packet in tc.
pub struct Skb(pub *mut __sk_buff);

/// Octets as if they lay at a word's beginning. The compiler otherwise reads and writes them one by one. Headers lie two
/// octets beside it; what executes this reads words from anywhere, and the verifier refuses the program where it does not.
#[repr(C, align(4))]
struct Words<const N: usize>([u8; N]);

/// `N` octets of a packet from `at` on, if the packet has them.
#[inline(always)]
fn within<const N: usize>(start: u32, end: u32, at: usize) -> Option<*mut Words<N>> {
    if at > DEEPEST {
        return None;
    }
    let first = start as usize + at;
    if first + N > end as usize {
        return None;
    }
    Some(first as *mut Words<N>)
}

/// Mixes `noise`, of which the verifier knows nothing, in and out again. The compiler must not see that it is the same.
#[inline(always)]
fn hide(number: u32, noise: u32) -> u32 {
    core::hint::black_box(number ^ noise) ^ noise
}

impl Frame {
    #[inline(always)]
    pub fn len(&self) -> u64 {
        // SAFETY: the kernel hands a valid context to the program.
        let (start, end) = unsafe { ((*self.0).data, (*self.0).data_end) };
        u64::from(end) - u64::from(start)
    }
}

impl Packet for Frame {
    #[inline(always)]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        // SAFETY: the context is valid, and all N octets lie before the end of the packet.
        unsafe { within((*self.0).data, (*self.0).data_end, at).map(|words| (*words).0) }
    }

    #[inline(always)]
    fn write<const N: usize>(&mut self, at: usize, octets: [u8; N]) -> Option<()> {
        // SAFETY: as above, and nobody else has this packet.
        unsafe { within((*self.0).data, (*self.0).data_end, at).map(|words| (*words).0 = octets) }
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.len() as usize
    }

    #[inline(always)]
    fn forget(&self, number: u32) -> u32 {
        // SAFETY: as above.
        hide(number, unsafe { (*self.0).rx_queue_index })
    }

    /// Frames here are as they were on the wire.
    #[inline(always)]
    fn segment(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn fix_header(&mut self, at: usize, delta: Delta) -> Option<()> {
        fix_header(self, at, delta)
    }

    #[inline(always)]
    fn fix_transport(&mut self, at: usize, pseudo: Delta, inside: Delta, kind: Checksum) -> Option<()> {
        fix_transport(self, at, pseudo, inside, kind)
    }
}

impl Skb {
    #[inline(always)]
    pub fn len(&self) -> u64 {
        // SAFETY: the kernel hands a valid context to the program.
        u64::from(unsafe { (*self.0).len })
    }

    /// In host order.
    #[inline(always)]
    pub fn protocol(&self) -> u16 {
        // SAFETY: as above.
        u16::from_be(unsafe { (*self.0).protocol } as u16)
    }

    #[inline(always)]
    pub fn is_tagged(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0).vlan_present != 0 }
    }

    /// Brings the headers to where they can be read, if they are not there.
    #[inline(always)]
    pub fn pull(&self) {
        self.bring(HEADERS);
    }

    /// The same for all that an ICMP error holds of a packet: it is summed up.
    #[inline(always)]
    pub fn pull_quoted(&self) {
        self.bring(QUOTED);
    }

    #[inline(always)]
    fn bring(&self, most: u32) {
        // SAFETY: as above.
        let (start, end, len) = unsafe { ((*self.0).data, (*self.0).data_end, (*self.0).len) };
        let wanted = if len < most { len } else { most };
        if start as usize + wanted as usize > end as usize {
            // SAFETY: as above. Where it fails, reads fail and the packet is malformed.
            let _ = unsafe { bpf_skb_pull_data(self.0, wanted) };
        }
    }
}

impl Packet for Skb {
    #[inline(always)]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        // SAFETY: the context is valid, and all N octets lie before the end of the linear part.
        unsafe { within((*self.0).data, (*self.0).data_end, at).map(|words| (*words).0) }
    }

    #[inline(always)]
    fn write<const N: usize>(&mut self, at: usize, octets: [u8; N]) -> Option<()> {
        // SAFETY: as above, and nobody else has this packet.
        unsafe { within((*self.0).data, (*self.0).data_end, at).map(|words| (*words).0 = octets) }
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.len() as usize
    }

    #[inline(always)]
    fn forget(&self, number: u32) -> u32 {
        // SAFETY: as above.
        hide(number, unsafe { (*self.0).len })
    }

    #[inline(always)]
    fn segment(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).gso_size }
    }

    #[inline(always)]
    fn fix_header(&mut self, at: usize, delta: Delta) -> Option<()> {
        // SAFETY: the kernel checks the offset.
        let done = unsafe { bpf_l3_csum_replace(self.0, at as u32, 0, delta.raw().into(), 0) };
        (done == 0).then_some(())
    }

    /// By the kernel, which knows whether the sum is in the packet, is yet to be made, or lies beside it.
    #[inline(always)]
    fn fix_transport(&mut self, at: usize, pseudo: Delta, inside: Delta, kind: Checksum) -> Option<()> {
        let flags = match kind {
            Checksum::Tcp | Checksum::Tcp6 => 0,
            Checksum::Udp | Checksum::Udp6 => u64::from(BPF_F_MARK_MANGLED_0),
        };
        let replace = |change: Delta, flags: u64| {
            // SAFETY: the kernel checks the offset.
            done(unsafe { bpf_l4_csum_replace(self.0, at as u32, 0, change.raw().into(), flags) })
        };
        let addresses = flags | u64::from(BPF_F_PSEUDO_HDR);
        // An IPv6 header has no sum of its own, so new addresses change the sum over the packet only once.
        match kind {
            Checksum::Tcp | Checksum::Udp => replace(pseudo, addresses)?,
            Checksum::Tcp6 | Checksum::Udp6 if knows_ipv6() => replace(pseudo, addresses | BPF_F_IPV6)?,
            Checksum::Tcp6 | Checksum::Udp6 => {
                // Without the flag the kernel would change the sum over the packet too, unless it hears of no addresses. Then
                // it leaves alone what the device has yet to sum up, which is told by that.
                let before = self.read::<2>(at)?;
                replace(pseudo, flags)?;
                if self.read::<2>(at)? == before {
                    replace(pseudo, addresses)?;
                }
            }
        }
        replace(inside, flags)
    }
}

/// Whether the kernel knows [`BPF_F_IPV6`]. Whoever loads the programs says so, and the verifier walks one way only.
#[unsafe(no_mangle)]
static IPV6_SUMS: u32 = 1;

#[inline(always)]
fn knows_ipv6() -> bool {
    // SAFETY: a number of this program; the compiler must not think that it is always the same.
    unsafe { core::ptr::read_volatile(&raw const IPV6_SUMS) != 0 }
}

/// `EFAULT`-like words of the kernel's functions are negative; zero is done.
#[inline(always)]
fn done(word: i64) -> Option<()> {
    (word == 0).then_some(())
}

impl Resize for Frame {
    #[inline(always)]
    fn cut(&mut self, length: usize) -> Option<()> {
        // The verifier knows pointers only in 64 bits, and the compiler would take them apart in 32.
        let now = core::hint::black_box(self.len());
        let more = length as i32 - now as i32;
        // SAFETY: the context is valid, and the kernel checks the length.
        done(unsafe { bpf_xdp_adjust_tail(self.0, more) })
    }

    #[inline(always)]
    fn open<const N: usize>(&mut self) -> Option<()> {
        let ethernet = self.read::<ETHERNET>(0)?;
        // SAFETY: as above.
        done(unsafe { bpf_xdp_adjust_head(self.0, -(N as i32)) })?;
        self.write(0, ethernet)
    }

    /// Nobody can know here. Devices with programs in XDP are not to be given packets without their sums.
    #[inline(always)]
    fn owed(&mut self, _: usize) -> Option<Owed> {
        Some(Owed::Nothing)
    }
}

impl Resize for Skb {
    /// Makes the whole packet one piece, too.
    #[inline(always)]
    fn cut(&mut self, length: usize) -> Option<()> {
        // SAFETY: the context is valid, and the kernel checks the length.
        done(unsafe { bpf_skb_change_tail(self.0, length as u32, 0) })
    }

    #[inline(always)]
    fn open<const N: usize>(&mut self) -> Option<()> {
        // SAFETY: as above. The kernel moves the Ethernet header.
        done(unsafe { bpf_skb_adjust_room(self.0, N as i32, BPF_ADJ_ROOM_MAC, 0) })
    }

    /// The kernel tells programs nothing of it. But its function that brings a sum up to date leaves one alone that is yet to
    /// be made, as long as no address changes.
    #[inline(always)]
    fn owed(&mut self, field: usize) -> Option<Owed> {
        // The caller may have seen that it is there. The compiler would remember, the verifier does not.
        let field = self.forget(field as u32) as usize;
        let before = self.read::<2>(field)?;
        // SAFETY: the kernel checks the offset.
        done(unsafe { bpf_l4_csum_replace(self.0, field as u32, 0, 1, 0) })?;
        if self.read::<2>(field)? == before {
            return Some(Owed::ByDevice);
        }
        self.write(field, before)?;
        Some(Owed::Nothing)
    }
}

/// Linux 6.16 and what it was backported to; newer than the bindings.
const BPF_F_IPV6: u64 = 1 << 7;

/// Flags of the kernel for a gap: each packet that a large one is cut into gets the outer headers too, and keeps its length.
const fn outer(gap: Gap) -> u32 {
    const GENEVE: u32 = BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2_ETH;
    BPF_F_ADJ_ROOM_FIXED_GSO
        | match gap {
            Gap::Option4 | Gap::Option6 => 0,
            Gap::Ipip4 => BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
            Gap::Ipip6 => BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
            Gap::Geneve4V4 | Gap::Geneve4V6 => BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | GENEVE,
            Gap::Geneve6V4 | Gap::Geneve6V6 => BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 | GENEVE,
        }
}

impl Frame {
    /// Moves the first octets of the packet to the front, over a gap.
    #[inline(always)]
    fn lift<const N: usize>(&mut self, over: usize) -> Option<()> {
        let front = self.read::<N>(over)?;
        self.write(0, front)
    }
}

impl Room for Frame {
    #[inline(always)]
    fn open(&mut self, gap: Gap) -> Option<()> {
        // SAFETY: the context is valid.
        if unsafe { bpf_xdp_adjust_head(self.0, -(gap.octets() as i32)) } != 0 {
            return None;
        }
        match gap {
            Gap::Option4 => self.lift::<34>(gap.octets()),
            Gap::Option6 => self.lift::<54>(gap.octets()),
            // All of the Ethernet header is written anew: its type by who wraps, its addresses by who sends.
            Gap::Ipip4 | Gap::Ipip6 => Some(()),
            Gap::Geneve4V4 | Gap::Geneve4V6 | Gap::Geneve6V4 | Gap::Geneve6V6 => {
                self.lift::<ETHERNET>(gap.octets())
            }
        }
    }

    #[inline(always)]
    fn close(&mut self, octets: usize, _: u16) -> Option<()> {
        let front = self.read::<12>(0)?;
        // SAFETY: the context is valid.
        if unsafe { bpf_xdp_adjust_head(self.0, octets as i32) } != 0 {
            return None;
        }
        self.write(0, front)
    }
}

impl Room for Skb {
    #[inline(always)]
    fn open(&mut self, gap: Gap) -> Option<()> {
        let (mode, inner) = match gap {
            Gap::Option4 | Gap::Option6 => (BPF_ADJ_ROOM_NET, 0),
            Gap::Ipip4 | Gap::Ipip6 => (BPF_ADJ_ROOM_MAC, 0),
            // How long the Ethernet header inside is.
            Gap::Geneve4V4 | Gap::Geneve4V6 | Gap::Geneve6V4 | Gap::Geneve6V6 => {
                (BPF_ADJ_ROOM_MAC, (ETHERNET as u64) << 56)
            }
        };
        let flags = u64::from(outer(gap)) | inner;
        // SAFETY: the context is valid.
        let done = unsafe { bpf_skb_adjust_room(self.0, gap.octets() as i32, mode, flags) };
        (done == 0).then(|| self.pull())
    }

    #[inline(always)]
    fn close(&mut self, octets: usize, inside: u16) -> Option<()> {
        let family = if inside == ETHERTYPE_V4 {
            BPF_F_ADJ_ROOM_DECAP_L3_IPV4
        } else {
            BPF_F_ADJ_ROOM_DECAP_L3_IPV6
        };
        let flags = u64::from(BPF_F_ADJ_ROOM_FIXED_GSO | family);
        // SAFETY: the context is valid.
        let done = unsafe { bpf_skb_adjust_room(self.0, -(octets as i32), BPF_ADJ_ROOM_MAC, flags) };
        (done == 0).then(|| self.pull())
    }
}
