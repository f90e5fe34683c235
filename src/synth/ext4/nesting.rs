//! Positions that follow the tree: a directory's children lie together, their subtrees behind them one after the other,
//! each rounded up. A small edit then moves little, and nothing needs to be remembered between runs.
//!
//! Nodes are numbered in that order too, so a position is kept for each *run* of siblings and for every 32nd node; what
//! lies between is added up when it is asked for.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "sums of blocks of a tree of at most 2^32 nodes of at most 2^32 blocks, in 64 bits"
)]

use crate::config::spec::SLACK_BITS_MAX;
use crate::synth::tree::{NodeId, Tree};
use crate::units::to_usize;

/// Nodes between two positions that are kept.
const STRIDE: u32 = 32;

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

    /// The length that a subtree of this length takes.
    pub(super) fn round(self, len: u64) -> u64 {
        match self {
            Self::Dense => len,
            Self::Bits(kept) => {
                let bits = u64::BITS - len.leading_zeros();
                len.next_multiple_of(1 << bits.saturating_sub(kept.into()))
            }
        }
    }
}

/// The runs of siblings of a tree, in the order of their nodes. The first run is the root alone.
#[derive(Debug)]
pub(super) struct Runs {
    /// The first node of each run.
    firsts: Vec<u32>,
    /// For each run, the run that its directory is in.
    parents: Vec<u32>,
    node_count: u32,
}

impl Runs {
    pub(super) fn new(tree: &Tree) -> Self {
        let node_count = u32::try_from(tree.node_count()).expect("nodes have 32-bit numbers");
        let mut runs = Self {
            firsts: vec![0],
            parents: vec![0],
            node_count,
        };
        let mut last_parent = None;
        for node in 1..node_count {
            let parent = tree.parent(NodeId(node));
            if last_parent != Some(parent) {
                let above = runs.of(parent);
                runs.firsts.push(node);
                runs.parents.push(above);
                last_parent = Some(parent);
            }
        }
        runs.firsts.shrink_to_fit();
        runs.parents.shrink_to_fit();
        runs
    }

    /// The run that a node is in.
    fn of(&self, node: NodeId) -> u32 {
        let behind = self.firsts.partition_point(|first| *first <= node.0);
        u32::try_from(behind - 1).expect("runs are no more than nodes")
    }

    fn first(&self, run: usize) -> u32 {
        self.firsts.get(run).copied().unwrap_or(self.node_count)
    }

    /// The sum of all items of each run.
    fn sums(&self, item_len: impl Fn(NodeId) -> u64) -> Vec<u64> {
        (0..self.firsts.len())
            .map(|run| {
                let nodes = self.first(run)..self.first(run + 1);
                nodes.map(|node| item_len(NodeId(node))).sum()
            })
            .collect()
    }

    /// Where each run begins, and the end of all, if the runs have these lengths.
    fn nest(&self, lens: &[u64], slack: Slack) -> (Vec<u64>, u64) {
        // Runs below come later, so backwards every subtree is complete when it is added.
        let mut subtree_lens = lens.to_vec();
        for run in (1..lens.len()).rev() {
            subtree_lens[run] = slack.round(subtree_lens[run]);
            subtree_lens[self.parent(run)] += subtree_lens[run];
        }
        let mut starts = vec![0; lens.len()];
        let mut next_subtree = lens.to_vec();
        for run in 1..lens.len() {
            let parent = self.parent(run);
            starts[run] = next_subtree[parent];
            next_subtree[run] = starts[run] + lens[run];
            next_subtree[parent] += subtree_lens[run];
        }
        let end = subtree_lens.first().copied().unwrap_or(0);
        (starts, end)
    }

    fn parent(&self, run: usize) -> usize {
        to_usize(self.parents[run].into())
    }
}

/// Positions of one item for each node, which may have no length.
#[derive(Debug, Default)]
pub(super) struct Column {
    /// Lengths of the runs.
    lens: Vec<u64>,
    /// Starts of the runs.
    starts: Vec<u64>,
    /// Start of every 32nd node.
    marks: Vec<u64>,
    /// Behind the last item, slack included.
    pub(super) end: u64,
    /// Sum of all items.
    pub(super) used: u64,
}

/// An item and where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) node: NodeId,
    pub(super) start: u64,
    pub(super) len: u64,
}

impl Column {
    pub(super) fn new(runs: &Runs, item_len: impl Fn(NodeId) -> u64) -> Self {
        let lens = runs.sums(item_len);
        Self {
            used: lens.iter().sum(),
            lens,
            ..Self::default()
        }
    }

