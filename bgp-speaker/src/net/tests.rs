//! The shell over loopback, and whole speakers through it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Options;
use super::shell::Shell;
use crate::speaker::{Close, ConnId, Dial, Event, Input, ListenKey, Output, Refusal, TtlOption};
use crate::types::{Name, Prefix, Secret};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

const ANY: TtlOption = TtlOption {
    send: None,
    minimum: None,
};

fn shell() -> (Shell, mpsc::Receiver<Event>) {
    shell_with(Options::default())
}

fn shell_with(options: Options) -> (Shell, mpsc::Receiver<Event>) {
    let (events, told) = mpsc::channel(1000);
    (Shell::new(options, events), told)
}

/// A port nobody listens on.
fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    socket.local_addr().unwrap().port()
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes()).unwrap()
}

fn name() -> Name {
    "instance".into()
}

fn listen(port: u16, keys: Vec<ListenKey>) -> Output {
    Output::Listen {
        instance: name(),
        port,
        keys,
    }
}

fn key(from: &str, key: &str) -> ListenKey {
    let (address, len) = from.split_once('/').unwrap();
    ListenKey {
        from: Prefix::new(address.parse().unwrap(), len.parse().unwrap()).unwrap(),
        key: secret(key),
    }
}

fn dial(port: u16, md5: Option<&str>) -> Dial {
    Dial {
        remote: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
        local: None,
        interface: None,
        md5: md5.map(secret),
        ttl: ANY,
        timeout: Duration::from_millis(1500),
    }
}

async fn next(shell: &mut Shell) -> Input {
    tokio::time::timeout(LIMIT, shell.next()).await.unwrap()
}

