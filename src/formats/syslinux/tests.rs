//! On a model of the executable, since the real parts are not ours to ship; the integration tests take those.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets of a model of less than 100 KiB"
)]

use super::*;

const SYS_LEN: usize = 17 * 1024;
const MAGIC_OFFSET: usize = 0x18;
const EPA_OFFSET: usize = 0x40;
const EXTENT_COUNT: u16 = 4;
const INSTANCE: [u8; 4] = [0x71, 0x0f, 0x74, 0x5e];

const RODATA: usize = 0x100;
const DATA: usize = 0x200;
const BOOT: usize = DATA;
const C32: usize = BOOT + 512;
const C32_LEN: usize = 0x80 + 40;
const SYS: usize = C32 + 0x100;
const DATA_END: usize = SYS + SYS_LEN + 8;

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

fn put_u16(bytes: &mut [u8], offset: usize, value: u16) {
    put(bytes, offset, &value.to_le_bytes());
}

fn put_u32(bytes: &mut [u8], offset: usize, value: usize) {
    put(bytes, offset, &u32::try_from(value).unwrap().to_le_bytes());
}

fn model_boot_sector() -> [u8; BOOT_SECTOR_LEN] {
    let mut sector = [0; BOOT_SECTOR_LEN];
    put(&mut sector, 0, b"\xeb\x58\x90SYSLINUX");
    put(&mut sector, 0x100, &INSTANCE);
    put(&mut sector, 0x11a, &0xdead_beef_u32.to_le_bytes());
    put(&mut sector, 0x120, &0xfeed_face_u32.to_le_bytes());
    put(&mut sector, 0x1f8, &LDLINUX_MAGIC.to_le_bytes());
    put(&mut sector, 0x1fc, &[0x18, 0x37, 0x55, 0xaa]);
    sector
}

fn model_ldlinux_sys() -> Vec<u8> {
    let mut sys = vec![0xc5; SYS_LEN];
    put(&mut sys, 0, b"\r\nSYSLINUX 9.99 \0\r\n\x1a");
    put(&mut sys, MAGIC_OFFSET, &LDLINUX_MAGIC.to_le_bytes());
    put(&mut sys, MAGIC_OFFSET + 4, &INSTANCE);
    put_u16(&mut sys, MAGIC_OFFSET + 20, 127);
    put_u16(&mut sys, MAGIC_OFFSET + 22, 0x40);
    let fields = [
        0x100,
        0x200,
        16,
        0x300,
        16,
        0x400,
        EXTENT_COUNT,
        0x11a,
        0x120,
        0x1ca,
    ];
    for (index, field) in fields.into_iter().enumerate() {
        put_u16(&mut sys, EPA_OFFSET + 2 * index, field);
    }
    sys
}

/// A 64-bit ELF file with `.rodata`, `.data` (all three parts) and the section names.
fn model_executable() -> Vec<u8> {
    let names = b"\0.rodata\0.data\0.shstrtab\0";
    let table = (DATA_END + names.len()).next_multiple_of(8);
    let mut file = vec![0; table + 4 * 64];
    put(&mut file, 0, b"\x7fELF\x02\x01\x01");
    put_u32(&mut file, 0x28, table);
    put_u16(&mut file, 0x3a, 64);
    put_u16(&mut file, 0x3c, 4);
    put_u16(&mut file, 0x3e, 3);
    let sections = [
        (1, RODATA, 16),
        (9, DATA, DATA_END - DATA),
        (15, DATA_END, names.len()),
    ];
    for (index, (name, offset, len)) in (1..).zip(sections) {
        put_u32(&mut file, table + index * 64, name);
        put_u32(&mut file, table + index * 64 + 4, 1);
        put_u32(&mut file, table + index * 64 + 0x18, offset);
        put_u32(&mut file, table + index * 64 + 0x20, len);
    }
    put(&mut file, DATA_END, names);
    put_u32(&mut file, RODATA, 512);
    put_u32(&mut file, RODATA + 4, SYS_LEN);
    // The installer's own constant, in what would be code.
    put(&mut file, 0x180, &LDLINUX_MAGIC.to_le_bytes());
    put(&mut file, BOOT, &model_boot_sector());
    put(&mut file, SYS, &model_ldlinux_sys());
    put(&mut file, C32, b"\x7fELF\x01\x01\x01");
    put_u32(&mut file, C32 + 0x20, 0x80);
    put_u16(&mut file, C32 + 0x2e, 40);
    put_u16(&mut file, C32 + 0x30, 1);
    file
}