    /// Places the runs.
    pub(super) fn nest(&mut self, runs: &Runs, slack: Slack) {
        (self.starts, self.end) = runs.nest(&self.lens, slack);
        self.marks = Vec::new();
    }

    /// Places the nodes, when the runs are where they stay.
    pub(super) fn settle(&mut self, runs: &Runs, item_len: impl Fn(NodeId) -> u64) {
        let mut marks = Vec::with_capacity(to_usize(u64::from(runs.node_count / STRIDE) + 1));
        for item in self.walk(runs, NodeId::ROOT, 0, item_len) {
            if item.node.0 % STRIDE == 0 {
                marks.push(item.start);
            }
        }
        self.marks = marks;
    }

    /// Where a node's item begins.
    pub(super) fn start(&self, runs: &Runs, node: NodeId, item_len: impl Fn(NodeId) -> u64) -> u64 {
        let run = to_usize(runs.of(node).into());
        let first = runs.first(run);
        let marked = node.0 - node.0 % STRIDE;
        let (from, start) = if marked > first {
            (marked, self.marks[to_usize((marked / STRIDE).into())])
        } else {
            (first, self.starts[run])
        };
        start
            + (from..node.0)
                .map(|node| item_len(NodeId(node)))
                .sum::<u64>()
    }

    /// Behind the last item of a node and its siblings, which lie without gaps.
    pub(super) fn end_of_siblings(&self, runs: &Runs, node: NodeId) -> u64 {
        let run = to_usize(runs.of(node).into());
        self.starts[run] + self.lens[run]
    }

    /// The items from the one at `position` on, or from the last one before it; some before may come first.
    pub(super) fn items_from<'a>(
        &'a self,
        runs: &'a Runs,
        position: u64,
        item_len: impl Fn(NodeId) -> u64 + 'a,
    ) -> impl Iterator<Item = Item> + 'a {
        let behind = self.marks.partition_point(|start| *start <= position);
        let mark = behind.saturating_sub(1);
        let node = u32::try_from(mark).expect("marks are fewer than nodes") * STRIDE;
        let start = self.marks.get(mark).copied().unwrap_or(0);
        self.walk(runs, NodeId(node), start, item_len)
            .filter(|item| item.len > 0)
    }

    /// Where the items of each run of siblings lie, half-open, from the run that ends behind `position` on.
    pub(super) fn runs_from(&self, position: u64) -> impl Iterator<Item = (u64, u64)> {
        let behind = self.starts.partition_point(|start| *start <= position);
        let first = behind.saturating_sub(1);
        let runs = self.starts.iter().zip(&self.lens).skip(first);
        runs.map(|(start, len)| (*start, start + len))
            .filter(move |(start, end)| start < end && *end > position)
    }

    /// All items from a node on, whose own start is known.
    fn walk<'a>(
        &'a self,
        runs: &'a Runs,
        from: NodeId,
        start: u64,
        item_len: impl Fn(NodeId) -> u64 + 'a,
    ) -> impl Iterator<Item = Item> + 'a {
        let mut position = start;
        let mut run = to_usize(runs.of(from).into());
        (from.0..runs.node_count).map(move |node| {
            if node == runs.first(run + 1) {
                run += 1;
                position = self.starts[run];
            }
            let len = item_len(NodeId(node));
            let item = Item {
                node: NodeId(node),
                start: position,
                len,
            };
            position += len;
            item
        })
    }
}

/// Numbers of the nodes: each is one long.
#[derive(Debug)]
pub(super) struct Numbers {
    /// The number of each run's first node; ascending.
    starts: Vec<u64>,
    /// The highest number, slack included.
    pub(super) last: u64,
}

impl Numbers {
    /// Numbers the root `root`, and its children from `children` on, each further run where its directory's subtree is.
    pub(super) fn new(runs: &Runs, root: u64, children: u64, slack: Slack) -> Self {
        let lens = runs.sums(|_| 1);
        let (mut starts, end) = runs.nest(&lens, slack);
        for start in &mut starts {
            // Positions count the root as one.
            *start = *start + children - 1;
        }
        starts[0] = root;
        let last = end + children - 2;
        Self { starts, last }
    }

    /// The number of a node.
    pub(super) fn number(&self, runs: &Runs, node: NodeId) -> u64 {
        let run = to_usize(runs.of(node).into());
        self.starts[run] + u64::from(node.0 - runs.first(run))
    }

    /// The node with this number, if there is one.
    pub(super) fn node(&self, runs: &Runs, number: u64) -> Option<NodeId> {
        let run = self.run_before(number)?;
        let first = u64::from(runs.first(run));
        let node = first + (number - self.starts[run]);
        (node < runs.first(run + 1).into())
            .then(|| u32::try_from(node).ok().map(NodeId))
            .flatten()
    }

