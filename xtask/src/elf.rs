//! Reads as much of an ELF file as it takes to say whether it is one static position-independent program: nothing of
//! the host or of a container may be loaded into it. See elf(5).
//!
//! Only 64-bit little-endian files are read, which every architecture that start-container is built for has.

const ET_DYN: u16 = 3;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_PIE: u64 = 0x0800_0000;

/// A file with offsets checked on every access.
struct Image<'a>(&'a [u8]);

impl Image<'_> {
    fn bytes<const N: usize>(&self, at: u64) -> Result<[u8; N], String> {
        usize::try_from(at)
            .ok()
            .and_then(|at| self.0.get(at..at.checked_add(N)?))
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| format!("the file ends before offset {at:#x}"))
    }

    fn u16(&self, at: u64) -> Result<u16, String> {
        self.bytes(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: u64) -> Result<u32, String> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    fn u64(&self, at: u64) -> Result<u64, String> {
        self.bytes(at).map(u64::from_le_bytes)
    }
}

/// Whether `file` is a static-PIE program; if not, the sentence says what it is instead.
pub(crate) fn check_static_pie(file: &[u8]) -> Result<(), String> {
    let image = Image(file);
    if image.bytes::<6>(0).ok() != Some(*b"\x7fELF\x02\x01") {
        return Err("is not a 64-bit little-endian ELF file".into());
    }
    let kind = image.u16(16)?;
    if kind != ET_DYN {
        return Err(format!(
            "has ELF type {kind}, not ET_DYN: it is not position-independent"
        ));
    }
    let table = image.u64(32)?;
    let size = u64::from(image.u16(54)?);
    let count = u64::from(image.u16(56)?);
    let mut pie = false;
    for index in 0..count {
        let header = table.saturating_add(index * size);
        match image.u32(header)? {
            PT_INTERP => return Err("asks for a dynamic loader (it has PT_INTERP)".into()),
            PT_DYNAMIC => pie = dynamic_says_pie(&image, header)?,
            _ => {}
        }
    }
    if pie {
        Ok(())
    } else {
        Err("is not marked as a position-independent program (DF_1_PIE)".into())
    }
}

/// Walks the dynamic section: no library may be needed; returns whether it carries DF_1_PIE.
fn dynamic_says_pie(image: &Image<'_>, header: u64) -> Result<bool, String> {
    let start = image.u64(header.saturating_add(8))?;
    let length = image.u64(header.saturating_add(32))?;
    let mut pie = false;
    for entry in (0..length / 16).map(|index| start.saturating_add(index * 16)) {
        match image.u64(entry)? {
            DT_NULL => break,
            DT_NEEDED => return Err("needs a shared library (it has DT_NEEDED)".into()),
            DT_FLAGS_1 => pie = image.u64(entry.saturating_add(8))? & DF_1_PIE != 0,
            _ => {}
        }
    }
    Ok(pie)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header, one program header of type `segment`, and a dynamic section.
    fn file(kind: u16, segment: u32, dynamic: &[(u64, u64)]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(120, 0);
        file[16..18].copy_from_slice(&kind.to_le_bytes());
        file[32..40].copy_from_slice(&64u64.to_le_bytes());
        file[54..56].copy_from_slice(&56u16.to_le_bytes());
        file[56..58].copy_from_slice(&1u16.to_le_bytes());
        file[64..68].copy_from_slice(&segment.to_le_bytes());
        file[72..80].copy_from_slice(&120u64.to_le_bytes());
        let length = 16 * dynamic.len() as u64;
        file[96..104].copy_from_slice(&length.to_le_bytes());
        for (tag, value) in dynamic {
            file.extend_from_slice(&tag.to_le_bytes());
            file.extend_from_slice(&value.to_le_bytes());
        }
        file
    }

    #[test]
    fn accepts_static_pie() {
        let good = file(
            ET_DYN,
            PT_DYNAMIC,
            &[(DT_FLAGS_1, DF_1_PIE | 1), (DT_NULL, 0)],
        );
        assert_eq!(check_static_pie(&good), Ok(()));
    }

    #[test]
    fn refuses_everything_else_and_says_why() {
        let refused = |file: &[u8]| check_static_pie(file).expect_err("must be refused");
        assert!(refused(&file(2, PT_DYNAMIC, &[])).contains("ET_DYN"));
        assert!(refused(&file(ET_DYN, PT_INTERP, &[])).contains("PT_INTERP"));
        let needs = [(DT_FLAGS_1, DF_1_PIE), (DT_NEEDED, 1)];
        assert!(refused(&file(ET_DYN, PT_DYNAMIC, &needs)).contains("DT_NEEDED"));
        // What stands behind the end of the list does not count.
        let late = [(DT_NULL, 0), (DT_FLAGS_1, DF_1_PIE)];
        assert!(refused(&file(ET_DYN, PT_DYNAMIC, &late)).contains("DF_1_PIE"));
        assert!(refused(b"#!/bin/sh\n").contains("not a 64-bit"));
        let whole = file(ET_DYN, PT_DYNAMIC, &[(DT_FLAGS_1, DF_1_PIE)]);
        assert!(refused(&whole[..130]).contains("ends before"));
    }

    #[test]
    fn this_program_is_one() {
        let this = std::fs::read("/proc/self/exe").expect("read the test binary");
        assert_eq!(check_static_pie(&this), Ok(()));
    }
}
