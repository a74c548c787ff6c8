//! Messages on the wire: decode, encode, and the answer a standard gives to each malformed octet.

pub mod attrs;
