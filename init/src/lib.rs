//! What `init` decides, as pure functions: tested under std, compiled without it into the program that is PID 1.
#![no_std]
