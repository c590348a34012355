//! Compiles `init` for the target, without std and libc, so that it can be embedded: a few KiB of static ELF.
//!
//! rustc is called directly because cargo has no stable way to embed one package's program in another.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let source = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("../init/src");
    let output = PathBuf::from(variable("OUT_DIR")).join("init");
    println!("cargo::rerun-if-changed={}", source.display());

    let mut rustc = Command::new(variable("RUSTC"));
    rustc.arg(source.join("main.rs")).arg("-o").arg(&output);
    rustc.args([
        "--edition=2024",
        "--crate-name=init",
        "--crate-type=bin",
        "--cap-lints=warn",
    ]);
    rustc.arg(format!("--target={}", variable("TARGET")));
    rustc.args([
        "-Copt-level=s",
        "-Cpanic=abort",
        "-Ccodegen-units=1",
        "-Clto=fat",
        "-Cstrip=symbols",
    ]);
    // At a fixed address: nothing to relocate, so no page is written before the first instruction.
    rustc.args([
        "-Crelocation-model=static",
        "-Ctarget-feature=+crt-static",
        "-Cforce-unwind-tables=no",
    ]);
    for argument in [
        "-nostdlib",
        "-nostartfiles",
        "-static",
        "-Wl,--build-id=none",
        "-Wl,-z,noexecstack",
        "-Wl,-z,norelro",
    ] {
        rustc.arg(format!("-Clink-arg={argument}"));
    }
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg(format!("-Clinker={linker}"));
    }
    let status = rustc
        .status()
        .unwrap_or_else(|error| panic!("run rustc for init: {error}"));
    assert!(status.success(), "rustc could not build init: {status}");
}