    /// The lowest number in use at or above this one.
    pub(super) fn next_used(&self, runs: &Runs, number: u64) -> Option<u64> {
        if self.node(runs, number).is_some() {
            return Some(number);
        }
        let behind = self.starts.partition_point(|start| *start <= number);
        self.starts.get(behind).copied()
    }

    /// The ranges of numbers in use, half-open, from the first that ends behind `number`.
    pub(super) fn used_from<'a>(
        &'a self,
        runs: &'a Runs,
        number: u64,
    ) -> impl Iterator<Item = (u64, u64)> + 'a {
        let from = self.run_before(number).unwrap_or(0);
        (from..self.starts.len())
            .map(|run| {
                let len = u64::from(runs.first(run + 1) - runs.first(run));
                (self.starts[run], self.starts[run] + len)
            })
            .filter(move |(_, end)| *end > number)
    }

    fn run_before(&self, number: u64) -> Option<usize> {
        self.starts
            .partition_point(|start| *start <= number)
            .checked_sub(1)
    }

    /// How many numbers lie between used ones and behind them.
    pub(super) fn slack(&self, runs: &Runs) -> u64 {
        let first = self.starts.get(1).copied().unwrap_or(self.last);
        (self.last + 1 - first).saturating_sub(u64::from(runs.node_count) - 1)
    }
}

/// Whether slack of `slack` is at most a tenth of what is used.
pub(super) const fn is_moderate(slack: u64, used: u64) -> bool {
    slack <= used / 10
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

    /// The root (0) with lost+found (1), a directory (2) and a file (3); the directory has 200 files.
    fn runs() -> Runs {
        Runs {
            firsts: vec![0, 1, 4],
            parents: vec![0, 0, 1],
            node_count: 204,
        }
    }

    #[test]
    fn positions_are_found_from_either_side() {
        let runs = runs();
        let len = |node: NodeId| u64::from(node.0 % 3);
        for slack in [Slack::Dense, Slack::Bits(2)] {
            let mut column = Column::new(&runs, len);
            column.nest(&runs, slack);
            column.settle(&runs, len);
            let mut seen = 0;
            for node in (0..204).map(NodeId) {
                let start = column.start(&runs, node, len);
                for position in start..start + len(node) {
                    let mut items = column.items_from(&runs, position, len);
                    let item = items.find(|item| item.start + item.len > position);
                    let expected = Item {
                        node,
                        start,
                        len: len(node),
                    };
                    assert_eq!(item, Some(expected), "{slack:?} {position}");
                    seen += 1;
                }
            }
            assert_eq!(seen, column.used);
            let runs_of = |position| column.runs_from(position).collect::<Vec<_>>();
            assert_eq!(runs_of(0), [(0, 3), (3, 204)], "{slack:?}");
            assert_eq!(runs_of(2), [(0, 3), (3, 204)]);
            assert_eq!(runs_of(3), [(3, 204)]);
            assert_eq!(runs_of(204), []);
            assert!(column.end >= column.used);
            assert_eq!(column.end == column.used, slack == Slack::Dense);
        }
    }

    #[test]
    fn numbers_and_nodes_agree() {
        let runs = runs();
        for (slack, last, room) in [(Slack::Dense, 213, 0), (Slack::Bits(2), 394, 181)] {
            let numbers = Numbers::new(&runs, 2, 11, slack);
            let all: Vec<u64> = (0..204)
                .map(|node| numbers.number(&runs, NodeId(node)))
                .collect();
            assert_eq!(all[..5], [2, 11, 12, 13, 14]);
            // In two bits, 200 files take 256, and with their directory's siblings 384.
            assert_eq!(numbers.last, last);
            for number in 0..300 {
                let node = all.iter().position(|own| *own == number);
                let node = node.map(|node| NodeId(u32::try_from(node).unwrap()));
                assert_eq!(numbers.node(&runs, number), node, "{number}");
                let next = all.iter().copied().find(|own| *own >= number);
                assert_eq!(numbers.next_used(&runs, number), next, "{number}");
            }
            assert_eq!(numbers.slack(&runs), room);
            let used: Vec<_> = numbers.used_from(&runs, 12).collect();
            assert_eq!(used, [(11, 14), (14, 214)]);
        }
    }

    #[test]
    fn a_tenth_of_slack_is_enough() {
        assert!(is_moderate(10, 100) && !is_moderate(11, 100));
        assert!(is_moderate(0, 0));
    }
}
