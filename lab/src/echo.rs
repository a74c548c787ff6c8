//! The server that runs in every pod: it answers with the pod's name.
//!
//! One thread per pod of this very process; only its sockets live in the pod. It answers TCP and UDP on every
//! port with one line, and HTTP clients with that line as the body.

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{Error, Netns, system};

/// How long a TCP client may stay silent before it is answered anyway: `nc` sends nothing at first, and an HTTP client
/// on a busy machine may take its time.
const PATIENCE: Duration = Duration::from_secs(1);

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Echo {
    /// The thread ends when this is closed.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Serves `greeting` and the client's address on all the addresses and ports of a pod.
    ///
    /// # Errors
    /// A port is in use, or the pod has no such address.
    pub fn start(pod: &Netns, addresses: &[IpAddr], ports: &[u16], greeting: String) -> Result<Self, Error> {
        let places: Vec<(IpAddr, u16)> = addresses
            .iter()
            .flat_map(|address| ports.iter().map(|port| (*address, *port)))
            .collect();
        let bind = || -> io::Result<(Vec<TcpListener>, Vec<UdpSocket>)> {
            let listeners = places.iter().map(TcpListener::bind).collect::<io::Result<_>>()?;
            Ok((
                listeners,
                places.iter().map(UdpSocket::bind).collect::<io::Result<_>>()?,
            ))
        };
        let what = || format!("listen in pod {}", pod.name());
        let (listeners, sockets) = pod.run(bind)?.map_err(system(what()))?;
        let (stop, stopped) = UnixStream::pair().map_err(system(what()))?;
        let thread = thread::Builder::new()
            .name(format!("echo {}", pod.name()))
            .spawn(move || serve(&listeners, &sockets, &stopped, &greeting))
            .map_err(system(what()))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("an echo server panicked");
        }
    }
}

fn serve(listeners: &[TcpListener], sockets: &[UdpSocket], stopped: &UnixStream, greeting: &str) {
    loop {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![readable(stopped.as_fd())];
        fds.extend(listeners.iter().map(|listener| readable(listener.as_fd())));
        fds.extend(sockets.iter().map(|socket| readable(socket.as_fd())));
        if poll(&mut fds, PollTimeout::NONE).is_err() {
            continue;
        }
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(false));
        if ready.next() == Some(true) {
            return;
        }
        // A client that goes away while it is answered is its own business.
        for listener in listeners {
            if ready.next() == Some(true) {
                let _ = listener.accept().and_then(|(stream, _)| answer(stream, greeting));
            }
        }
        for socket in sockets {
            if ready.next() == Some(true) {
                let mut buffer = [0; 2048];
                let _ = socket
                    .recv_from(&mut buffer)
                    .and_then(|(_, client)| socket.send_to(line(greeting, client).as_bytes(), client));
            }
        }
    }
}

fn answer(mut stream: TcpStream, greeting: &str) -> io::Result<()> {
    let line = line(greeting, stream.peer_addr()?);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = [0; 4096];
    let length = stream.read(&mut request).unwrap_or(0);
    let is_http = request
        .get(..length)
        .is_some_and(|request| request.windows(8).any(|part| part == b" HTTP/1."));
    if is_http {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n";
        write!(stream, "{head}Content-Length: {}\r\n\r\n", line.len())?;
    }
    stream.write_all(line.as_bytes())
}

fn line(greeting: &str, client: std::net::SocketAddr) -> String {
    format!("{greeting} client={client}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_names_itself_over_tcp_http_and_udp() {
        let pod = Netns::new("pod").unwrap();
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        let _echo = Echo::start(&pod, &[local], &[80], "pod=a".into()).unwrap();
        assert!(
            pod.exec(&["curl", "-s", "http://127.0.0.1:80/"])
                .unwrap()
                .starts_with("pod=a client=127.0.0.1:")
        );
        let plain = pod.run(|| {
            let mut text = String::new();
            TcpStream::connect((local, 80))
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            text
        });
        assert!(plain.unwrap().starts_with("pod=a client=127.0.0.1:"));
        let datagram = pod.run(|| {
            let socket = UdpSocket::bind((local, 0)).unwrap();
            socket.send_to(b"?", (local, 80)).unwrap();
            let mut buffer = [0; 100];
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        });
        assert!(datagram.unwrap().starts_with("pod=a client=127.0.0.1:"));
    }
}
