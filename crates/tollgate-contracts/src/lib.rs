//! tollgate-contracts
