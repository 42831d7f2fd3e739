//! Lists of networks from which programs and a maker's people may come: reading them, in one canonical form. Whether an
//! address lies in one is [`super::app::is_listed`]'s.

use core::net::{IpAddr, Ipv6Addr};
use ipnet::{IpNet, Ipv4Net};

/// Networks of one list.
const MOST: usize = 20;
/// The prefix of IPv4 addresses that are written as IPv6 ones (RFC 4291 §2.5.5.2).
const MAPPED_PREFIX: u8 = 96;

/// What is wrong with a list; the text is for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not a network.
    #[error("networks: {0} is not one: write an address, or a network such as 192.0.2.0/24 or 2001:db8::/48")]
    NotOne(String),
    /// All addresses there are.
    #[error("networks: {0} is every address there is, so that anybody may come: list the networks that are meant")]
    Everything(String),
    /// Too many.
    #[error("networks: at most 20")]
    TooMany,
}

/// Reads a list: each network once, sorted, without host bits; an address alone is a network of one. What is IPv4 written
/// as IPv6 becomes IPv4, as the addresses of peers do.
///
/// # Errors
/// See [`NetworkError`]; at most 20 networks, none of them everything.
pub fn parse_networks<T: AsRef<str>>(texts: &[T]) -> Result<Vec<IpNet>, NetworkError> {
    if texts.len() > MOST {
        return Err(NetworkError::TooMany);
    }
    let mut all = texts.iter().map(|text| parse(text.as_ref())).collect::<Result<Vec<_>, _>>()?;
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

fn parse(text: &str) -> Result<IpNet, NetworkError> {
    let shown = || text.chars().filter(|c| !c.is_control()).take(64).collect::<String>();
    let read = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let net = unmapped(read.ok_or_else(|| NetworkError::NotOne(shown()))?);
    if net.prefix_len() == 0 { Err(NetworkError::Everything(shown())) } else { Ok(net) }
}

fn unmapped(net: IpNet) -> IpNet {
    let net = net.trunc();
    match net {
        IpNet::V6(six) if six.prefix_len() >= MAPPED_PREFIX => four_of(six.addr(), six.prefix_len()).unwrap_or(net),
        other => other,
    }
}

fn four_of(address: Ipv6Addr, prefix: u8) -> Option<IpNet> {
    let four = Ipv4Net::new(address.to_ipv4_mapped()?, prefix.checked_sub(MAPPED_PREFIX)?).ok()?;
    Some(IpNet::V4(four))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<Vec<String>, NetworkError> {
        parse_networks(texts).map(|all| all.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_list_has_one_form_however_it_is_written() {
        let all = read(&["192.0.2.77/24", "192.0.2.0/24", "198.51.100.7", "2001:DB8:0::1/32", "::1", "::ffff:203.0.113.9/120"]).unwrap();
        assert_eq!(all, ["192.0.2.0/24", "198.51.100.7/32", "203.0.113.0/24", "::1/128", "2001:db8::/32"]);
        assert_eq!(read(&[]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn everything_is_no_network_also_in_disguise() {
        for all in ["0.0.0.0/0", "::/0", "192.0.2.1/0", "::ffff:0:0/96", "::ffff:192.0.2.1/96"] {
            assert!(matches!(read(&[all]), Err(NetworkError::Everything(_))), "{all}");
        }
    }

    #[test]
    fn what_is_no_network_is_named_and_a_list_is_bounded() {
        for wrong in ["", "example.com", "192.0.2.0/33", "192.0.2", "192.0.2.0/24 ", "2001:db8::/129", "192.0.2.0/-1"] {
            assert!(matches!(read(&[wrong]), Err(NetworkError::NotOne(_))), "{wrong}");
        }
        let many: Vec<String> = (0..21).map(|n| format!("10.0.{n}.0/24")).collect();
        assert_eq!(parse_networks(&many), Err(NetworkError::TooMany));
        assert_eq!(parse_networks(&many[..20]).unwrap().len(), 20);
    }
}
