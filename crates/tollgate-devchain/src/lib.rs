//! tollgate-devchain
