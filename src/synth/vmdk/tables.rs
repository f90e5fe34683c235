//! Grain tables and grain directories, rendered from rank queries.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "table numbers are below 2^23 once the file's sectors are known to fit 32 bits"
)]

use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

use crate::formats::vmdk::{GDES_PER_SECTOR, GTES_PER_GT};
use crate::synth::region::copy_padded;
use crate::synth::unit_map::UnitMap;
use crate::units::{to_u64, to_usize};

/// Grain tables of a disk, the last one perhaps only partly used.
pub(super) fn table_count(grains: &UnitMap) -> u64 {
    grains.unit_count().div_ceil(GTES_PER_GT)
}

/// Sectors of a grain directory for `table_count` tables.
pub(super) fn directory_sectors(table_count: u64) -> u64 {
    table_count.div_ceil(GDES_PER_SECTOR)
}

/// Allocated grains in front of table `table`.
pub(super) fn rank_of_table(grains: &UnitMap, table: u64) -> u64 {
    grains.rank(table * GTES_PER_GT)
}

/// Fills `buf` from byte `from` of grain table `table`; `sector_of` gives the file sector of a grain's table entry.
pub(super) fn fill_table(
    grains: &UnitMap,
    table: u64,
    from: u64,
    buf: &mut [u8],
    sector_of: impl Fn(u64) -> u64,
) {
    let first = table * GTES_PER_GT;
    let mut entries = [U32::ZERO; to_usize(GTES_PER_GT)];
    for (grain, rank) in grains.allocated_in(first, first + GTES_PER_GT) {
        if let Some(entry) = entries.get_mut(to_usize(grain - first)) {
            *entry = sector_entry(sector_of(rank));
        }
    }
    copy_padded(entries.as_bytes(), from, buf);
}

/// Fills `buf` from byte `from` of a grain directory; `sector_of` gives the sector of a table; zeros follow the last.
pub(super) fn fill_directory(
    table_count: u64,
    from: u64,
    buf: &mut [u8],
    sector_of: impl Fn(u64) -> u64,
) {
    let first = from / 4;
    let end = (from + to_u64(buf.len())).div_ceil(4).min(table_count);
    let entries: Vec<U32> = (first..end.max(first))
        .map(|table| sector_entry(sector_of(table)))
        .collect();
    copy_padded(entries.as_bytes(), from % 4, buf);
}

fn sector_entry(sector: u64) -> U32 {
    U32::new(u32::try_from(sector).expect("file sectors fit 32 bits, checked when it was planned"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::data_map::DataMap;

    #[test]
    fn directories_read_the_same_in_pieces() {
        let mut whole = [0xa5; 512];
        fill_directory(100, 0, &mut whole, |table| 1000 + table);
        assert_eq!(whole[..8], [0xe8, 3, 0, 0, 0xe9, 3, 0, 0]);
        assert_eq!(whole[400..], [0; 112]);
        for from in 0..512 {
            for len in [1, 2, 3, 5, 130] {
                let end = (from + len).min(512);
                let mut buf = vec![0xa5; end - from];
                fill_directory(100, to_u64(from), &mut buf, |table| 1000 + table);
                assert_eq!(buf, whole[from..end], "{from}+{len}");
            }
        }
    }

    #[test]
    fn empty_tables_are_zero() {
        let grains = UnitMap::new(&DataMap::default(), 600 * 65536, 65536);
        assert_eq!(table_count(&grains), 2);
        assert_eq!(directory_sectors(129), 2);
        let mut buf = [0xa5; 2048];
        fill_table(&grains, 1, 0, &mut buf, |_| unreachable!("no grains"));
        assert_eq!(buf, [0; 2048]);
    }
}
