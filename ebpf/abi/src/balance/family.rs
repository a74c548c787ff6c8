//! What differs between the families, for decisions.

use crate::config::{Config, Device};
use crate::dsr::Carried;
use crate::flow::Tuple;
use crate::hash::{jhash_3words, jhash_v6};
use crate::{V4, V6};

/// What differs between the families.
pub trait Balanced: Carried {
    /// The number that picks a place of a Maglev table.
    fn hash(tuple: &Tuple<Self>, source_port: u16, config: &Config) -> u32;
    /// What flows that leave by the device have as their source; zero: it has none.
    fn own(device: &Device) -> Self;
    /// The source of a connection to oneself, so that answers come back here.
    const LOOPBACK: Self;
}

impl Balanced for V4 {
    #[inline(always)]
    fn hash(tuple: &Tuple<Self>, source_port: u16, config: &Config) -> u32 {
        let ports = u32::from(tuple.destination_port) << 16 | u32::from(source_port);
        jhash_3words(tuple.source.0, ports, u32::from(tuple.protocol), config.seed4)
    }

    #[inline(always)]
    fn own(device: &Device) -> Self {
        device.v4
    }

    /// 169.254.42.1
    const LOOPBACK: Self = Self(u32::from_ne_bytes([169, 254, 42, 1]));
}

impl Balanced for V6 {
    #[inline(always)]
    fn hash(tuple: &Tuple<Self>, source_port: u16, config: &Config) -> u32 {
        let ports = u32::from(tuple.destination_port) << 16 | u32::from(source_port);
        jhash_v6(tuple.source.0, ports, u32::from(tuple.protocol), config.seed6)
    }

    #[inline(always)]
    fn own(device: &Device) -> Self {
        device.v6
    }

    /// fe80::1
    const LOOPBACK: Self = Self([u32::from_ne_bytes([0xfe, 0x80, 0, 0]), 0, 0, 1_u32.to_be()]);
}
