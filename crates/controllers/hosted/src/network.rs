//! The networks of the hosted cluster, as its Cluster has them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clusterwright_api::cluster::{ClusterNetwork, NetworkRanges};

/// The addresses of Services if the Cluster names none: kubeadm's default.
pub const DEFAULT_SERVICE_CIDR: &str = "10.96.0.0/12";
/// The DNS domain of Services if the Cluster names none: kubeadm's default.
pub const DEFAULT_SERVICE_DOMAIN: &str = "cluster.local";
/// The port of the API server if the Cluster names none: Cluster API's default.
pub const DEFAULT_API_SERVER_PORT: i32 = 6443;

/// What is wrong with a Cluster's networks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// A block is not in CIDR notation.
    #[error("failed to read {0:?} as a CIDR block such as 10.96.0.0/12")]
    NotCidr(String),
    /// There may be one block, or one of each IP family.
    #[error("failed to use the blocks {0:?}: there may be one, or one IPv4 and one IPv6")]
    TooMany(Vec<String>),
    /// The block has no room for the API server's own Service.
    #[error("failed to use {0:?} for Services: the block has no second address")]
    TooSmall(String),
}

/// The networks of a hosted cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Blocks for Services, one or one of each family.
    pub services: Vec<String>,
    /// Blocks for pods; none if the Cluster names none (then no addresses are given to nodes).
    pub pods: Vec<String>,
    /// The DNS domain of Services.
    pub domain: String,
    /// The port that the API server is reached on from outside.
    pub port: i32,
    /// The address of the Service `kubernetes.default`: the first of the first block.
    pub kubernetes_service: IpAddr,
}

impl Network {
    /// Reads the networks of a Cluster, with kubeadm's defaults for what it leaves out.
    pub fn of(network: Option<&ClusterNetwork>) -> Result<Self, NetworkError> {
        let blocks = |ranges: Option<&NetworkRanges>| {
            ranges
                .map(|ranges| ranges.cidr_blocks.clone())
                .unwrap_or_default()
        };
        let mut services = blocks(network.and_then(|network| network.services.as_ref()));
        if services.is_empty() {
            services.push(DEFAULT_SERVICE_CIDR.to_owned());
        }
        let pods = blocks(network.and_then(|network| network.pods.as_ref()));
        check(&services)?;
        check(&pods)?;
        let kubernetes_service = first_address(&services[0])?;
        Ok(Self {
            kubernetes_service,
            services,
            pods,
            domain: network
                .and_then(|network| network.service_domain.clone())
                .unwrap_or_else(|| DEFAULT_SERVICE_DOMAIN.to_owned()),
            port: network
                .and_then(|network| network.api_server_port)
                .unwrap_or(DEFAULT_API_SERVER_PORT),
        })
    }
}

fn check(blocks: &[String]) -> Result<(), NetworkError> {
    let mut families = Vec::new();
    for block in blocks {
        families.push(parse(block)?.0.is_ipv4());
    }
    if families.len() > 2 || (families.len() == 2 && families[0] == families[1]) {
        return Err(NetworkError::TooMany(blocks.to_vec()));
    }
    Ok(())
}

fn parse(block: &str) -> Result<(IpAddr, u8), NetworkError> {
    let bad = || NetworkError::NotCidr(block.to_owned());
    let (address, length) = block.split_once('/').ok_or_else(bad)?;
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let length: u8 = length.parse().map_err(|_| bad())?;
    if length > if address.is_ipv4() { 32 } else { 128 } {
        return Err(bad());
    }
    Ok((address, length))
}

/// The address after the block's own.
fn first_address(block: &str) -> Result<IpAddr, NetworkError> {
    let small = || NetworkError::TooSmall(block.to_owned());
    Ok(match parse(block)? {
        (IpAddr::V4(_), 32) | (IpAddr::V6(_), 128) => return Err(small()),
        (IpAddr::V4(address), length) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            Ipv4Addr::from((u32::from(address) & mask) + 1).into()
        }
        (IpAddr::V6(address), length) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            Ipv6Addr::from((u128::from(address) & mask) + 1).into()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(services: &[&str], pods: &[&str]) -> Result<Network, NetworkError> {
        let ranges = |blocks: &[&str]| {
            (!blocks.is_empty()).then(|| NetworkRanges {
                cidr_blocks: blocks.iter().map(|&block| block.to_owned()).collect(),
            })
        };
        Network::of(Some(&ClusterNetwork {
            services: ranges(services),
            pods: ranges(pods),
            ..ClusterNetwork::default()
        }))
    }

    #[test]
    fn defaults_are_kubeadms() {
        let network = Network::of(None).unwrap();
        assert_eq!(network.services, [DEFAULT_SERVICE_CIDR]);
        assert_eq!(network.kubernetes_service.to_string(), "10.96.0.1");
        assert_eq!(
            (network.pods.len(), network.domain.as_str(), network.port),
            (0, "cluster.local", 6443)
        );
    }

    #[test]
    fn the_first_address_is_that_of_the_block_not_of_the_text() {
        assert_eq!(
            with(&["10.0.7.9/16"], &[])
                .unwrap()
                .kubernetes_service
                .to_string(),
            "10.0.0.1"
        );
        assert_eq!(
            with(&["fd00:1::/108"], &[])
                .unwrap()
                .kubernetes_service
                .to_string(),
            "fd00:1::1"
        );
        assert_eq!(
            with(&["0.0.0.0/0"], &[]).unwrap().kubernetes_service.to_string(),
            "0.0.0.1"
        );
    }

    #[test]
    fn bad_blocks_are_named() {
        for bad in ["10.96.0.0", "10.96.0.0/33", "x/8", "fd00::/129", "10.0.0.0/-1"] {
            assert_eq!(with(&[bad], &[]), Err(NetworkError::NotCidr(bad.to_owned())));
        }
        assert_eq!(
            with(&["10.0.0.1/32"], &[]),
            Err(NetworkError::TooSmall("10.0.0.1/32".to_owned()))
        );
        assert!(matches!(
            with(&["10.0.0.0/16", "10.1.0.0/16"], &[]),
            Err(NetworkError::TooMany(_))
        ));
        assert!(with(&["10.0.0.0/16", "fd00::/108"], &["10.244.0.0/16", "fd01::/64"]).is_ok());
    }
}
