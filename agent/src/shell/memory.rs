//! Memory that is free goes back to the kernel. Whatever reads ten thousand objects, or plans all of them, leaves as much garbage
//! as it keeps, and glibc would hold on to it.

#![cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "glibc's malloc has no safe wrapper")
)]

/// Before the first thread: what one frees, all may use. The few threads here seldom allocate at the same time.
pub(crate) fn share() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it takes numbers, and there is no other thread yet that may be inside malloc.
        let _refused = unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1) };
    }
}

/// Gives back what is free.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it touches free memory only, and takes malloc's own lock for it.
        let _released = unsafe { nix::libc::malloc_trim(0) };
    }
}
