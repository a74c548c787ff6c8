//! The RIB as its peers see it: what receivers hold after decoding what they pulled.

mod claims;
mod export;
mod model;
mod naive;
mod world;
