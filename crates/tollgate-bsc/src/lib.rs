//! tollgate-bsc
