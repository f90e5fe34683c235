//! A disk of any length without a single known zero.

use miragefs::synth::source::{ByteSource, Origin, ReadError, Run, Step, check_range};
use miragefs::units::{to_u64, to_usize};

use super::next_random;

/// Every byte is computed from its offset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FullDisk(pub(crate) u64);

impl ByteSource for FullDisk {
    fn len(&self) -> u64 {
        self.0
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        check_range(offset, buf.len(), self.0)?;
        for (at, byte) in (offset..offset + to_u64(buf.len())).zip(buf) {
            *byte = next_random(at / 8).to_le_bytes()[to_usize(at % 8)];
        }
        Ok(())
    }

    fn run_at(&self, offset: u64) -> Run {
        Run {
            len: self.0.saturating_sub(offset),
            origin: match offset < self.0 {
                true => Origin::Computed("test data"),
                false => Origin::Zero,
            },
        }
    }

    fn explain_at(&self, offset: u64, trail: &mut Vec<Step>) {
        if offset < self.0 {
            trail.push(Step {
                what: "full disk".to_owned(),
                offset,
            });
        }
    }
}

#[test]
fn the_full_disk_conforms() {
    super::check_byte_source(&FullDisk(300_001));
    super::check_byte_source(&FullDisk(1 << 50));
}
