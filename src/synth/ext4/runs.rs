//! Runs of siblings, and the slack between them.
//!
//! A directory's children are cut into runs where the hash of a name says so, about every 16th time, and its subdirectories
//! into groups of the same kind; every 16 of these are a larger group, and so on. Where a cut is depends on one name alone,
//! so an edit leaves the others where they are. Groups and subtrees are rounded up, and what an edit adds or removes is lost
//! in the rounding of one of them.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "sums of blocks of a tree of at most 2^32 nodes of at most 2^32 blocks, in 64 bits"
)]

use crate::config::spec::SLACK_BITS_MAX;
use crate::synth::tree::{NodeId, Tree};
use crate::units::to_usize;

/// Sizes of groups: 16, 256, 4096 members on average.
const LEVELS: usize = 3;
/// The cut that ends groups of all sizes.
const LEVELS_MAX: u8 = 3;
/// Bits of a name's hash that are zero at a cut, for each size.
const BITS_PER_LEVEL: u32 = 4;

/// How generously subtrees are rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slack {
    /// Not at all.
    Dense,
    /// To lengths of this many significant bits, 1 to [`SLACK_BITS_MAX`]: the fewer, the more slack.
    Bits(u8),
}

impl Slack {
    /// What `slack-bits` means: 0 is dense.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        match bits {
            0 => Self::Dense,
            bits => Self::Bits(bits),
        }
    }

    /// What [`Slack::from_bits`] makes this of.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Dense => 0,
            Self::Bits(bits) => bits,
        }
    }

    /// This much, then ever less.
    pub(super) fn and_less(self) -> impl Iterator<Item = Self> {
        let bits = match self {
            Self::Dense => SLACK_BITS_MAX + 1,
            Self::Bits(bits) => bits,
        };
        (bits..=SLACK_BITS_MAX).map(Self::Bits).chain([Self::Dense])
    }

    /// The length that something of this length takes.
    pub(super) fn round(self, len: u64) -> u64 {
        self.round_to(len, 1)
    }

    /// The same in steps that are no smaller than this power of two.
    fn round_to(self, len: u64, step: u64) -> u64 {
        match self {
            Self::Dense => len,
            Self::Bits(kept) => {
                let bits = u64::BITS - len.leading_zeros();
                let own = 1_u64 << bits.saturating_sub(kept.into());
                len.next_multiple_of(own.max(step))
            }
        }
    }

    /// The step for the groups of a directory: a small group among large ones would have none of its own, and what it does
    /// not absorb moves them all. All groups together get half of what the directory as a whole is rounded by at most.
    fn group_step(self, members: impl Iterator<Item = (u8, u64)>) -> u64 {
        let Self::Bits(kept) = self else {
            return 1;
        };
        let (mut groups, mut total) = (1_u64, 0_u64);
        for (cut, len) in members {
            groups += u64::from(cut > 0);
            total += len;
        }
        let step = total / (groups << (kept + 1));
        step.checked_ilog2().map_or(1, |bits| 1 << bits)
    }
}

/// Whether slack of `slack` is at most a tenth of what is used.
pub(super) const fn is_moderate(slack: u64, used: u64) -> bool {
    slack <= used / 10
}

/// The runs of siblings of a tree, in the order of their nodes. The first run is the root alone.
#[derive(Debug)]
pub(super) struct Runs {
    /// The first node of each run.
    firsts: Vec<u32>,
    /// What kind of cut there is before each run.
    cuts: Vec<u8>,
    families: Vec<Family>,
    node_count: u32,
}

/// The children of a directory.
#[derive(Debug, Clone, Copy)]
struct Family {
    /// The first of its runs.
    first_run: u32,
    /// The family that the directory is in.
    above: u32,
    /// What kind of cut there is before the directory.
    cut: u8,
}

impl Runs {
    pub(super) fn new(tree: &Tree) -> Self {
        let mut runs = Self::of_root(index_u32(tree.node_count()));
        let mut cuts_of_nodes = vec![0_u8; tree.node_count()];
        let mut node = 1;
        while node < runs.node_count {
            let directory = tree.parent(NodeId(node));
            runs.begin_family(node, directory, cuts_of_nodes[directory.index()]);
            // lost+found is numbered before its siblings.
            let mut next = node;
            if NodeId(next) == NodeId::LOST_AND_FOUND {
                next += 1;
            }
            for entry in tree.entries(directory).iter() {
                // Others are further names of files that have a number already.
                if entry.node.0 != next {
                    continue;
                }
                let cut = cut_before(entry.name);
                cuts_of_nodes[entry.node.index()] = cut;
                if cut > 0 && next > node {
                    runs.firsts.push(next);
                    runs.cuts.push(cut);
                }
                next += 1;
            }
            node = next;
        }
        runs.firsts.shrink_to_fit();
        runs.cuts.shrink_to_fit();
        runs.families.shrink_to_fit();
        runs
    }

