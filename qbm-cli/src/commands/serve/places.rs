//! Where clients connect, and the files that say so while the server runs.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use listenfd::ListenFd;
use nix::sys::stat::{Mode, umask};
use qbm_nbd::Listener;

use super::Places;

/// A socket that clients connect to.
pub(in crate::commands) struct Place {
    listener: Listener,
    /// The socket that we have made, and remove at the end.
    file: Option<SocketFile>,
}

/// Opens all that the command line asks for, and takes what systemd hands over.
///
/// # Errors
///
/// If one cannot be opened, or there is none.
pub(super) fn open(places: &Places) -> anyhow::Result<Vec<Place>> {
    let mut opened = inherited().context("sockets from systemd")?;
    if let Some(path) = &places.socket {
        opened.push(Place::unix(path)?);
    }
    if let Some(port) = places.port {
        opened.push(Place::tcp(&places.bind, port)?);
    }
    if opened.is_empty() {
        bail!("nobody could connect: give --socket PATH or --port N");
    }
    Ok(opened)
}

/// The sockets that systemd hands over, if it does: `sd_listen_fds(3)`.
fn inherited() -> io::Result<Vec<Place>> {
    let mut handed = ListenFd::from_env();
    let mut places = Vec::new();
    for index in 0..handed.len() {
        let listener = match handed.take_unix_listener(index) {
            Ok(listener) => listener.map(Listener::Unix),
            Err(_) => handed.take_tcp_listener(index)?.map(Listener::Tcp),
        };
        places.extend(listener.map(|listener| Place { listener, file: None }));
    }
    Ok(places)
}

/// A socket at `path`, in place of one that a killed server has left.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(path)? => {
            fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        done => done,
    }
}

/// A socket at `path` as [`bind_unix`] makes it, which only this user can connect to.
pub(in crate::commands) fn bind_private(path: &Path) -> io::Result<UnixListener> {
    // There is one thread yet, so nobody else makes a file meanwhile.
    let before = umask(Mode::S_IRWXG | Mode::S_IRWXO | Mode::S_IXUSR);
    let listener = bind_unix(path);
    umask(before);
    listener
}

/// Whether `path` is a socket on which nobody listens.
fn is_abandoned(path: &Path) -> io::Result<bool> {
    let is_socket = fs::symlink_metadata(path)?.file_type().is_socket();
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    Ok(is_socket && UnixStream::connect(path).is_err_and(refused))
}

impl Place {
    /// A Unix socket at `path`.
    pub(in crate::commands) fn unix(path: &Path) -> anyhow::Result<Self> {
        let listener = bind_unix(path).with_context(|| path.display().to_string())?;
        Ok(Self { listener: Listener::Unix(listener), file: Some(SocketFile(path.to_owned())) })
    }

    /// A port of the network.
    pub(in crate::commands) fn tcp(host: &str, port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((host, port));
        let listener = listener.with_context(|| format!("{host}:{port}"))?;
        Ok(Self { listener: Listener::Tcp(listener), file: None })
    }

    /// Its address in the form of the NBD project's `doc/uri.md`.
    pub(super) fn address(&self, scheme: &str, export: &str) -> String {
        let export = escaped(export.as_bytes());
        match &self.listener {
            Listener::Tcp(listener) => match listener.local_addr() {
                Ok(address) => format!("{scheme}://{address}/{export}"),
                Err(_) => format!("{scheme}:///{export}"),
            },
            Listener::Unix(listener) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                let path = path.map(|path| escaped(path.as_os_str().as_encoded_bytes()));
                format!("{scheme}+unix:///{export}?socket={}", path.unwrap_or_default())
            }
        }
    }

    /// The listener, and what is to live as long as it is used.
    pub(in crate::commands) fn split(self) -> (Listener, Option<SocketFile>) {
        (self.listener, self.file)
    }
}

/// `bytes` as a part of a URI.
fn escaped(bytes: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let escape = |byte: &u8| match *byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    bytes.iter().map(escape).collect()
}

/// The name of a socket, which is removed with it.
pub(in crate::commands) struct SocketFile(PathBuf);

impl SocketFile {
    pub(in crate::commands) fn new(path: PathBuf) -> Self {
        Self(path)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _removed = fs::remove_file(&self.0);
    }
}

/// A file with our process id, for as long as we run.
pub(in crate::commands) struct PidFile(PathBuf);

impl PidFile {
    /// Writes it.
    ///
    /// # Errors
    ///
    /// If that fails.
    pub(in crate::commands) fn write(path: &Path) -> anyhow::Result<Self> {
        fs::write(path, format!("{}\n", std::process::id()))
            .with_context(|| path.display().to_string())?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _removed = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_address_has_no_bytes_that_a_uri_cannot_have() {
        assert_eq!(escaped(b"vm-1/a_b.c~"), "vm-1/a_b.c~");
        assert_eq!(escaped("a b?&\u{e9}%".as_bytes()), "a%20b%3F%26%C3%A9%25");
    }

    #[test]
    fn a_private_socket_is_for_its_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qmp");
        let _listener = bind_private(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(folder.path().join("file"), "").unwrap();
        let file = fs::metadata(folder.path().join("file")).unwrap();
        assert_ne!(file.permissions().mode() & 0o444, 0, "the mask is as it was");
    }

    #[test]
    fn only_a_socket_that_nobody_listens_on_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (file, socket) = (folder.path().join("file"), folder.path().join("socket"));
        fs::write(&file, "precious").unwrap();
        assert_eq!(bind_unix(&file).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read(&file).unwrap(), b"precious");
        let first = bind_unix(&socket).unwrap();
        assert_eq!(bind_unix(&socket).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let second = bind_unix(&socket).unwrap();
        UnixStream::connect(&socket).unwrap();
        drop(second);
    }
}