fn model_pieces() -> Pieces {
    carve(&model_executable()).unwrap()
}

fn placement(sectors: &[u64]) -> Placement<'_> {
    Placement {
        sectors,
        total_sectors: 0x1_2345,
        hidden: 2048,
        heads: HEADS,
        sectors_per_track: SECTORS_PER_TRACK,
        directory: b"/boot",
    }
}

#[test]
fn carves_what_was_embedded() {
    let pieces = model_pieces();
    assert_eq!(pieces.boot_sector, model_boot_sector());
    assert_eq!(pieces.ldlinux_sys, model_ldlinux_sys());
    assert_eq!(pieces.ldlinux_c32, model_executable()[C32..C32 + C32_LEN]);
    assert_eq!(pieces.installed_len(), SYS_LEN + 1024);
}

#[test]
fn carving_says_what_is_missing() {
    let damage = |offset: usize| {
        let mut file = model_executable();
        file[offset] ^= 0xff;
        carve(&file).unwrap_err().to_string()
    };
    assert_eq!(carve(b"#!/bin/sh"), Err(CarveError::NotElf));
    assert_eq!(
        damage(0),
        "executable: is no little-endian ELF file with a section table"
    );
    assert_eq!(
        damage(BOOT + 0x1fe),
        "boot sector: not found in the executable"
    );
    assert_eq!(
        damage(SYS + MAGIC_OFFSET + 4),
        "ldlinux.sys: not found in the executable"
    );
    assert_eq!(damage(C32), "ldlinux.c32: not found in the executable");
    assert_eq!(
        damage(RODATA + 5),
        "ldlinux.sys: starts at 0x500 of the executable, but 0 lengths fit, expected one"
    );
    assert_eq!(
        damage(SYS + MAGIC_OFFSET + 23),
        "ldlinux.sys: starts at 0x500 of the executable, but its patch area is not usable"
    );
    assert_eq!(damage(DATA_END + 1), "executable: has no section .rodata");
}

#[test]
fn carving_refuses_to_guess() {
    let mut file = model_executable();
    put(&mut file, SYS + 0x2000, &model_boot_sector());
    assert_eq!(
        carve(&file).unwrap_err().to_string(),
        "boot sector: found 2 times in the executable, expected once"
    );
}

#[test]
fn damaged_executables_never_panic() {
    let whole = model_executable();
    for len in (0..whole.len()).step_by(61) {
        assert!(carve(&whole[..len]).is_err(), "cut at {len}");
    }
    let sectors: Vec<u64> = (100..400).collect();
    let interesting = (0..0x40)
        .chain(SYS..SYS + 0x80)
        .chain(DATA_END..whole.len());
    for offset in interesting {
        for value in [0, 1, 0x7f, 0xff] {
            let mut file = whole.clone();
            file[offset] = value;
            if let Ok(pieces) = carve(&file) {
                drop(patch(&pieces, &placement(&sectors)));
            }
        }
    }
}

