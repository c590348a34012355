//! PID 1 of a container and the last program before the workload.
#![no_std]
#![no_main]
