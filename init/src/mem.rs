//! The memory functions that compiled code may call and that a libc would have: plain loops, for a few bytes each.
//!
//! The crate is built with `no_builtins`, so the compiler does not turn these loops into calls of themselves.

/// memcpy(3).
///
/// # Safety
/// As in C: both areas have `length` bytes and do not overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(target: *mut u8, source: *const u8, length: usize) -> *mut u8 {
    let mut index = 0;
    while index < length {
        // SAFETY: `index` is below the length of the source.
        let byte = unsafe { source.wrapping_add(index).read() };
        // SAFETY: `index` is below the length of the target.
        unsafe { target.wrapping_add(index).write(byte) };
        index += 1;
    }
    target
}

/// memset(3).
///
/// # Safety
/// As in C: the area has `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(target: *mut u8, value: i32, length: usize) -> *mut u8 {
    let [byte, ..] = value.to_le_bytes();
    let mut index = 0;
    while index < length {
        // SAFETY: `index` is below the length of the area.
        unsafe { target.wrapping_add(index).write(byte) };
        index += 1;
    }
    target
}

/// memcmp(3).
///
/// # Safety
/// As in C: both areas have `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(first: *const u8, second: *const u8, length: usize) -> i32 {
    let mut index = 0;
    while index < length {
        // SAFETY: `index` is below the length of the first.
        let left = unsafe { first.wrapping_add(index).read() };
        // SAFETY: `index` is below the length of the second.
        let right = unsafe { second.wrapping_add(index).read() };
        if left != right {
            return i32::from(left) - i32::from(right);
        }
        index += 1;
    }
    0
}
