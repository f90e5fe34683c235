//! Pieces of a member that wait for the frontier, bounded in bytes.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "lengths of buffers in memory, and their sums within the window"
)]

use std::collections::BTreeMap;

use crate::units::to_u64;

/// Copies of served bytes by their offset. Pieces may overlap; the frontier skips what it knows.
#[derive(Default)]
pub(super) struct Parked {
    pieces: BTreeMap<u64, Box<[u8]>>,
    /// Bytes of the pieces and of those about to be inserted.
    len: u64,
}

impl Parked {
    /// Whether a piece at `offset` of at least `len` bytes is here.
    pub(super) fn holds(&self, offset: u64, len: usize) -> bool {
        self.pieces
            .get(&offset)
            .is_some_and(|piece| piece.len() >= len)
    }

    /// Makes room for a piece within `limit` bytes in all, at the cost of pieces further away; whether that worked.
    pub(super) fn make_room(&mut self, offset: u64, len: usize, limit: u64) -> bool {
        let len = to_u64(len);
        while self.len + len > limit {
            match self.pieces.last_entry() {
                Some(last) if *last.key() > offset => {
                    self.len -= to_u64(last.remove().len());
                }
                _ => return false,
            }
        }
        true
    }

    /// Counts a piece that [`Self::insert_reserved`] will bring.
    pub(super) fn reserve(&mut self, len: usize) {
        self.len += to_u64(len);
    }

    /// Adds a piece whose room was reserved.
    pub(super) fn insert_reserved(&mut self, offset: u64, piece: Box<[u8]>) {
        let new_len = to_u64(piece.len());
        if self.holds(offset, piece.len()) {
            self.len -= new_len;
        } else if let Some(old) = self.pieces.insert(offset, piece) {
            self.len -= to_u64(old.len());
        }
    }

    /// Takes out the first piece that starts at or before `frontier` and ends behind it; drops those that end before.
    pub(super) fn pop_reaching(&mut self, frontier: u64) -> Option<(u64, Box<[u8]>)> {
        loop {
            let first = self.pieces.first_entry()?;
            if *first.key() > frontier {
                return None;
            }
            let (offset, piece) = first.remove_entry();
            self.len -= to_u64(piece.len());
            if offset.saturating_add(to_u64(piece.len())) > frontier {
                return Some((offset, piece));
            }
        }
    }

    /// Where the first piece starts.
    pub(super) fn first_offset(&self) -> Option<u64> {
        self.pieces.first_key_value().map(|(offset, _)| *offset)
    }

    /// Drops all pieces.
    pub(super) fn clear(&mut self) {
        let freed: u64 = self.pieces.values().map(|piece| to_u64(piece.len())).sum();
        self.len -= freed;
        self.pieces.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn park(parked: &mut Parked, offset: u64, len: usize, limit: u64) -> bool {
        let room = !parked.holds(offset, len) && parked.make_room(offset, len, limit);
        if room {
            parked.reserve(len);
            parked.insert_reserved(offset, vec![1; len].into());
        }
        room
    }

    #[test]
    fn near_pieces_push_out_far_ones() {
        let mut parked = Parked::default();
        assert!(park(&mut parked, 300, 40, 100));
        assert!(park(&mut parked, 200, 40, 100));
        assert!(!park(&mut parked, 400, 40, 100), "full, and further away");
        assert!(park(&mut parked, 100, 40, 100));
        assert_eq!(
            parked.pieces.keys().copied().collect::<Vec<_>>(),
            [100, 200]
        );
        assert_eq!(parked.len, 80);
        assert!(!park(&mut parked, 100, 40, 100), "known already");
        assert!(park(&mut parked, 100, 50, 200), "longer than known");
        assert_eq!(parked.len, 90);
    }

    #[test]
    fn the_frontier_pops_what_reaches_it() {
        let mut parked = Parked::default();
        for (offset, len) in [(0, 10), (5, 10), (20, 5)] {
            assert!(park(&mut parked, offset, len, 100));
        }
        assert_eq!(
            parked.pop_reaching(12).map(|(o, p)| (o, p.len())),
            Some((5, 10))
        );
        assert_eq!(parked.pop_reaching(15), None);
        assert_eq!(parked.first_offset(), Some(20));
        parked.clear();
        assert_eq!((parked.len, parked.first_offset()), (0, None));
    }
}
