//! tollgate-payment
