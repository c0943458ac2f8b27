//! A map by prefix that holds a full table in little memory: each family in a table of its own, with keys as short as the family's
//! addresses (8 bytes for IPv4, where an `IpNet` takes 18).
//!
//! Host bits of a key do not count. The order of iteration means nothing.

use std::hash::{Hash, Hasher};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Map;
use crate::bgp::Family;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Key4 {
    address: u32,
    length: u8,
}

/// As one word, which is hashed at once.
impl Hash for Key4 {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.address) << 8 | u64::from(self.length));
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key6 {
    /// As two halves: an alignment of 16 would cost eight bytes in every entry.
    address: [u64; 2],
    length: u8,
}

enum Key {
    V4(Key4),
    V6(Key6),
}

impl Key {
    fn of(prefix: &IpNet) -> Self {
        match prefix {
            IpNet::V4(net) => Self::V4(Key4 { address: net.network().into(), length: net.prefix_len() }),
            IpNet::V6(net) => {
                let bits = u128::from(net.network());
                Self::V6(Key6 { address: [(bits >> 64) as u64, bits as u64], length: net.prefix_len() })
            }
        }
    }
}

impl From<Key4> for IpNet {
    fn from(key: Key4) -> Self {
        Ipv4Net::new(Ipv4Addr::from(key.address), key.length).map_or_else(|_| IpNet::default(), IpNet::V4)
    }
}

impl From<Key6> for IpNet {
    fn from(key: Key6) -> Self {
        let bits = u128::from(key.address[0]) << 64 | u128::from(key.address[1]);
        Ipv6Net::new(Ipv6Addr::from(bits), key.length).map_or_else(|_| IpNet::default(), IpNet::V6)
    }
}

/// See the module.
pub struct PrefixMap<V> {
    v4: Map<Key4, V>,
    v6: Map<Key6, V>,
}

impl<V> Default for PrefixMap<V> {
    fn default() -> Self {
        Self { v4: Map::default(), v6: Map::default() }
    }
}

impl<V> PrefixMap<V> {
    /// The value of a prefix.
    pub fn get(&self, prefix: &IpNet) -> Option<&V> {
        match Key::of(prefix) {
            Key::V4(key) => self.v4.get(&key),
            Key::V6(key) => self.v6.get(&key),
        }
    }

    /// Sets the value of a prefix; the answer is what was there.
    pub fn insert(&mut self, prefix: &IpNet, value: V) -> Option<V> {
        match Key::of(prefix) {
            Key::V4(key) => self.v4.insert(key, value),
            Key::V6(key) => self.v6.insert(key, value),
        }
    }

    /// Removes a prefix; the answer is what was there. Tables that have become nearly empty give their memory back.
    pub fn remove(&mut self, prefix: &IpNet) -> Option<V> {
        match Key::of(prefix) {
            Key::V4(key) => remove(&mut self.v4, &key),
            Key::V6(key) => remove(&mut self.v6, &key),
        }
    }

    /// How many prefixes there are.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are of a family.
    pub fn count(&self, family: Family) -> usize {
        match family {
            Family::Ipv4Unicast => self.v4.len(),
            Family::Ipv6Unicast => self.v6.len(),
        }
    }

    /// Every prefix and its value.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, &V)> {
        let v4 = self.v4.iter().map(|(key, value)| (IpNet::from(*key), value));
        v4.chain(self.v6.iter().map(|(key, value)| (IpNet::from(*key), value)))
    }

    /// Every prefix.
    pub fn keys(&self) -> impl Iterator<Item = IpNet> {
        self.v4.keys().map(|key| IpNet::from(*key)).chain(self.v6.keys().map(|key| IpNet::from(*key)))
    }

    /// Every prefix of a family.
    pub fn keys_of(&self, family: Family) -> Vec<IpNet> {
        match family {
            Family::Ipv4Unicast => self.v4.keys().map(|key| IpNet::from(*key)).collect(),
            Family::Ipv6Unicast => self.v6.keys().map(|key| IpNet::from(*key)).collect(),
        }
    }
}

/// Below this a table is not worth shrinking.
const SHRINK_ABOVE: usize = 1 << 12;

fn remove<K: Eq + Hash, V>(map: &mut Map<K, V>, key: &K) -> Option<V> {
    let value = map.remove(key);
    if value.is_some() && map.capacity() > SHRINK_ABOVE && map.len() < map.capacity() / 16 {
        map.shrink_to(map.len() * 2);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_keep_their_prefixes_apart_and_host_bits_do_not_count() {
        let mut map = PrefixMap::default();
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        assert_eq!(map.insert(&net("10.0.0.1/8"), 1), None);
        assert_eq!(map.insert(&net("10.0.0.0/9"), 2), None);
        assert_eq!(map.insert(&net("2001:db8::1/32"), 3), None);
        assert_eq!(map.insert(&net("10.9.9.9/8"), 4), Some(1));
        assert_eq!((map.get(&net("10.0.0.0/8")), map.get(&net("2001:db8::/32"))), (Some(&4), Some(&3)));
        assert_eq!((map.len(), map.count(Family::Ipv4Unicast), map.count(Family::Ipv6Unicast)), (3, 2, 1));
        let mut keys: Vec<String> = map.keys().map(|key| key.to_string()).collect();
        keys.sort();
        assert_eq!(keys, ["10.0.0.0/8", "10.0.0.0/9", "2001:db8::/32"]);
        assert_eq!(map.remove(&net("10.0.0.0/9")), Some(2));
        assert_eq!(map.remove(&net("10.0.0.0/9")), None);
    }

    #[test]
    fn an_entry_of_a_full_ipv4_table_takes_sixteen_bytes_with_a_pointer() {
        assert_eq!(size_of::<(Key4, std::sync::Arc<()>)>(), 16);
        assert_eq!(size_of::<(Key4, u32)>(), 12);
        assert_eq!(size_of::<(Key6, std::sync::Arc<()>)>(), 32);
    }
}
