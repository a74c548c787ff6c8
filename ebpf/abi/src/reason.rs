//! Why a packet was dropped. The numbers are those of Cilium, so its tools and dashboards read ours.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal $text:literal,)*) => {
        /// A named refusal of the datapath.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DropReason {
            $(#[doc = $text] $(#[$doc])* $name = $number,)*
        }

        impl DropReason {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The number in counters and events.
            #[inline(always)]
            pub const fn number(self) -> u8 {
                match self {
                    $(Self::$name => $number,)*
                }
            }

            /// What it is called.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The reason with this number.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    InvalidSourceIp = 132 "Invalid source ip",
    Policy = 133 "Policy denied",
    Invalid = 134 "Invalid packet",
    InvalidHeader = 135 "CT: Truncated or invalid header",
    FragmentationNeeded = 136 "Fragmentation needed",
    UnknownTrackedProtocol = 137 "CT: Unknown L4 protocol",
    UnsupportedL3 = 139 "Unsupported L3 protocol",
    MissedTailCall = 140 "Missed tail call",
    WriteError = 141 "Error writing to packet",
    UnknownL4 = 142 "Unknown L4 protocol",
    UnknownIcmp4Code = 143 "Unknown ICMPv4 code",
    UnknownIcmp4Type = 144 "Unknown ICMPv4 type",
    UnknownIcmp6Code = 145 "Unknown ICMPv6 code",
    UnknownIcmp6Type = 146 "Unknown ICMPv6 type",
    NoTunnelKey = 147 "Error retrieving tunnel key",
    UnknownL3Target = 150 "Unknown L3 target address",
    Unroutable = 151 "Stale or unroutable IP",
    L3Checksum = 153 "Error while correcting L3 checksum",
    L4Checksum = 154 "Error while correcting L4 checksum",
    FlowTableFull = 155 "CT: Map insertion failed",
    InvalidExtensionHeader = 156 "Invalid IPv6 extension header",
    FragmentsUnsupported = 157 "IP fragmentation not supported",
    NoService = 158 "Service backend not found",
    UnsupportedServiceProtocol = 159 "Unsupported protocol for service",
    NoTunnelEndpoint = 160 "No tunnel/encapsulation endpoint",
    Nat46Disabled = 161 "NAT 46/64 not enabled",
    EdtHorizon = 162 "Reached EDT rate-limiting drop horizon",
    UnknownFlowState = 163 "Unknown connection tracking state",
    HostUnreachable = 164 "Local host is unreachable",
    NoConfiguration = 165 "No configuration available",
    UnsupportedL2 = 166 "Unsupported L2 protocol",
    NoNatMapping = 167 "No mapping for NAT masquerade",
    NatProtocol = 168 "Unsupported protocol for NAT masquerade",
    NoRoute = 169 "FIB lookup failed",
    EncapsulationProhibited = 170 "Encapsulation traffic is prohibited",
    InvalidIdentity = 171 "Invalid identity",
    UnknownSender = 172 "Unknown sender",
    NatNotNeeded = 173 "NAT not needed",
    ClusterIp = 174 "Is a ClusterIP",
    FirstFragmentMissing = 175 "First logical datagram fragment not found",
    ForbiddenIcmp6 = 176 "Forbidden ICMPv6 message",
    SourceRange = 177 "Denied by LB src range check",
    SocketLookup = 178 "Socket lookup failed",
    SocketAssign = 179 "Socket assign failed",
    ProxyProtocol = 180 "Proxy redirection not supported for protocol",
    PolicyDeny = 181 "Policy denied by denylist",
    VlanFiltered = 182 "VLAN traffic disallowed by VLAN filter",
    InvalidVni = 183 "Incorrect VNI from VTEP",
    InvalidBuffer = 184 "Failed to update or lookup TC buffer",
    NoSid = 185 "No SID was found for the IP address",
    Nat46 = 187 "L3 translation from IPv4 to IPv6 failed (NAT46)",
    Nat64 = 188 "L3 translation from IPv6 to IPv4 failed (NAT64)",
    AuthRequired = 189 "Authentication required",
    NoFlowMap = 190 "No conntrack map found",
    NoNatMap = 191 "No nat map found",
    InvalidClusterId = 192 "Invalid ClusterID",
    DsrProtocol = 193 "Unsupported packet protocol for DSR encapsulation",
    NoEgressGateway = 194 "No egress gateway found",
    Unencrypted = 195 "Traffic is unencrypted",
    TtlExceeded = 196 "TTL exceeded",
    NoNodeId = 197 "No node ID found",
    RateLimited = 198 "Rate limited",
    IgmpHandled = 199 "IGMP handled",
    IgmpSubscribed = 200 "IGMP subscribed",
    MulticastHandled = 201 "Multicast handled",
    HostNotReady = 202 "Host datapath not ready",
    EndpointNotReady = 203 "Endpoint policy program not available",
    NoEgressIp = 204 "No Egress IP configured",
    Proxied = 205 "Punt to proxy",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_found_by_its_number_and_no_other_number_is_one() {
        for reason in DropReason::ALL {
            assert_eq!(DropReason::from_number(reason.number()), Some(*reason));
            assert!(!reason.text().is_empty());
        }
        let known = (0..=u8::MAX).filter(|number| DropReason::from_number(*number).is_some());
        assert_eq!(known.count(), DropReason::ALL.len());
        for unused in [130, 131, 138, 148, 149, 152, 186, 206] {
            assert_eq!(DropReason::from_number(unused), None);
        }
    }
}
