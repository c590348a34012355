//! A program that makes one system call and ends with its errno: as bytes, since asking for any number with any arguments
//! needs `unsafe` in Rust, and an i386 or x32 number an unusual instruction.
//!
//! An ELF file of one segment for x86_64, without stack, data or libc, so that nothing but this one call and
//! exit_group(2) has to be allowed for it. It ends with 0 if the call succeeds.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// How to enter the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The `syscall` instruction, with numbers of x86_64 or x32.
    Syscall,
    /// `int 0x80` from a 64-bit program, with numbers of i386; only the lower half of each argument is passed.
    Int80,
}

/// Number bit of x32 calls.
pub const X32: u32 = 0x4000_0000;

/// Where the segment is loaded.
const BASE: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 56;

/// The file.
///
/// # Panics
/// With more than six arguments.
#[must_use]
pub fn elf(door: Door, number: u32, args: &[u64]) -> Vec<u8> {
    file(code(door, number, args))
}

/// The file with this code.
fn file(code: Vec<u8>) -> Vec<u8> {
    let size = HEADERS + u64::try_from(code.len()).expect("size");
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // ET_EXEC, EM_X86_64, EV_CURRENT
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    // Entry, program headers, section headers.
    for word in [BASE + HEADERS, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    // Flags; sizes and counts: one program header, no section header.
    file.extend([0; 4]);
    for half in [64_u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // PT_LOAD, readable and executable.
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0, BASE, BASE, size, size, 4096] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

fn code(door: Door, number: u32, args: &[u64]) -> Vec<u8> {
    assert!(args.len() <= 6);
    // mov eax, number
    let mut code = vec![0xb8];
    code.extend(number.to_le_bytes());
    match door {
        Door::Syscall => {
            // mov rdi, rsi, rdx, r10, r8, r9
            let moves = [
                [0x48, 0xbf],
                [0x48, 0xbe],
                [0x48, 0xba],
                [0x49, 0xba],
                [0x49, 0xb8],
                [0x49, 0xb9],
            ];
            for (register, arg) in moves.iter().zip(args) {
                code.extend(register);
                code.extend(arg.to_le_bytes());
            }
            code.extend([0x0f, 0x05]);
        }
        Door::Int80 => {
            // mov ebx, ecx, edx, esi, edi, ebp
            for (register, arg) in [0xbb, 0xb9, 0xba, 0xbe, 0xbf, 0xbd].iter().zip(args) {
                code.push(*register);
                code.extend(&arg.to_le_bytes()[..4]);
            }
            code.extend([0xcd, 0x80]);
        }
    }
    // xor edi, edi; cmp eax, -4095; jb +4; mov edi, eax; neg edi
    code.extend([
        0x31, 0xff, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x72, 0x04, 0x89, 0xc7, 0xf7, 0xdf,
    ]);
    // mov eax, 231 (exit_group); syscall
    code.extend([0xb8, 231, 0, 0, 0, 0x0f, 0x05]);
    code
}

/// Writes the program to `path`, executable for all.
///
/// # Panics
/// When that fails.
pub fn write(path: impl AsRef<Path>, door: Door, number: u32, args: &[u64]) {
    let path = path.as_ref();
    fs::write(path, elf(door, number, args))
        .unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// Writes a program for x86_64 that asks statmount(2) (Linux 6.8) about the mount which is seen at the path in its first
/// argument, and writes the 512 bytes of the answer to standard output. It ends with the errno, or 0.
///
/// # Panics
/// When the file cannot be written.
pub fn write_statmount(path: impl AsRef<Path>) {
    let path = path.as_ref();
    let code: &[&[u8]] = &[
        // mov rsi, [rsp + 16] (the argument); sub rsp, 0x400
        &[0x48, 0x8b, 0x74, 0x24, 0x10, 0x48, 0x81, 0xec, 0, 4, 0, 0],
        // statx(AT_FDCWD, rsi, AT_SYMLINK_NOFOLLOW, STATX_MNT_ID_UNIQUE, rsp)
        &[0xbf, 0x9c, 0xff, 0xff, 0xff, 0xba, 0, 1, 0, 0],
        &[0x41, 0xba, 0, 0x40, 0, 0, 0x49, 0x89, 0xe0],
        &[0xb8, 0x4c, 1, 0, 0, 0x0f, 0x05],
        // test eax, eax; jnz to the end
        &[0x85, 0xc0, 0x75, 94],
        // mov rax, [rsp + 0x90] (stx_mnt_id)
        &[0x48, 0x8b, 0x84, 0x24, 0x90, 0, 0, 0],
        // struct mnt_id_req at rsp + 0x200: its size, the mount, STATMOUNT_SB_BASIC | STATMOUNT_MNT_BASIC
        &[0x48, 0xc7, 0x84, 0x24, 0, 2, 0, 0, 24, 0, 0, 0],
        &[0x48, 0x89, 0x84, 0x24, 8, 2, 0, 0],
        &[0x48, 0xc7, 0x84, 0x24, 0x10, 2, 0, 0, 3, 0, 0, 0],
        // statmount(rsp + 0x200, rsp, 0x200, 0)
        &[0x48, 0x8d, 0xbc, 0x24, 0, 2, 0, 0, 0x48, 0x89, 0xe6],
        &[0xba, 0, 2, 0, 0, 0x45, 0x31, 0xd2],
        &[0xb8, 0xc9, 1, 0, 0, 0x0f, 0x05],
        // test eax, eax; jnz to the end
        &[0x85, 0xc0, 0x75, 24],
        // write(1, rsp, 0x200); xor edi, edi; jmp over the next
        &[0xbf, 1, 0, 0, 0, 0x48, 0x89, 0xe6, 0xba, 0, 2, 0, 0],
        &[0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0x31, 0xff, 0xeb, 4],
        // mov edi, eax; neg edi
        &[0x89, 0xc7, 0xf7, 0xdf],
        // exit_group(edi)
        &[0xb8, 231, 0, 0, 0, 0x0f, 0x05],
    ];
    fs::write(path, file(code.concat()))
        .unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
}
