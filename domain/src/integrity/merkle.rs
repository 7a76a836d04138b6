//! Merkle trees as in RFC 6962: leaves `SHA-256(0 ‖ h)`, nodes `SHA-256(1 ‖ left ‖ right)`, the left part of a tree as large a
//! power of two as fits. One shape serves the events of a commit and the commits of a checkpoint.

use std::ops::Range;

use super::digest;

/// A hash, or what stands in its place.
pub type Hash = [u8; 32];

/// Merkle root over event hashes: an odd node moves up unchanged, which is the tree of RFC 6962.
/// The root of nothing is all zeros.
pub fn merkle_root(hashes: &[Hash]) -> Hash {
    let mut roots = Accumulator::default();
    for hash in hashes {
        roots.push(hash);
    }
    roots.root()
}

fn leaf(hash: &Hash) -> Hash {
    digest(&[&[0], hash])
}

fn node(left: &Hash, right: &Hash) -> Hash {
    digest(&[&[1], left, right])
}

/// A root that grows leaf by leaf; its memory is the logarithm of the number of leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accumulator {
    size: u64,
    /// Roots of the complete subtrees, largest first: one for each bit set in `size`.
    peaks: Vec<Hash>,
}

impl Accumulator {
    /// The next leaf.
    pub fn push(&mut self, hash: &Hash) {
        let mut root = leaf(hash);
        // Two trees of one size become one of twice the size.
        let mut size = self.size;
        while size & 1 == 1 {
            if let Some(left) = self.peaks.pop() {
                root = node(&left, &root);
            }
            size >>= 1;
        }
        self.peaks.push(root);
        self.size += 1;
    }

    /// Leaves so far.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root over all leaves so far; zeros for none.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return [0; 32] };
        peaks.fold(*last, |right, left| node(left, &right))
    }
}

/// Collects the inclusion path of one leaf while all leaves pass by in order; memory as an [`Accumulator`]'s.
#[derive(Debug, Clone)]
pub struct PathBuilder {
    next: u64,
    /// The sibling subtrees, leaf to root: which leaves each covers, and its root so far.
    siblings: Vec<(Range<u64>, Accumulator)>,
}

impl PathBuilder {
    /// For the leaf at `index`, from 0, of a tree of `size`.
    pub fn new(index: u64, size: u64) -> Self {
        let mut siblings = Vec::new();
        let mut tree = 0..size;
        while index < size && tree.end - tree.start > 1 {
            let middle = tree.start + left_size(tree.end - tree.start);
            let (inside, beside) =
                if index < middle { (tree.start..middle, middle..tree.end) } else { (middle..tree.end, tree.start..middle) };
            siblings.push((beside, Accumulator::default()));
            tree = inside;
        }
        siblings.reverse();
        Self { next: 0, siblings }
    }

    /// The next leaf.
    pub fn push(&mut self, hash: &Hash) {
        if let Some((_, roots)) = self.siblings.iter_mut().find(|(range, _)| range.contains(&self.next)) {
            roots.push(hash);
        }
        self.next += 1;
    }

    /// The path, leaf to root, once all leaves have passed.
    pub fn finish(self) -> Vec<Hash> {
        self.siblings.into_iter().map(|(_, roots)| roots.root()).collect()
    }
}

/// The largest power of two below `size`, which is at least 2.
const fn left_size(size: u64) -> u64 {
    1 << (u64::BITS - 1 - (size - 1).leading_zeros())
}

/// The inclusion path of the leaf at `index`, from 0: the roots beside it, leaf to root.
pub fn path(hashes: &[Hash], index: u64) -> Vec<Hash> {
    let mut builder = PathBuilder::new(index, u64::try_from(hashes.len()).unwrap_or(u64::MAX));
    for hash in hashes {
        builder.push(hash);
    }
    builder.finish()
}

/// The root that a leaf and its path lead to (RFC 9162, 2.1.3.2); nothing when the path does not have the shape that belongs
/// to this index and size.
pub fn root_of_path(hash: &Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    let (mut at, mut last) = (index, size.checked_sub(1)?);
    if at > last {
        return None;
    }
    let mut root = leaf(hash);
    for sibling in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            root = node(sibling, &root);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            root = node(&root, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some(root)
}

/// A whole small tree, in which leaves can be exchanged: for finding out what was done to a commit.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Leaves first, the root last.
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// Over these hashes, of which there is at least one.
    pub fn new(hashes: &[Hash]) -> Self {
        let mut levels = vec![hashes.iter().map(leaf).collect::<Vec<_>>()];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let level = below.chunks(2).map(parent).collect();
            levels.push(level);
        }
        Self { levels }
    }

    /// Puts another hash in the place of the leaf at `index`.
    pub fn set(&mut self, index: usize, hash: &Hash) {
        let mut value = leaf(hash);
        let mut at = index;
        for depth in 0..self.levels.len() {
            let Some(level) = self.levels.get_mut(depth) else { return };
            if let Some(slot) = level.get_mut(at) {
                *slot = value;
            }
            let first = at & !1;
            value = level.get(first..level.len().min(first + 2)).map_or([0; 32], parent);
            at >>= 1;
        }
    }

    /// The root that it would have if the leaves at two places were exchanged.
    pub fn root_exchanged(&self, one: usize, other: usize) -> Hash {
        let leaf = |index: usize| self.levels.first().and_then(|leaves| leaves.get(index)).copied().unwrap_or([0; 32]);
        let (mut one, mut other) = ((one, leaf(other)), (other, leaf(one)));
        for level in self.levels.iter().take(self.levels.len().saturating_sub(1)) {
            let at = |index: usize| match index {
                index if index == one.0 => Some(one.1),
                index if index == other.0 => Some(other.1),
                index => level.get(index).copied(),
            };
            let above = |index: usize| {
                let pair = (at(index & !1), at(index | 1));
                (index >> 1, if let (Some(left), Some(right)) = pair { node(&left, &right) } else { pair.0.unwrap_or([0; 32]) })
            };
            let first = above(one.0);
            (one, other) = (first, if other.0 >> 1 == first.0 { first } else { above(other.0) });
        }
        one.1
    }

    /// Its root.
    pub fn root(&self) -> Hash {
        self.levels.last().and_then(|level| level.first()).copied().unwrap_or([0; 32])
    }
}

