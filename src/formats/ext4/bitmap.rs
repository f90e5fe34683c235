//! Block and inode bitmaps: one block of bits, the lowest bit of the first byte first.

/// Sets the bits `start..end` of a bitmap.
///
/// # Panics
/// If `end` is beyond the bitmap.
pub fn set_range(bitmap: &mut [u8], start: usize, end: usize) {
    if start >= end {
        return;
    }
    let (first_byte, first_bit) = (start.div_euclid(8), start.rem_euclid(8));
    let (last_byte, end_bit) = (end.div_euclid(8), end.rem_euclid(8));
    let first_mask = u8::MAX
        .checked_shl(bit(first_bit))
        .expect("a bit index is below 8");
    // The bits below `end_bit`; none for 0.
    let last_mask = !u8::MAX
        .checked_shl(bit(end_bit))
        .expect("a bit index is below 8");
    if first_byte == last_byte {
        bitmap[first_byte] |= first_mask & last_mask;
        return;
    }
    bitmap[first_byte] |= first_mask;
    bitmap[first_byte.saturating_add(1)..last_byte].fill(u8::MAX);
    if last_mask != 0 {
        bitmap[last_byte] |= last_mask;
    }
}

/// How many bits are set.
#[must_use]
pub fn count_set(bitmap: &[u8]) -> u32 {
    bitmap.iter().map(|byte| byte.count_ones()).sum()
}

fn bit(index: usize) -> u32 {
    u32::try_from(index).expect("a bit index is below 8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::ext4::geometry::BLOCK_LEN_MAX;

    #[test]
    fn ranges_equal_single_bits() {
        for (start, end) in [
            (0, 0),
            (0, 1),
            (3, 5),
            (7, 9),
            (0, 8),
            (8, 16),
            (5, 100),
            (32_760, 32_768),
            (0, 32_768),
        ] {
            let mut ranged = [0; BLOCK_LEN_MAX];
            set_range(&mut ranged, start, end);
            let mut single = [0; BLOCK_LEN_MAX];
            for index in start..end {
                single[index / 8] |= 1_u8 << (index % 8);
            }
            assert!(ranged == single, "{start}..{end}");
            assert_eq!(
                usize::try_from(count_set(&ranged)).unwrap(),
                end.saturating_sub(start)
            );
        }
    }

    #[test]
    fn keeps_other_bits() {
        let mut bitmap = [0x81; BLOCK_LEN_MAX];
        set_range(&mut bitmap, 1, 3);
        assert_eq!(bitmap[0], 0x87);
        assert_eq!(bitmap[1], 0x81);
    }
}
