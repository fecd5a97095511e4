//! Where a server is: the address of the NBD project's `doc/uri.md`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The port that is NBD's.
const PORT: u16 = 10809;

/// `nbd://HOST[:PORT]/[EXPORT]` or `nbd+unix:///[EXPORT]?socket=PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NbdUri {
    /// As it was given.
    text: String,
    pub(crate) place: Place,
    pub(crate) export: String,
}

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// Why a text is not the address of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAnUri(&'static str);

impl NbdUri {
    /// Whether `text` is meant to be such an address, well-formed or not.
    pub fn is_meant(text: &str) -> bool {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        scheme.is_some_and(|scheme| ["nbd", "nbds", "nbd+unix", "nbds+unix"].contains(&scheme))
    }
}

impl fmt::Display for NbdUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for NbdUri {
    type Err = NotAnUri;

    fn from_str(text: &str) -> Result<Self, NotAnUri> {
        if text.starts_with("nbds") {
            return Err(NotAnUri("TLS is not spoken to a server that holds a data image"));
        }
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let (place, export) = if let Some(export) = address.strip_prefix("nbd+unix:///") {
            let Some(path) = query.strip_prefix("socket=").filter(|path| !path.contains('&'))
            else {
                return Err(NotAnUri("it has to end in ?socket=PATH and nothing else"));
            };
            let path = PathBuf::from(unescaped(path)?);
            if !path.is_absolute() {
                return Err(NotAnUri("the path of the socket has to be absolute"));
            }
            (Place::Unix(path), export)
        } else if let Some(rest) = address.strip_prefix("nbd://") {
            if !query.is_empty() {
                return Err(NotAnUri("nothing may follow a `?`"));
            }
            let (host, export) = rest.split_once('/').unwrap_or((rest, ""));
            let (host, port) = host_and_port(host)?;
            (Place::Tcp(host, port), export)
        } else {
            return Err(NotAnUri(
                "it is neither nbd://HOST/EXPORT nor nbd+unix:///EXPORT?socket=PATH",
            ));
        };
        Ok(Self { text: text.to_owned(), place, export: unescaped(export)? })
    }
}

/// `HOST`, `HOST:PORT` or `[IPV6]:PORT`.
fn host_and_port(text: &str) -> Result<(String, u16), NotAnUri> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err(NotAnUri("there is no host"));
    }
    let port =
        port.map_or(Ok(PORT), |port| port.parse().map_err(|_| NotAnUri("the port is no port")));
    Ok((host.to_owned(), port?))
}

/// `text` with `%41` and its like as the bytes that they stand for.
fn unescaped(text: &str) -> Result<String, NotAnUri> {
    let wrong = NotAnUri("a % does not stand for a byte of UTF-8");
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(wrong) };
        bytes.push(u8::try_from(high * 16 + low).expect("two digits"));
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).ok_or(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood() {
        let tcp = |host: &str, port| Place::Tcp(host.to_owned(), port);
        for (text, place, export) in [
            ("nbd://host", tcp("host", 10809), ""),
            ("nbd://127.0.0.1:99/a%20b", tcp("127.0.0.1", 99), "a b"),
            ("nbd://[::1]:99/", tcp("::1", 99), ""),
            ("nbd+unix:///?socket=/a/b", Place::Unix("/a/b".into()), ""),
            ("nbd+unix:///vm/1?socket=/a%2Fb", Place::Unix("/a/b".into()), "vm/1"),
        ] {
            let uri: NbdUri = text.parse().unwrap();
            assert_eq!(
                (uri.to_string().as_str(), uri.place, uri.export.as_str()),
                (text, place, export)
            );
            assert!(NbdUri::is_meant(text));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "vm.raw",
            "nbd:",
            "nbd://",
            "nbd://:1",
            "nbd://host:x",
            "nbd://host:65536",
            "nbd://host/?tls-certificates=x",
            "nbds://host",
            "nbd+unix:///",
            "nbd+unix:///?socket=relative",
            "nbd+unix:///?socket=/a&tls=1",
            "nbd+unix://x/?socket=/a",
            "nbd+unix:///%?socket=/a",
            "nbd+unix:///%0?socket=/a",
            "nbd+unix:///%ff?socket=/a",
            "nbd+unix:///?socket=/%00",
        ] {
            text.parse::<NbdUri>().expect_err(text);
        }
    }
}