fn parent(pair: &[Hash]) -> Hash {
    match pair {
        [left, right] => node(left, right),
        [single] => *single,
        _ => [0; 32],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u8) -> Vec<Hash> {
        (0..count).map(|n| [n; 32]).collect()
    }

    /// The definition of RFC 6962, 2.1, word for word.
    fn by_definition(hashes: &[Hash]) -> Hash {
        match hashes {
            [] => [0; 32],
            [single] => leaf(single),
            _ => {
                let mut k = 1;
                while k * 2 < hashes.len() {
                    k *= 2;
                }
                node(&by_definition(&hashes[..k]), &by_definition(&hashes[k..]))
            }
        }
    }

    #[test]
    fn a_swap_or_a_change_alters_the_root() {
        let leaves = leaves(7);
        let mut swapped = leaves.clone();
        swapped.swap(2, 5);
        assert_ne!(merkle_root(&leaves), merkle_root(&swapped));
        assert_ne!(merkle_root(&leaves), merkle_root(&leaves[..6]));
        assert_eq!(merkle_root(&[]), [0; 32]);
    }

    #[test]
    fn the_root_of_a_commit_never_changes_its_form() {
        // Written by the first version of the platform; a log holds such roots for ever.
        assert_eq!(merkle_root(&leaves(5))[..8], [0x85, 0xe2, 0x0c, 0xac, 0x1f, 0x02, 0xfd, 0xa7]);
    }

    #[test]
    fn every_way_to_a_root_gives_the_one_of_the_rfc() {
        for size in 0..40 {
            let leaves = leaves(size);
            let root = by_definition(&leaves);
            assert_eq!(merkle_root(&leaves), root, "{size} leaves pushed");
            if size > 0 {
                assert_eq!(Tree::new(&leaves).root(), root, "a tree of {size}");
            }
            for index in 0..u64::from(size) {
                let path = path(&leaves, index);
                assert!(path.len() <= 6, "logarithmic");
                let leaf = &leaves[usize::try_from(index).unwrap()];
                assert_eq!(root_of_path(leaf, index, u64::from(size), &path), Some(root), "leaf {index} of {size}");
            }
        }
    }

    #[test]
    fn a_tree_knows_its_root_with_any_two_leaves_exchanged() {
        for size in 1..12 {
            let leaves = leaves(size);
            let tree = Tree::new(&leaves);
            for (one, other) in (0..leaves.len()).flat_map(|one| (0..leaves.len()).map(move |other| (one, other))) {
                let mut exchanged = leaves.clone();
                exchanged.swap(one, other);
                assert_eq!(tree.root_exchanged(one, other), merkle_root(&exchanged), "{one} and {other} of {size}");
            }
        }
    }

    #[test]
    fn a_path_proves_its_leaf_at_its_place_only() {
        let leaves = leaves(11);
        let root = merkle_root(&leaves);
        for index in 0..11_u64 {
            let path = path(&leaves, index);
            let leaf = leaves[usize::try_from(index).unwrap()];
            for other in (0..12).filter(|other| *other != index) {
                assert_ne!(root_of_path(&leaf, other, 11, &path), Some(root), "{index} at {other}");
            }
            assert_ne!(root_of_path(&[99; 32], index, 11, &path), Some(root));
            assert_eq!(root_of_path(&leaf, index, 11, &path[1..]).filter(|found| *found == root), None);
            let longer = [path.as_slice(), &[[1; 32]]].concat();
            assert_eq!(root_of_path(&leaf, index, 11, &longer), None);
            for broken in 0..path.len() {
                let mut changed = path.clone();
                changed[broken][7] ^= 1;
                assert_ne!(root_of_path(&leaf, index, 11, &changed), Some(root));
            }
        }
        assert_eq!(root_of_path(&[0; 32], 0, 0, &[]), None, "nothing is in an empty tree");
    }

    #[test]
    fn a_leaf_put_in_place_gives_the_root_of_the_changed_leaves() {
        for size in 1..20_u8 {
            let mut leaves = leaves(size);
            let mut tree = Tree::new(&leaves);
            for index in 0..usize::from(size) {
                leaves[index] = [200; 32];
                tree.set(index, &[200; 32]);
                assert_eq!(tree.root(), merkle_root(&leaves), "{index} of {size}");
            }
        }
    }
}
