//! Types that are nothing but their octets, so that they can be map keys and values.

/// A type without padding whose every bit pattern is valid.
///
/// # Safety
/// The implementor is `repr(C)` or `repr(transparent)`, has no padding and no field with forbidden values.
/// [`plain!`] checks the size; fields are integers, arrays of integers and other plain types.
#[expect(
    unsafe_code,
    reason = "the promise that a type is its octets is unsafe to make"
)]
pub unsafe trait Plain: Copy + 'static {}

macro_rules! integers {
    ($($t:ty),*) => {$(
        // SAFETY: integers have no padding, and all their bit patterns are valid.
        #[expect(unsafe_code, reason = "see the trait")]
        unsafe impl Plain for $t {}
    )*};
}
integers!(u8, u16, u32, u64);

// SAFETY: an array has no padding between its elements.
#[expect(unsafe_code, reason = "see the trait")]
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// Declares a type plain and nails its size; with `field = offset` also where its fields lie.
macro_rules! plain {
    ($t:ty, $($layout:tt)*) => {
        // SAFETY: integers only, and the size is the sum of the fields, so nothing is padding.
        #[expect(unsafe_code, reason = "see the trait")]
        unsafe impl $crate::plain::Plain for $t {}
        $crate::plain::layout!($t, $($layout)*);
    };
}
pub(crate) use plain;

/// Declares types over an address plain. Their layouts must be nailed for both families.
macro_rules! plain_over_addresses {
    ($($t:ident),*) => {$(
        // SAFETY: there are two address types, and for both of them the layout says that nothing is padding.
        #[expect(unsafe_code, reason = "see the trait")]
        unsafe impl<A: $crate::address::Address> $crate::plain::Plain for $t<A> {}
    )*};
}
pub(crate) use plain_over_addresses;

/// Nails a size and where fields lie.
macro_rules! layout {
    ($t:ty, $size:literal $(, $field:ident = $offset:literal)* $(,)?) => {
        const _: () = {
            assert!(size_of::<$t>() == $size);
            $(assert!(core::mem::offset_of!($t, $field) == $offset);)*
        };
    };
}
pub(crate) use layout;

/// The octets of a plain value, as `bpf(2)` wants them.
pub fn octets<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: no octet of a plain value is padding, so all are initialised; the slice borrows the value.
    #[expect(unsafe_code, reason = "the one place that looks at octets")]
    unsafe {
        core::slice::from_raw_parts(core::ptr::from_ref(value).cast(), size_of::<T>())
    }
}

/// A plain value from its octets; `None` if there are too few or too many.
pub fn from_octets<T: Plain>(octets: &[u8]) -> Option<T> {
    if octets.len() != size_of::<T>() {
        return None;
    }
    // SAFETY: the length was checked, the read is unaligned, and every bit pattern is a `T`.
    #[expect(unsafe_code, reason = "the one place that makes values from octets")]
    Some(unsafe { octets.as_ptr().cast::<T>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_value_survives_the_way_through_its_octets() {
        let value = [1_u32, 0xffee_ddcc];
        assert_eq!(from_octets::<[u32; 2]>(octets(&value)), Some(value));
    }

    #[test]
    fn octets_of_another_length_are_no_value() {
        assert_eq!(from_octets::<u32>(&[0; 3]), None);
        assert_eq!(from_octets::<u32>(&[0; 5]), None);
    }
}
