//! tollgate-chat
