//! tollgate-sse
