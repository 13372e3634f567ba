//! What a caller may make us read.

/// Bounds on a request body. They are checked before and while it is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestLimits {
    /// The largest body, in bytes. 4 MiB by default.
    pub max_body: usize,
    /// The deepest nesting of arrays and objects, at most 127. 64 by default.
    pub max_depth: usize,
    /// The most values below the keys that are read: bounds the memory taken beside the text. 65,536 by default.
    pub max_values: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            max_body: 4 << 20,
            max_depth: 64,
            max_values: 65_536,
        }
    }
}
