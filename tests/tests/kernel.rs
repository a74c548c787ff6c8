//! The kernel programs on the kernel: packet and maps in, verdict, packet and maps out, by `BPF_PROG_TEST_RUN`.
//!
//! ```text
//!   Model (maps in) --> maps of the kernel --> program --> packet, verdict, maps out
//!                  \--> the same decision here ---------> the same, or the test fails and prints both
//! ```
//!
//! Needs root, and the programs that `cargo xtask build` makes.

#[path = "kernel/attach.rs"]
mod attach;
#[path = "kernel/claims.rs"]
mod claims;
#[path = "kernel/differential.rs"]
mod differential;
#[path = "kernel/direct.rs"]
mod direct;
#[path = "kernel/events.rs"]
mod events;
#[path = "kernel/flood.rs"]
mod flood;
#[path = "kernel/icmp.rs"]
mod icmp;
#[path = "kernel/image.rs"]
mod image;
#[path = "kernel/packet.rs"]
mod packet;
#[path = "kernel/pods.rs"]
mod pods;
#[path = "kernel/remote.rs"]
mod remote;
#[path = "kernel/rig.rs"]
mod rig;
#[path = "kernel/size.rs"]
mod size;
#[path = "kernel/socket.rs"]
mod socket;
#[path = "kernel/traffic.rs"]
mod traffic;
