//! The two hashes of load balancing. Both must give the same everywhere: nodes agree on backends by them.

/// Bob Jenkins' lookup3 for exactly three words, as Linux' `jhash_3words`. Picks a place of a Maglev table for IPv4.
#[inline(always)]
pub fn jhash_3words(a: u32, b: u32, c: u32, seed: u32) -> u32 {
    // JHASH_INITVAL + (3 << 2) + seed.
    let start = 0xdead_beef_u32.wrapping_add(12).wrapping_add(seed);
    finish(
        a.wrapping_add(start),
        b.wrapping_add(start),
        c.wrapping_add(start),
    )
}

/// The same over an IPv6 source address, ports and protocol.
#[inline(always)]
pub fn jhash_v6(address: [u32; 4], ports: u32, protocol: u32, seed: u32) -> u32 {
    let [w, x, y, z] = address;
    let (a, b, c) = mix(seed.wrapping_add(w), seed.wrapping_add(x), seed.wrapping_add(y));
    let (a, b, c) = mix(a.wrapping_add(z), b.wrapping_add(ports), c.wrapping_add(protocol));
    finish(a.wrapping_add(seed), b, c)
}

#[inline(always)]
fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);
    (a, b, c)
}

#[inline(always)]
fn finish(mut a: u32, mut b: u32, mut c: u32) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

/// MurmurHash3, x64, 128 bits. Gives a backend its walk through a Maglev table.
pub fn murmur3(data: &[u8], seed: u32) -> (u64, u64) {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;
    let scramble1 = |k: u64| k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    let scramble2 = |k: u64| k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    let (mut h1, mut h2) = (u64::from(seed), u64::from(seed));
    let (blocks, tail) = data.as_chunks::<16>();
    for block in blocks {
        let (k1, k2) = words(*block);
        h1 = (h1 ^ scramble1(k1)).rotate_left(27).wrapping_add(h2);
        h1 = h1.wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 = (h2 ^ scramble2(k2)).rotate_left(31).wrapping_add(h1);
        h2 = h2.wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let mut last = [0; 16];
    for (to, from) in last.iter_mut().zip(tail) {
        *to = *from;
    }
    // Zeros scramble to zero, so a short tail needs no case of its own.
    let (k1, k2) = words(last);
    h2 ^= scramble2(k2);
    h1 ^= scramble1(k1);
    let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
    h1 ^= length;
    h2 ^= length;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    h1 = avalanche(h1);
    h2 = avalanche(h2);
    h1 = h1.wrapping_add(h2);
    (h1, h2.wrapping_add(h1))
}

fn words(block: [u8; 16]) -> (u64, u64) {
    let both = u128::from_le_bytes(block);
    let low = |value: u128| u64::try_from(value & u128::from(u64::MAX)).unwrap_or(0);
    (low(both), low(both >> 64))
}

fn avalanche(mut k: u64) -> u64 {
    k ^= k >> 33;
    k = k.wrapping_mul(0xff51_afd7_ed55_8ccd);
    k ^= k >> 33;
    k = k.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ k >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the reference C++ implementation.
    #[test]
    fn murmur3_gives_the_published_values() {
        assert_eq!(murmur3(b"", 0), (0, 0));
        assert_eq!(
            murmur3(b"hello", 0),
            (0xcbd8_a7b3_41bd_9b02, 0x5b1e_906a_48ae_1d19)
        );
        assert_eq!(
            murmur3(b"The quick brown fox jumps over the lazy dog", 0),
            (0xe34b_bc7b_bc07_1b6c, 0x7a43_3ca9_c49a_9347)
        );
    }

    /// From Cilium's tests of its copy.
    #[test]
    fn jhash_gives_the_known_value_for_zeros() {
        assert_eq!(jhash_3words(0, 0, 0, 0), 459_859_287);
    }

    #[test]
    fn the_family_hashes_depend_on_every_input() {
        let base = jhash_v6([1, 2, 3, 4], 5, 6, 7);
        for other in [
            jhash_v6([0, 2, 3, 4], 5, 6, 7),
            jhash_v6([1, 0, 3, 4], 5, 6, 7),
            jhash_v6([1, 2, 0, 4], 5, 6, 7),
            jhash_v6([1, 2, 3, 0], 5, 6, 7),
            jhash_v6([1, 2, 3, 4], 0, 6, 7),
            jhash_v6([1, 2, 3, 4], 5, 0, 7),
            jhash_v6([1, 2, 3, 4], 5, 6, 0),
        ] {
            assert_ne!(other, base);
        }
    }
}