    fn of_root(node_count: u32) -> Self {
        Self {
            firsts: vec![0],
            cuts: vec![0],
            families: vec![Family {
                first_run: 0,
                above: 0,
                cut: 0,
            }],
            node_count,
        }
    }

    /// The children of `directory` begin with the node `first`.
    fn begin_family(&mut self, first: u32, directory: NodeId, cut: u8) {
        let run = self.of(directory);
        let behind = self
            .families
            .partition_point(|family| family.first_run <= run);
        self.families.push(Family {
            first_run: index_u32(self.firsts.len()),
            above: index_u32(behind - 1),
            cut,
        });
        self.firsts.push(first);
        self.cuts.push(0);
    }

    pub(super) const fn node_count(&self) -> u32 {
        self.node_count
    }

    /// The run that a node is in.
    pub(super) fn of(&self, node: NodeId) -> u32 {
        let behind = self.firsts.partition_point(|first| *first <= node.0);
        index_u32(behind - 1)
    }

    /// The first node of a run.
    pub(super) fn first(&self, run: usize) -> u32 {
        self.firsts.get(run).copied().unwrap_or(self.node_count)
    }

    /// The sum of all items of each run.
    pub(super) fn sums(&self, item_len: impl Fn(NodeId) -> u64) -> Vec<u64> {
        (0..self.firsts.len())
            .map(|run| {
                let nodes = self.first(run)..self.first(run + 1);
                nodes.map(|node| item_len(NodeId(node))).sum()
            })
            .collect()
    }

    /// Where each run begins, and the end of all, if the runs have these lengths.
    pub(super) fn nest(&self, lens: &[u64], slack: Slack) -> (Vec<u64>, u64) {
        let below = Below::new(&self.families);
        let mut subtrees = vec![0_u64; self.families.len()];
        // Families below come later, so backwards every subtree is complete when it is asked for.
        let mut steps = vec![1_u64; self.families.len()];
        for family in (0..self.families.len()).rev() {
            let members = || {
                let runs = self.runs_of(family).map(|run| (self.cuts[run], lens[run]));
                let children = below.of(family);
                let subtrees = &subtrees;
                runs.chain(children.map(move |child| (self.families[child].cut, subtrees[child])))
            };
            steps[family] = slack.group_step(members());
            let mut end = Grouping::new(slack, steps[family]);
            for (cut, len) in members() {
                end.push(cut, len);
            }
            subtrees[family] = slack.round(end.position);
        }
        let mut starts = vec![0_u64; lens.len()];
        let mut of_families = vec![0_u64; self.families.len()];
        for family in 0..self.families.len() {
            let start = of_families[family];
            let mut position = Grouping::new(slack, steps[family]);
            // The children first, then what is below them.
            for run in self.runs_of(family) {
                starts[run] = start + position.push(self.cuts[run], lens[run]);
            }
            for child in below.of(family) {
                let cut = self.families[child].cut;
                of_families[child] = start + position.push(cut, subtrees[child]);
            }
        }
        (starts, subtrees.first().copied().unwrap_or(0))
    }

    fn runs_of(&self, family: usize) -> std::ops::Range<usize> {
        let first = |family: usize| {
            let found = self.families.get(family);
            found.map_or(self.firsts.len(), |family| {
                to_usize(family.first_run.into())
            })
        };
        first(family)..first(family + 1)
    }

    /// Of the nodes after the root, families that begin with these nodes, each in the family with this index.
    #[cfg(test)]
    pub(super) fn of_families(node_count: u32, families: &[(u32, u32)]) -> Self {
        let mut runs = Self::of_root(node_count);
        for (first, above) in families {
            runs.begin_family(*first, NodeId(0), 0);
            runs.families.last_mut().unwrap().above = *above;
        }
        runs
    }
}

/// The families of each family's subdirectories, in order.
struct Below {
    first: Vec<u32>,
    next: Vec<u32>,
}

/// No family: the root's is nobody's.
const NONE: u32 = 0;

impl Below {
    fn new(families: &[Family]) -> Self {
        let mut first = vec![NONE; families.len()];
        let mut next = vec![NONE; families.len()];
        for family in (1..families.len()).rev() {
            let above = to_usize(families[family].above.into());
            next[family] = first[above];
            first[above] = index_u32(family);
        }
        Self { first, next }
    }

    fn of(&self, family: usize) -> impl Iterator<Item = usize> {
        let some = |family: u32| (family != NONE).then(|| to_usize(family.into()));
        std::iter::successors(some(self.first[family]), move |at| some(self.next[*at]))
    }
}

/// Puts members behind one another, and rounds up the groups that end at a cut.
struct Grouping {
    slack: Slack,
    step: u64,
    position: u64,
    /// Where the group of each size began.
    groups: [u64; LEVELS],
}

