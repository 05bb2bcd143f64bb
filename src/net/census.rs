//! Who is connected, counted: in all, and by address, so that neither can crowd out the others.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::telemetry::Open;

/// Counts the open connections of one listener.
#[derive(Debug, Default)]
pub(super) struct Census {
    // Held for a look-up at most, never across an await. As many entries as there are connections, at most.
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's place; dropping it makes room.
#[derive(Debug)]
pub(super) struct Slot {
    census: Arc<Census>,
    address: Option<IpAddr>,
    _open: Open,
}

impl Census {
    /// A place among at most `most`; `open` says that it is taken.
    pub(super) fn enter(self: &Arc<Self>, most: usize, open: impl FnOnce() -> Open) -> Option<Slot> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.all >= most {
            return None;
        }
        counts.all += 1;
        drop(counts);
        Some(Slot { census: self.clone(), address: None, _open: open() })
    }
}

impl Slot {
    /// Counts the connection for `address` too; false when that has `most` already.
    pub(super) fn belongs_to(&mut self, address: IpAddr, most: usize) -> bool {
        let address = network(address);
        let mut counts = self.census.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.by_address.entry(address).or_default();
        if *count >= most {
            // An entry of zero cannot stay: `most` may be zero, and then nobody would remove it.
            if *count == 0 {
                counts.by_address.remove(&address);
            }
            return false;
        }
        *count += 1;
        drop(counts);
        self.address = Some(address);
        true
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.census.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        let Some(address) = self.address else { return };
        if let Some(count) = counts.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&address);
            }
        }
    }
}

/// One customer has a whole /64 of IPv6, so that is what is counted; an IPv4 address in IPv6 clothes is itself.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    fn enter(census: &Arc<Census>, most: usize) -> Option<Slot> {
        let metrics = Metrics::new();
        census.enter(most, || metrics.connection("proxy"))
    }

    #[test]
    fn a_full_house_has_room_again_when_somebody_leaves() {
        let census = Arc::new(Census::default());
        let first = enter(&census, 1);
        assert!(first.is_some());
        assert!(enter(&census, 1).is_none());
        drop(first);
        assert!(enter(&census, 1).is_some());
    }

    #[test]
    fn one_address_cannot_crowd_out_the_others() {
        let census = Arc::new(Census::default());
        let (near, same, far) = ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1");
        let mut first = enter(&census, 9).unwrap();
        let mut second = enter(&census, 9).unwrap();
        assert!(first.belongs_to(near.parse().unwrap(), 1));
        assert!(!second.belongs_to(same.parse().unwrap(), 1));
        assert!(second.belongs_to(far.parse().unwrap(), 1));
        drop((first, second));
        assert!(census.counts.lock().unwrap().by_address.is_empty());
    }
}
