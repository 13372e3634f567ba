//! How many connections each address has.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts connections by the address that they come from.
#[derive(Debug)]
pub(crate) struct Callers {
    /// The most of one address.
    most: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl Callers {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            open: Mutex::default(),
        })
    }

    /// A place for one more connection of this address, until it is dropped; `None` if the address has as many as it may.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut open = self.open();
        let count = open.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Place {
            callers: Arc::clone(self),
            address,
        })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place.
#[derive(Debug)]
pub(crate) struct Place {
    callers: Arc<Callers>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.callers.open();
        if let Some(count) = open.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// Who has one address of IPv6 has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_places_whatever_others_have_and_gets_them_back() {
        let callers = Callers::new(2);
        let (one, other): (IpAddr, IpAddr) =
            ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let places = [callers.enter(one), callers.enter(one)];
        assert!(places.iter().all(Option::is_some));
        assert!(callers.enter(one).is_none());
        // The same address, as a socket of IPv6 sees it.
        assert!(callers.enter("::ffff:192.0.2.1".parse().unwrap()).is_none());
        assert!(callers.enter(other).is_some());
        drop(places);
        assert!(callers.enter(one).is_some());
        assert!(callers.open().is_empty(), "nobody is forgotten");
    }

    #[test]
    fn the_addresses_of_one_network_of_ipv6_are_one_caller() {
        let callers = Callers::new(1);
        let _place = callers.enter("2001:db8:1:2::1".parse().unwrap()).unwrap();
        assert!(
            callers
                .enter("2001:db8:1:2:ffff::9".parse().unwrap())
                .is_none()
        );
        assert!(callers.enter("2001:db8:1:3::1".parse().unwrap()).is_some());
    }
}
