//! What `init` decides, as pure functions: tested under std, compiled without it into the program that is PID 1.
//!
//! [`protocol`] is how the shim tells init what to do and how init answers; [`policy`] is what a signal or a wait
//! status means. The program itself (`main.rs` and the modules it names) makes system calls and is not part of this
//! library.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod policy;
pub mod protocol;
