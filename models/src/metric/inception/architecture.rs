//! The layers of Inception v3: what there is, and how it is called.

/// The layers before the blocks: name, output channels, side of the kernel, step.
pub(super) const STEM: [(&str, usize, usize, Step); 5] = [
    ("Conv2d_1a_3x3", 32, 3, Step::Halving),
    ("Conv2d_2a_3x3", 32, 3, Step::Valid),
    ("Conv2d_2b_3x3", 64, 3, Step::Same),
    ("Conv2d_3b_1x1", 80, 1, Step::Same),
    ("Conv2d_4a_3x3", 192, 3, Step::Valid),
];
/// Layers of the stem before its first pooling. The second pooling is at its end.
pub(super) const STEM_POOLED: usize = 3;

/// The blocks after the stem.
pub(super) const BLOCKS: [(&str, Kind); 11] = [
    ("Mixed_5b", Kind::A { pooled: 32 }),
    ("Mixed_5c", Kind::A { pooled: 64 }),
    ("Mixed_5d", Kind::A { pooled: 64 }),
    ("Mixed_6a", Kind::B),
    ("Mixed_6b", Kind::C { middle: 128 }),
    ("Mixed_6c", Kind::C { middle: 160 }),
    ("Mixed_6d", Kind::C { middle: 160 }),
    ("Mixed_6e", Kind::C { middle: 192 }),
    ("Mixed_7a", Kind::D),
    ("Mixed_7b", Kind::E(Pool::Average)),
    ("Mixed_7c", Kind::E(Pool::Max)),
];
/// The name of the branch that begins with pooling.
pub(super) const POOL_BRANCH: &str = "branch_pool";

/// Output channels and kernel of a convolution.
pub(super) type Conv = (usize, [usize; 2]);

/// What a block is made of. `B` and `D` halve the image with the last convolution of each branch.
/// In `E`, whose pooling differs, the last two convolutions of a branch of several take the same input.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    A { pooled: usize },
    B,
    C { middle: usize },
    D,
    E(Pool),
}

impl Kind {
    /// Every branch: its name, and its convolutions in their order.
    pub(super) fn branches(self) -> Vec<(&'static str, Vec<Conv>)> {
        const ONE: [usize; 2] = [1, 1];
        const THREE: [usize; 2] = [3, 3];
        const FLAT: [usize; 2] = [1, 7];
        const TALL: [usize; 2] = [7, 1];
        match self {
            Self::A { pooled } => vec![
                ("branch1x1", vec![(64, ONE)]),
                ("branch5x5", vec![(48, ONE), (64, [5, 5])]),
                ("branch3x3dbl", vec![(64, ONE), (96, THREE), (96, THREE)]),
                (POOL_BRANCH, vec![(pooled, ONE)]),
            ],
            Self::B => vec![
                ("branch3x3", vec![(384, THREE)]),
                ("branch3x3dbl", vec![(64, ONE), (96, THREE), (96, THREE)]),
                (POOL_BRANCH, vec![]),
            ],
            Self::C { middle: mid } => vec![
                ("branch1x1", vec![(192, ONE)]),
                ("branch7x7", vec![(mid, ONE), (mid, FLAT), (192, TALL)]),
                (
                    "branch7x7dbl",
                    vec![
                        (mid, ONE),
                        (mid, TALL),
                        (mid, FLAT),
                        (mid, TALL),
                        (192, FLAT),
                    ],
                ),
                (POOL_BRANCH, vec![(192, ONE)]),
            ],
            Self::D => vec![
                ("branch3x3", vec![(192, ONE), (320, THREE)]),
                (
                    "branch7x7x3",
                    vec![(192, ONE), (192, FLAT), (192, TALL), (192, THREE)],
                ),
                (POOL_BRANCH, vec![]),
            ],
            Self::E(_) => vec![
                ("branch1x1", vec![(320, ONE)]),
                ("branch3x3", vec![(384, ONE), (384, [1, 3]), (384, [3, 1])]),
                (
                    "branch3x3dbl",
                    vec![(448, ONE), (384, THREE), (384, [1, 3]), (384, [3, 1])],
                ),
                (POOL_BRANCH, vec![(192, ONE)]),
            ],
        }
    }

    pub(super) fn pool(self) -> Pool {
        match self {
            Self::A { .. } | Self::C { .. } => Pool::Average,
            Self::B | Self::D => Pool::Halving,
            Self::E(pool) => pool,
        }
    }

    /// How many of a branch's `len` convolutions come one after another; the others take the
    /// output of the last of these.
    pub(super) fn chained(self, len: usize) -> usize {
        match self {
            Self::E(_) if len > 1 => len - 2,
            _ => len,
        }
    }

    /// The published name of a convolution: that of its branch, with a number where there are
    /// several, and a letter where they share the number.
    pub(super) fn unit_name(self, branch: usize, unit: usize) -> String {
        let (name, convs) = &self.branches()[branch];
        let chained = self.chained(convs.len());
        match unit.checked_sub(chained) {
            Some(0) => format!("{name}_{}a", chained + 1),
            Some(_) => format!("{name}_{}b", chained + 1),
            None if convs.len() == 1 => (*name).to_owned(),
            None => format!("{name}_{}", unit + 1),
        }
    }
}

/// 3×3 pooling.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pool {
    /// Averages the pixels that there are, and keeps the size.
    Average,
    /// Keeps the size.
    Max,
    /// Halves the size.
    Halving,
}

/// How a convolution moves over the image.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Pixel by pixel, with as many zeros around as keep the size.
    Same,
    /// Pixel by pixel, within the image.
    Valid,
    /// Every second pixel, within the image.
    Halving,
}
