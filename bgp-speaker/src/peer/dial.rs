//! How a connection is opened, and the first message on it.

use std::net::SocketAddr;
use std::time::Duration;

use super::link::{Line, Session};
use super::{Cx, Peer, Slot};
use crate::config::{Auth, RemoteAsn, Ttl};
use crate::session::agree::{Identity, our_open};
use crate::speaker::{ConnId, Dial, Output, TtlOption};
use crate::types::SessionKind;

/// An attempt nobody answers ends before the ConnectRetryTimer does, so that its failure has a reason to show.
const DIAL_MAX: Duration = Duration::from_secs(20);

impl Peer {
    pub(super) fn dial(&mut self, cx: &mut Cx<'_>) {
        let conn = ConnId::Dialled(*cx.next_dial);
        *cx.next_dial += 1;
        self.main.line = Line::Dialling(conn);
        let md5 = match &self.config.auth {
            Auth::Md5(secret) => Some(secret.clone()),
            Auth::None | Auth::Missing { .. } => None,
        };
        cx.out.push(Output::Dial {
            conn,
            to: Dial {
                remote: SocketAddr::new(self.address, self.config.port),
                local: self.config.local_address,
                interface: self.config.interface.clone(),
                md5,
                ttl: self.ttl(cx.identity),
                timeout: (self.config.timers.connect_retry / 2).min(DIAL_MAX),
            },
        });
    }

    pub(super) fn send_open(&mut self, slot: Slot, cx: &mut Cx<'_>) {
        let families = self.config.families.iter().map(|(family, _)| *family);
        let restart = crate::graceful::capability(self.config.graceful_restart, families, self.past);
        let open = our_open(cx.identity, &self.config, self.offer, restart);
        self.record.local_capabilities = open.capabilities.iter().map(|c| c.to_bytes()).collect();
        self.send(slot, open.encode(), cx);
        if let Some(link) = self.session_mut(slot).and_then(Session::link_mut) {
            link.ours = Some(open);
        }
    }

    pub(super) fn ttl(&self, identity: &Identity) -> TtlOption {
        let kind = match (self.config.remote_asn, self.session_kind()) {
            (_, Some(kind)) => kind,
            (RemoteAsn::Is(asn), None) if asn != identity.asn => SessionKind::External,
            // Not known before the OPEN: an internal peer may be hops away.
            (RemoteAsn::Is(_) | RemoteAsn::Any, None) => SessionKind::Internal,
        };
        ttl_option(self.config.ttl, kind)
    }

    fn session_kind(&self) -> Option<SessionKind> {
        self.agreed().map(|agreed| agreed.kind)
    }
}

pub(super) fn ttl_option(ttl: Ttl, kind: SessionKind) -> TtlOption {
    match (ttl, kind) {
        (Ttl::Direct, SessionKind::External) => TtlOption {
            send: Some(1),
            minimum: None,
        },
        (Ttl::Direct, SessionKind::Internal) => TtlOption {
            send: None,
            minimum: None,
        },
        (Ttl::Multihop(hops), SessionKind::External | SessionKind::Internal) => TtlOption {
            send: Some(hops),
            minimum: None,
        },
        // RFC 5082 3: a packet that crossed no router still has 255.
        (Ttl::Security { hops }, SessionKind::External | SessionKind::Internal) => TtlOption {
            send: Some(255),
            minimum: Some(255 - hops.saturating_sub(1)),
        },
    }
}
