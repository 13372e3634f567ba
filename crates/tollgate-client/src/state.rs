//! What all calls of one payer share.

use std::sync::Arc;

use tollgate_x402::{Clock, Timestamp};

use crate::{
    Nonces, Policy, attempts::Attempts, hosts::Hosts, permits::PermitCache, quotes::Quotes,
};

pub(crate) struct State {
    pub(crate) policy: Policy,
    pub(crate) permits: PermitCache,
    pub(crate) quotes: Quotes,
    pub(crate) attempts: Attempts,
    pub(crate) hosts: Hosts,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) nonces: Arc<dyn Nonces>,
}

impl State {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
