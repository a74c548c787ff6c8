//! A BGP peer of a few lines, that does only what a test says.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bgp_speaker::types::{Asn, AsnWidth, Family, HoldTime, Prefix, RouterId, SessionKind};
use bgp_speaker::wire::capability::{Forwarding, GracefulRestart, NotificationSupport, RestartState};
use bgp_speaker::wire::update::{self, Context, FirstAs};
use bgp_speaker::wire::{Capability, Frame, Framer, MessageType, Notification, Open, Update, keepalive};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::LIMIT;

/// Between two looks whether somebody listens: nothing tells.
const POLL: Duration = Duration::from_millis(10);

pub(crate) struct Peer {
    stream: TcpStream,
    framer: Framer,
}

impl Peer {
    /// A connection from 127.0.0.`n`.
    pub(crate) async fn connect(n: u8, to: SocketAddr) -> Self {
        // The listener may not be there yet.
        let connected = async {
            loop {
                let socket = TcpSocket::new_v4().unwrap();
                socket
                    .bind(SocketAddr::new(IpAddr::from([127, 0, 0, n]), 0))
                    .unwrap();
                match socket.connect(to).await {
                    Ok(stream) => break stream,
                    Err(_) => tokio::time::sleep(POLL).await,
                }
            }
        };
        Self {
            stream: tokio::time::timeout(LIMIT, connected).await.unwrap(),
            framer: Framer::new(),
        }
    }

    /// A session from 127.0.0.`n`, AS 65000 + `n`, up to our KEEPALIVE.
    pub(crate) async fn dial(n: u8, to: SocketAddr, hold: u16) -> Self {
        let mut peer = Self::connect(n, to).await;
        let number = 65000 + u32::from(n);
        let open = Open {
            asn: Asn::new(number).unwrap(),
            hold_time: HoldTime::new(hold).unwrap(),
            router_id: RouterId::new([10, 0, 0, n].into()).unwrap(),
            capabilities: vec![
                Capability::Multiprotocol(Family::IPV4_UNICAST),
                Capability::FourOctetAsn(number),
                Capability::GracefulRestart(GracefulRestart {
                    state: RestartState::Fresh,
                    notification: NotificationSupport::Yes,
                    restart_time: 60,
                    families: vec![(Family::IPV4_UNICAST, Forwarding::Preserved)],
                }),
            ],
        };
        peer.send(open.encode()).await;
        assert_eq!(peer.next().await.unwrap().kind, MessageType::Open);
        peer.send(keepalive::encode()).await;
        assert_eq!(peer.next().await.unwrap().kind, MessageType::Keepalive);
        peer
    }

    pub(crate) async fn send(&mut self, bytes: Bytes) {
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The next message; `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.framer.next().unwrap() {
                return Some(frame);
            }
            let mut buffer = BytesMut::with_capacity(64 * 1024);
            let read = tokio::time::timeout(LIMIT, self.stream.read_buf(&mut buffer))
                .await
                .unwrap();
            if !matches!(read, Ok(1..)) {
                return None;
            }
            self.framer.push(buffer.freeze());
        }
    }

    /// Skips everything up to a NOTIFICATION; `None` if the connection ends without one.
    pub(crate) async fn notification(&mut self) -> Option<Notification> {
        while let Some(frame) = self.next().await {
            if frame.kind == MessageType::Notification {
                return Some(Notification::decode(&frame.body).unwrap());
            }
        }
        None
    }

    /// Reads until so many prefixes were announced; says how many were.
    pub(crate) async fn take_routes(&mut self, wanted: usize) -> usize {
        let mut count = 0;
        while count < wanted {
            let update = self.update().await;
            count += update
                .announced
                .iter()
                .map(|one| one.prefixes.len())
                .sum::<usize>();
        }
        count
    }

    /// Reads until the prefix is announced.
    pub(crate) async fn sees(&mut self, prefix: Prefix) {
        let has = |update: &Update| update.announced.iter().any(|one| one.prefixes.contains(&prefix));
        while !has(&self.update().await) {}
    }

    /// Reads until the prefix is withdrawn.
    pub(crate) async fn loses(&mut self, prefix: Prefix) {
        while !self.update().await.withdrawn.contains(&prefix) {}
    }

    /// The connection by itself.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// The next UPDATE; what else comes is skipped, but the session must not end.
    async fn update(&mut self) -> Update {
        let context = Context {
            asn_width: AsnWidth::Four,
            session: SessionKind::External,
            peer_asn: Asn::new(65001).unwrap(),
            first_as: FirstAs::Peer,
            local_address: None,
            families: vec![Family::IPV4_UNICAST],
            ipv6_next_hop: vec![],
        };
        loop {
            let frame = self.next().await.expect("the session lives");
            assert_ne!(frame.kind, MessageType::Notification);
            if frame.kind == MessageType::Update {
                let update = update::decode(&frame.body, &context).unwrap();
                assert_eq!(update.errors, []);
                return update;
            }
        }
    }
}