impl Grouping {
    const fn new(slack: Slack, step: u64) -> Self {
        Self {
            slack,
            step,
            position: 0,
            groups: [0; LEVELS],
        }
    }

    /// Adds a member behind a cut and returns where it begins.
    fn push(&mut self, cut: u8, len: u64) -> u64 {
        for group in self.groups.iter_mut().take(cut.into()) {
            let len = self.position - *group;
            self.position = *group + self.slack.round_to(len, self.step);
        }
        for group in self.groups.iter_mut().take(cut.into()) {
            *group = self.position;
        }
        let start = self.position;
        self.position += len;
        start
    }
}

/// How many sizes of groups end before a name; 0 if it is in the middle of all.
fn cut_before(name: &[u8]) -> u8 {
    let zeros = crc32fast::hash(name).trailing_zeros() / BITS_PER_LEVEL;
    u8::try_from(zeros).map_or(LEVELS_MAX, |cut| cut.min(LEVELS_MAX))
}

fn index_u32(index: usize) -> u32 {
    u32::try_from(index).expect("runs are no more than nodes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::spec::SLACK_BITS_DEFAULT;

    #[test]
    fn small_ranges_have_no_slack_and_large_ones_little() {
        let slack = Slack::from_bits(SLACK_BITS_DEFAULT);
        for value in 0..64 {
            assert_eq!(slack.round(value), value);
        }
        assert_eq!(slack.round(65), 66);
        assert_eq!(slack.round(1_000_001), 1_015_808);
        assert_eq!(slack.round(1 << 40), 1 << 40);
        assert_eq!(Slack::from_bits(0).round(1_000_001), 1_000_001);
        assert_eq!(Slack::Bits(1).round(65), 128);
    }

    #[test]
    fn slack_becomes_ever_less_and_ends_dense() {
        let steps: Vec<Slack> = Slack::Bits(14).and_less().collect();
        assert_eq!(
            steps,
            [
                Slack::Bits(14),
                Slack::Bits(15),
                Slack::Bits(16),
                Slack::Dense
            ]
        );
        assert_eq!(Slack::Dense.and_less().collect::<Vec<_>>(), [Slack::Dense]);
    }

    #[test]
    fn a_tenth_of_slack_is_enough() {
        assert!(is_moderate(10, 100) && !is_moderate(11, 100));
        assert!(is_moderate(0, 0));
    }

    #[test]
    fn groups_end_at_cuts_and_are_rounded() {
        let slack = Slack::Bits(2);
        let mut grouping = Grouping::new(slack, 1);
        let starts: Vec<u64> = [(0, 5), (0, 4), (1, 3), (0, 1), (1, 0), (2, 7), (0, 1)]
            .into_iter()
            .map(|(cut, len)| grouping.push(cut, len))
            .collect();
        // 5 + 4 become 12, then 3 + 1 stay 4, then all 16 stay; nothing ends behind 7 + 1.
        assert_eq!(starts, [0, 5, 12, 15, 16, 16, 23]);
        assert_eq!(grouping.position, 24);
        let mut stepping = Grouping::new(slack, 8);
        assert_eq!([stepping.push(0, 3), stepping.push(1, 1)], [0, 8]);
        // Of 10,000 blocks in four groups each is rounded to a 512th.
        let members = [(0, 9_000), (1, 1), (2, 999), (0, 0), (1, 0)];
        assert_eq!(Slack::Bits(6).group_step(members.into_iter()), 16);
        assert_eq!(Slack::Dense.group_step(members.into_iter()), 1);
        let mut dense = Grouping::new(Slack::Dense, 1);
        assert_eq!(dense.push(3, 5), 0);
        assert_eq!(dense.push(3, 5), 5);
    }

    #[test]
    fn a_name_in_sixteen_is_a_cut() {
        let mut cuts = [0_u32; 4];
        for index in 0..100_000_u32 {
            cuts[usize::from(cut_before(format!("name-{index}").as_bytes()))] += 1;
        }
        assert!((5000..6500).contains(&cuts[1]), "{cuts:?}");
        assert!((300..420).contains(&cuts[2]), "{cuts:?}");
        assert!((10..40).contains(&cuts[3]), "{cuts:?}");
    }

    #[test]
    fn families_of_subdirectories_keep_their_order() {
        let runs = Runs::of_families(20, &[(1, 0), (4, 1), (6, 2), (9, 1), (12, 1)]);
        let below = Below::new(&runs.families);
        let of = |family| below.of(family).collect::<Vec<_>>();
        assert_eq!(of(0), [1]);
        assert_eq!(of(1), [2, 4, 5]);
        assert_eq!(of(2), [3]);
        assert!(of(5).is_empty());
        let lens = runs.sums(|_| 1);
        let (starts, end) = runs.nest(&lens, Slack::Dense);
        assert_eq!(starts, [0, 1, 4, 6, 9, 12]);
        assert_eq!(end, 20);
    }
}
