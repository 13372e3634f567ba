//! tollgate-price