#[test]
fn patches_every_field() {
    let pieces = model_pieces();
    // 34 sectors in three runs, then the vectors elsewhere.
    let sectors: Vec<u64> = (0x1_0000_0008..0x1_0000_0010)
        .chain(64..80)
        .chain(200..210)
        .chain([0x300, 0x400])
        .collect();
    let installed = patch(&pieces, &placement(&sectors)).unwrap();

    let boot = &installed.boot_sector;
    let block = [
        0x00, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 64, 0, 0, 8, 0, 0, 0x45, 0x23, 1, 0,
    ];
    assert_eq!(boot[0x0b..0x24], block);
    assert_eq!(boot[0x11a..0x11e], [8, 0, 0, 0]);
    assert_eq!(boot[0x120..0x124], [1, 0, 0, 0]);

    let sys = &installed.ldlinux_sys;
    assert_eq!(sys.len(), SYS_LEN + 1024);
    let area = &sys[MAGIC_OFFSET..MAGIC_OFFSET + 24];
    assert_eq!(area[4..8], INSTANCE);
    assert_eq!(area[8..12], [34, 0, 2, 0]);
    assert_eq!(area[12..16], [0, 0x11, 0, 0]);
    assert_eq!(area[20..], [127, 0, 0x40, 0]);
    assert_eq!(dword_sum(&sys[..SYS_LEN]), LDLINUX_MAGIC);
    assert_eq!(
        sys[0x100..0x110],
        [0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(sys[0x200..0x207], *b"/boot\0\xc5");
    let table = [
        9, 0, 0, 0, 1, 0, 0, 0, 7, 0, 64, 0, 0, 0, 0, 0, 0, 0, 16, 0, 200, 0, 0, 0, 0, 0, 0, 0, 10,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(sys[0x400..0x428], table);
    assert_eq!(sys[0x428], 0xc5);
}

#[test]
fn small_partitions_use_the_16_bit_count() {
    let sectors: Vec<u64> = (100..136).collect();
    let small = Placement {
        total_sectors: 65_535,
        ..placement(&sectors)
    };
    let boot = patch(&model_pieces(), &small).unwrap().boot_sector;
    assert_eq!(boot[0x13..0x15], [0xff, 0xff]);
    assert_eq!(boot[0x20..0x24], [0xff, 0xff, 0, 0]);
}

#[test]
fn rejects_overflow() {
    let pieces = model_pieces();
    let text = |placement: &Placement<'_>| patch(&pieces, placement).unwrap_err().to_string();

    let scattered: Vec<u64> = (1..=36).map(|index| index * 8).collect();
    assert_eq!(
        text(&placement(&scattered)),
        "ldlinux.sys: lies in 33 extents; its extent table holds 4"
    );
    assert_eq!(
        text(&placement(&scattered[..35])),
        "ldlinux.sys: 35 sectors are mapped, 36 are needed"
    );
    assert_eq!(
        text(&placement(&[0; 36])),
        "ldlinux.sys: sector 0 of the file is a hole"
    );
    let sectors: Vec<u64> = (100..136).collect();
    let long = Placement {
        directory: b"/boot/extlinux/x",
        ..placement(&sectors)
    };
    assert_eq!(
        text(&long),
        "boot loader directory: path has 16 bytes; ldlinux.sys holds at most 15 without NUL"
    );
}

#[test]
fn fields_outside_their_file_are_rejected() {
    let sectors: Vec<u64> = (100..136).collect();
    let mut pieces = model_pieces();
    put_u16(&mut pieces.ldlinux_sys, EPA_OFFSET + 14, 0x1fe);
    assert_eq!(
        patch(&pieces, &placement(&sectors))
            .unwrap_err()
            .to_string(),
        "boot sector: field sect1ptr0 at 0x1fe with 4 bytes is outside its 512 bytes"
    );
    put_u16(&mut pieces.ldlinux_sys, EPA_OFFSET, 0xffff);
    assert_eq!(
        patch(&pieces, &placement(&sectors))
            .unwrap_err()
            .to_string(),
        "ldlinux.sys: field advptroffset at 0xffff with 16 bytes is outside its 17408 bytes"
    );
    pieces.ldlinux_sys.push(0);
    assert_eq!(
        patch(&pieces, &placement(&sectors)),
        Err(PatchError::Length { len: SYS_LEN + 1 })
    );
}
