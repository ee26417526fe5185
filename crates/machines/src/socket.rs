//! Connecting to a machine's sockets.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// Connects at once or not at all. A machine that hangs accepts nobody, and after a few who wait
/// for it an ordinary `connect` would wait for ever; here it is an error of kind `WouldBlock`.
pub(crate) fn connect_now(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use rustix::net::{bind, listen, socket};

    use super::*;

    #[test]
    fn a_machine_that_accepts_nobody_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        // As QEMU listens: for few, and it hangs.
        let hung = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        bind(&hung, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&hung, 1).unwrap();
        let waiting: Vec<_> = (0..2).map(|_| connect_now(&path).unwrap()).collect();
        let refused = connect_now(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(waiting);
    }
}