/// Listens, or panics with the reason.
async fn open(shell: &mut Shell, order: Output) {
    shell.carry_out(order);
    shell.settle();
    match next(shell).await {
        Input::Listened { result, .. } => result.unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Dials from one shell to the other; gives both ends once both are open, or why it failed.
async fn connect(from: &mut Shell, to: &mut Shell, dial: Dial) -> Result<(ConnId, ConnId), String> {
    let here = ConnId::Dialled(1);
    from.carry_out(Output::Dial { conn: here, to: dial });
    match next(from).await {
        Input::Connected { conn, .. } => assert_eq!(conn, here),
        Input::ConnectFailed { error, .. } => return Err(error.to_string()),
        other => panic!("{other:?}"),
    }
    from.settle();
    let conn = loop {
        match next(to).await {
            Input::Accepted { conn, .. } => break conn,
            Input::Closed { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    to.settle();
    Ok((here, conn))
}

fn send(shell: &mut Shell, conn: ConnId, bytes: impl Into<Bytes>) {
    shell.carry_out(Output::Send {
        conn,
        bytes: bytes.into(),
    });
    shell.settle();
}

/// What arrives until there are `count` octets.
async fn receive(shell: &mut Shell, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < count {
        if let Input::Received { bytes, .. } = next(shell).await {
            all.extend_from_slice(&bytes);
        }
    }
    all
}

#[tokio::test]
async fn octets_go_both_ways_and_sending_gives_credit_back() {
    let (mut a, _a) = shell();
    let (mut b, _b) = shell();
    let port = free_port();
    open(&mut b, listen(port, vec![])).await;
    let (here, there) = connect(&mut a, &mut b, dial(port, None)).await.unwrap();
    send(&mut a, here, &b"open"[..]);
    assert!(matches!(next(&mut a).await, Input::Sent { bytes: 4, .. }));
    assert_eq!(receive(&mut b, 4).await, b"open");
    send(&mut b, there, &b"hello"[..]);
    assert_eq!(receive(&mut a, 5).await, b"hello");
    a.finish().await;
    b.finish().await;
}

#[tokio::test]
async fn both_families_are_listened_on() {
    let (mut a, _a) = shell();
    let (mut b, _b) = shell();
    let port = free_port();
    open(&mut b, listen(port, vec![])).await;
    let v6 = Dial {
        remote: SocketAddr::new("::1".parse().unwrap(), port),
        ..dial(port, None)
    };
    connect(&mut a, &mut b, v6).await.unwrap();
}

#[tokio::test]
async fn a_flushed_close_delivers_everything_although_the_peer_still_sends() {
    let (mut a, _a) = shell();
    let (mut b, _b) = shell();
    let port = free_port();
    open(&mut b, listen(port, vec![])).await;
    let (here, there) = connect(&mut a, &mut b, dial(port, None)).await.unwrap();
    send(&mut b, there, vec![7; 100_000]);
    send(&mut a, here, vec![9; 300_000]);
    a.carry_out(Output::Close {
        conn: here,
        how: Close::Flush,
    });
    assert_eq!(receive(&mut b, 300_000).await.len(), 300_000);
    loop {
        if let Input::Closed { conn, error } = next(&mut b).await {
            assert_eq!((conn, error), (there, None));
            break;
        }
    }
    b.finish().await;
    tokio::time::timeout(LIMIT, a.finish()).await.unwrap();
}

#[tokio::test]
async fn the_source_address_is_the_one_asked_for() {
    let (mut a, _a) = shell();
    let (mut b, _b) = shell();
    let port = free_port();
    open(&mut b, listen(port, vec![])).await;
    let from = Dial {
        local: Some("127.0.0.77".parse().unwrap()),
        ..dial(port, None)
    };
    a.carry_out(Output::Dial {
        conn: ConnId::Dialled(1),
        to: from,
    });
    let Input::Connected { local, .. } = next(&mut a).await else {
        panic!()
    };
    assert_eq!(local.ip().to_string(), "127.0.0.77");
    let Input::Accepted { remote, local, .. } = next(&mut b).await else {
        panic!()
    };
    assert_eq!(remote.ip().to_string(), "127.0.0.77");
    assert_eq!(local, SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
}

#[tokio::test]
async fn failed_connections_say_what_was_tried() {
    let (mut a, _a) = shell();
    let port = free_port();
    let refused = connect_error(&mut a, dial(port, None)).await;
    assert_eq!(refused, format!("127.0.0.1:{port}: connection refused"));
    let nowhere = Dial {
        local: Some("192.0.2.1".parse().unwrap()),
        ..dial(port, None)
    };
    let error = connect_error(&mut a, nowhere).await;
    assert_eq!(error, "local address 192.0.2.1: cannot assign requested address");
    let missing = Dial {
        interface: Some("no-such-if0".into()),
        ..dial(port, None)
    };
    let error = connect_error(&mut a, missing).await;
    assert!(error.starts_with("interface no-such-if0: "), "{error}");
}

async fn connect_error(shell: &mut Shell, to: Dial) -> String {
    shell.carry_out(Output::Dial {
        conn: ConnId::Dialled(9),
        to,
    });
    match next(shell).await {
        Input::ConnectFailed { error, .. } => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_port_in_use_is_named_with_what_to_do() {
    let (mut a, _a) = shell();
    let (mut b, _b) = shell();
    let port = free_port();
    open(&mut a, listen(port, vec![])).await;
    b.carry_out(listen(port, vec![]));
    let Input::Listened { result, .. } = next(&mut b).await else {
        panic!()
    };
    let error = result.unwrap_err();
    assert!(error.contains(&format!("TCP port {port} is in use")), "{error}");
    assert!(error.contains("localPort"), "{error}");
}

#[tokio::test]
async fn a_listener_can_move_to_another_port_and_back() {
    let (mut b, _b) = shell();
    let (first, second) = (free_port(), free_port());
    for port in [first, second, first, first] {
        let (mut a, _a) = shell();
        open(&mut b, listen(port, vec![])).await;
        connect(&mut a, &mut b, dial(port, None)).await.unwrap();
    }
    b.carry_out(Output::Unlisten { instance: name() });
    let (mut a, _a) = shell();
    let error = connect(&mut a, &mut b, dial(first, None)).await.unwrap_err();
    assert!(error.contains("refused"), "{error}");
}

#[tokio::test]
async fn md5_connects_with_the_same_key_only() {
    let (mut a, _a) = shell();
    let (mut b, _b) = shell();
    let port = free_port();
    open(&mut b, listen(port, vec![key("127.0.0.0/24", "s3cret")])).await;
    connect(&mut a, &mut b, dial(port, Some("s3cret"))).await.unwrap();
    for wrong in [Some("other"), None] {
        let error = connect(&mut a, &mut b, dial(port, wrong)).await.unwrap_err();
        assert!(error.contains("did not answer"), "{error}");
    }
}

#[tokio::test]
async fn md5_of_a_prefix_is_for_that_prefix_only() {
    let (mut a, _a) = shell();
    let (mut b, _b) = shell();
    let port = free_port();
    open(&mut b, listen(port, vec![key("127.0.1.0/24", "s3cret")])).await;
    // Another source needs no key, and can not use one.
    connect(&mut a, &mut b, dial(port, None)).await.unwrap();
    let signed = dial(port, Some("s3cret"));
    assert!(connect(&mut a, &mut b, signed).await.is_err());
    let inside = Dial {
        local: Some("127.0.1.5".parse().unwrap()),
        ..dial(port, Some("s3cret"))
    };
    connect(&mut a, &mut b, inside).await.unwrap();
}

#[tokio::test]
async fn keys_change_without_dropping_what_is_connected() {
    let (mut a, _a) = shell();
    let (mut b, _b) = shell();
    let port = free_port();
    open(&mut b, listen(port, vec![key("127.0.0.0/24", "old")])).await;
    let (here, _) = connect(&mut a, &mut b, dial(port, Some("old"))).await.unwrap();
    open(
        &mut b,
        listen(port, vec![key("127.0.0.0/24", "new"), key("10.0.0.0/8", "x")]),
    )
    .await;
    send(&mut a, here, &b"still here"[..]);
    assert_eq!(receive(&mut b, 10).await, b"still here");
    let again = |md5| {
        let mut dial = dial(port, md5);
        dial.timeout = Duration::from_millis(700);
        dial
    };
    let (mut c, _c) = shell();
    assert!(connect(&mut c, &mut b, again(Some("old"))).await.is_err());
    connect(&mut c, &mut b, again(Some("new"))).await.unwrap();
    open(&mut b, listen(port, vec![])).await;
    let (mut d, _d) = shell();
    connect(&mut d, &mut b, again(None)).await.unwrap();
}

#[tokio::test]
async fn a_connection_from_before_its_source_had_a_key_is_not_heard() {
    let (mut b, _b) = shell();
    let port = free_port();
    open(&mut b, listen(port, vec![])).await;
    let early = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .unwrap();
    // The handshake is over, and nobody has looked at the connection.
    open(&mut b, listen(port, vec![key("127.0.0.0/8", "s3cret")])).await;
    assert!(matches!(next(&mut b).await, Input::Accepted { .. }));
    b.settle();
    early.writable().await.unwrap();
    early.try_write(b"unsigned").unwrap();
    let heard = tokio::time::timeout(Duration::from_millis(500), b.next()).await;
    assert!(heard.is_err(), "{heard:?}");
}

#[tokio::test]
async fn md5_works_over_ipv6() {
    let (mut a, _a) = shell();
    let (mut b, _b) = shell();
    let port = free_port();
    open(&mut b, listen(port, vec![key("::1/128", "s3cret")])).await;
    let v6 = |md5| Dial {
        remote: SocketAddr::new("::1".parse().unwrap(), port),
        ..dial(port, md5)
    };
    connect(&mut a, &mut b, v6(Some("s3cret"))).await.unwrap();
    assert!(connect(&mut a, &mut b, v6(Some("wrong"))).await.is_err());
}

#[tokio::test]
async fn ttl_security_drops_what_comes_from_further_away() {
    for remote in [IpAddr::V4(Ipv4Addr::LOCALHOST), "::1".parse().unwrap()] {
        let (mut a, _a) = shell();
        let (mut b, _b) = shell();
        let port = free_port();
        open(&mut b, listen(port, vec![])).await;
        let near = Dial {
            remote: SocketAddr::new(remote, port),
            ttl: TtlOption {
                send: Some(255),
                minimum: Some(255),
            },
            ..dial(port, None)
        };
        let here = ConnId::Dialled(1);
        a.carry_out(Output::Dial { conn: here, to: near });
        let Input::Connected { .. } = next(&mut a).await else {
            panic!()
        };
        a.settle();
        let Input::Accepted { conn: there, .. } = next(&mut b).await else {
            panic!()
        };
        // 255 from both sides: they hear each other.
        b.carry_out(Output::SetTtl {
            conn: there,
            ttl: TtlOption {
                send: Some(255),
                minimum: Some(255),
            },
        });
        b.settle();
        send(&mut a, here, &b"near"[..]);
        assert_eq!(receive(&mut b, 4).await, b"near");
        // From now on this side seems to be one hop further away.
        b.carry_out(Output::SetTtl {
            conn: there,
            ttl: TtlOption {
                send: Some(254),
                minimum: Some(255),
            },
        });
        send(&mut b, there, &b"far"[..]);
        let heard = tokio::time::timeout(Duration::from_millis(500), async {
            loop {
                if let Input::Received { .. } = a.next().await {
                    break;
                }
            }
        });
        assert!(heard.await.is_err(), "a segment with TTL 254 was taken");
    }
}

#[tokio::test]
async fn what_a_far_peer_says_before_ttl_security_is_in_force_is_not_heard() {
    for remote in [IpAddr::V4(Ipv4Addr::LOCALHOST), "::1".parse().unwrap()] {
        let (mut shell, _events) = shell();
        let port = free_port();
        open(&mut shell, listen(port, vec![])).await;
        // The system's TTL, 64.
        let mut far = std::net::TcpStream::connect((remote, port)).unwrap();
        std::io::Write::write_all(&mut far, b"early").unwrap();
        let Input::Accepted { conn, .. } = next(&mut shell).await else {
            panic!()
        };
        shell.carry_out(Output::SetTtl {
            conn,
            ttl: TtlOption {
                send: Some(255),
                minimum: Some(255),
            },
        });
        let Input::Closed {
            error: Some(error), ..
        } = next(&mut shell).await
        else {
            panic!()
        };
        assert_eq!(
            &*error,
            "TTL: the connection came with 64, at least 255 is required (RFC 5082)"
        );
    }
}

#[tokio::test]
async fn a_peer_that_takes_nothing_gets_no_more_than_its_queue_and_keeps_nobody_waiting() {
    let (mut a, _a) = shell();
    let (mut b, _b) = shell();
    let port = free_port();
    open(&mut a, listen(port, vec![])).await;
    let stalled = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let Input::Accepted { conn: slow, .. } = next(&mut a).await else {
        panic!()
    };
    a.settle();
    let (_, quick) = connect(&mut b, &mut a, dial(port, None)).await.unwrap();
    // Until the kernel takes no more.
    let mut sent = 0;
    while sent < 64_000_000 {
        send(&mut a, slow, vec![0; 64 * 1024]);
        match a.try_next() {
            Some(Input::Sent { bytes, .. }) => sent += bytes,
            Some(other) => panic!("{other:?}"),
            None => break,
        }
    }
    // The other one is served at once.
    send(&mut a, quick, &b"keepalive"[..]);
    assert_eq!(receive(&mut b, 9).await, b"keepalive");
    // And what is asked for without end ends the connection, not the memory.
    let closed = loop {
        send(&mut a, slow, vec![0; 64 * 1024]);
        match a.try_next() {
            Some(Input::Closed { conn, error }) => break (conn, error),
            Some(Input::Sent { .. }) | None => {}
            Some(other) => panic!("{other:?}"),
        }
    };
    assert_eq!(closed.0, slow);
    assert_eq!(&*closed.1.unwrap(), "the peer takes nothing and asks for more");
    drop(stalled);
}

#[tokio::test]
async fn a_flooding_peer_waits_for_itself_and_others_are_heard() {
    let (mut a, _a) = shell();
    let (mut b, _b) = shell();
    let (mut c, _c) = shell();
    let port = free_port();
    open(&mut a, listen(port, vec![])).await;
    let (flood, flooded) = connect(&mut b, &mut a, dial(port, None)).await.unwrap();
    let (quiet, _) = connect(&mut c, &mut a, dial(port, None)).await.unwrap();
    let flooder = tokio::spawn(async move {
        loop {
            send(&mut b, flood, vec![1; 1_000_000]);
            while !matches!(b.next().await, Input::Sent { .. }) {}
        }
    });
    // Nothing of the flood is handled, and no more than two reads of it are kept.
    send(&mut c, quiet, &b"heard"[..]);
    let mut reads = 0;
    let heard = loop {
        match next(&mut a).await {
            Input::Received { conn, bytes } if conn == flooded => {
                assert!(bytes.len() <= 64 * 1024);
                reads += 1;
            }
            Input::Received { bytes, .. } => break bytes,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(heard, &b"heard"[..]);
    assert!(reads < 500, "{reads} reads of the flood came before");
    flooder.abort();
}

#[tokio::test]
async fn half_open_connections_of_one_source_have_a_limit() {
    let (mut a, mut told) = shell_with(Options {
        half_open_per_source: 3,
        ..Options::default()
    });
    let port = free_port();
    open(&mut a, listen(port, vec![])).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(
            tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .await
                .unwrap(),
        );
        assert!(matches!(next(&mut a).await, Input::Accepted { .. }));
    }
    streams.push(
        tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .unwrap(),
    );
    let refused = tokio::select! {
        event = told.recv() => event.unwrap(),
        input = a.next() => panic!("{input:?}"),
    };
    assert!(matches!(
        refused,
        Event::Refused {
            why: Refusal::HalfOpen,
            ..
        }
    ));
}

#[tokio::test]
async fn over_the_limit_of_half_open_connections_the_oldest_makes_room() {
    let (mut a, _told) = shell_with(Options {
        half_open_per_source: 10,
        half_open_total: 2,
        ..Options::default()
    });
    let port = free_port();
    open(&mut a, listen(port, vec![])).await;
    let mut streams = Vec::new();
    let mut first = None;
    for _ in 0..2 {
        streams.push(
            tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .await
                .unwrap(),
        );
        let Input::Accepted { conn, .. } = next(&mut a).await else {
            panic!()
        };
        first = first.or(Some(conn));
    }
    streams.push(
        tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .unwrap(),
    );
    let Input::Closed { conn, .. } = next(&mut a).await else {
        panic!()
    };
    assert_eq!(Some(conn), first);
    assert!(matches!(next(&mut a).await, Input::Accepted { .. }));
}

#[test]
fn the_kernel_is_asked_what_it_can() {
    let kernel = super::probe();
    assert_eq!(kernel.tcp_md5, super::Support::Yes);
    assert_ne!(kernel.tcp_ao, super::Support::Unknown);
}
