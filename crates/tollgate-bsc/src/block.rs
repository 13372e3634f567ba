//! Blocks, heads, and what is final.

use alloy_primitives::hex;
use tollgate_x402::{B256, Timestamp};

/// A block by number and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId {
    /// The number. Blocks are ordered by it: on BSC several share one timestamp.
    pub number: u64,
    /// The hash.
    pub hash: B256,
}

/// A block as a node tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockRef {
    /// The number.
    pub number: u64,
    /// The hash.
    pub hash: B256,
    /// The header's timestamp, in seconds.
    pub timestamp: Timestamp,
}

impl BlockRef {
    /// The block without its time.
    #[must_use]
    pub const fn id(&self) -> BlockId {
        BlockId {
            number: self.number,
            hash: self.hash,
        }
    }
}

/// The block of a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BlockTag {
    /// The newest.
    #[default]
    Latest,
    /// The newest that is final (BEP-126).
    Finalized,
    /// Justified, not yet final.
    Safe,
    /// The block that the node would make.
    Pending,
    /// A block by number.
    Number(u64),
}

impl serde::Serialize for BlockTag {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Latest => serializer.serialize_str("latest"),
            Self::Finalized => serializer.serialize_str("finalized"),
            Self::Safe => serializer.serialize_str("safe"),
            Self::Pending => serializer.serialize_str("pending"),
            Self::Number(number) => serializer.collect_str(&format_args!("{number:#x}")),
        }
    }
}

/// How far the chain is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heads {
    /// The newest block. One-block reorganisations are ordinary here.
    pub latest: BlockRef,
    /// The newest justified block.
    pub safe: BlockRef,
    /// The newest final block: it and all before it stay.
    pub finalized: BlockRef,
    /// Blocks of the canonical chain that were asked for by number.
    pub canonical: Vec<BlockRef>,
}

impl Heads {
    /// The heads alone.
    #[must_use]
    pub const fn new(latest: BlockRef, safe: BlockRef, finalized: BlockRef) -> Self {
        Self {
            latest,
            safe,
            finalized,
            canonical: Vec::new(),
        }
    }

    /// The hash of the canonical block of this number, where it is known.
    #[must_use]
    pub fn hash_at(&self, number: u64) -> Option<B256> {
        self.known_at(number).next()
    }

    fn known_at(&self, number: u64) -> impl Iterator<Item = B256> + '_ {
        self.canonical
            .iter()
            .chain([&self.finalized, &self.safe, &self.latest])
            .filter(move |block| block.number == number)
            .map(|block| block.hash)
    }

    /// Whether a block is on the chain, and whether it stays there.
    ///
    /// Final needs both: a number that is not above the finalized head's, and the hash that the canonical chain has
    /// at that number. Where the latter is not known ([`Heads::canonical`]), a block is only [`Finality::Included`].
    #[must_use]
    pub fn finality(&self, block: BlockId) -> Finality {
        // Heads that were read while the chain turned may contradict each other: then nothing is certain.
        if self.known_at(block.number).any(|hash| hash != block.hash) {
            return Finality::NotIncluded;
        }
        let canonical = self.known_at(block.number).next().is_some();
        if canonical && block.number <= self.finalized.number {
            Finality::Final(block)
        } else {
            Finality::Included(block)
        }
    }
}

/// Whether something is on the chain, and whether it stays there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finality {
    /// Not on the canonical chain as the node knows it. It may come yet: this is not a failure.
    NotIncluded,
    /// On the chain, and may leave it again.
    Included(BlockId),
    /// On the chain for good.
    Final(BlockId),
}

impl Finality {
    /// Whether it stays.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Final(_))
    }

    /// The block, if it is on the chain.
    #[must_use]
    pub const fn block(&self) -> Option<BlockId> {
        match self {
            Self::NotIncluded => None,
            Self::Included(block) | Self::Final(block) => Some(*block),
        }
    }
}

impl core::fmt::Display for BlockId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({})", self.number, hex::encode_prefixed(self.hash))
    }
}
