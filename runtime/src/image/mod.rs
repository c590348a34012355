//! Turns image archives into root filesystems under `BASE/images`.
