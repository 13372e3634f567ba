//! tollgate-eip712
