//! How much of anything is read.

/// The bounds within which what comes over the wire is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The longest payment header, in bytes of base64. More is [`ErrorCode::PaymentHeaderTooLarge`](crate::ErrorCode::PaymentHeaderTooLarge).
    pub header_bytes: usize,
    /// The longest JSON within a header, in bytes after decoding.
    pub decoded_bytes: usize,
    /// The longest JSON body of a 402 or of a facilitator, in bytes.
    pub body_bytes: usize,
    /// How many objects and arrays may lie within one another.
    pub depth: usize,
    /// How many entries `accepts` may have, and `kinds` of a facilitator.
    pub entries: usize,
}

impl Limits {
    /// 16 KiB of header, 12 KiB decoded, 256 KiB of body, 16 levels, 64 entries.
    pub const DEFAULT: Self = Self {
        header_bytes: 16 * 1024,
        decoded_bytes: 12 * 1024,
        body_bytes: 256 * 1024,
        depth: 16,
        entries: 64,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
