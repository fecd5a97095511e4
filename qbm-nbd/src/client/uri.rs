//! Where a server is: the address of the NBD project's `doc/uri.md`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::limits::MAX_NAME;

/// The port that is NBD's.
const PORT: u16 = 10809;

/// `nbd://HOST[:PORT]/[EXPORT]` or `nbd+unix:///[EXPORT]?socket=PATH`; `nbds` in place of `nbd` for TLS, with
/// `?tls-certificates=FOLDER` and, if the server has another name than `HOST`, `&tls-hostname=NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NbdUri {
    /// As it was given.
    text: String,
    pub(crate) place: Place,
    pub(crate) export: String,
    /// With what TLS is spoken.
    pub(crate) secrecy: Option<Secrecy>,
}

/// How TLS is spoken to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Secrecy {
    /// The folder of the certificates.
    pub(crate) certificates: PathBuf,
    /// The name that the server's certificate has to have.
    pub(crate) server: String,
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
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let (scheme, rest) = address.split_once("://").unwrap_or((address, ""));
        let (secret, local) = match scheme {
            "nbd" => (false, false),
            "nbds" => (true, false),
            "nbd+unix" => (false, true),
            "nbds+unix" => (true, true),
            _ => {
                let what = "it is neither nbd://HOST/EXPORT nor nbd+unix:///EXPORT?socket=PATH";
                return Err(NotAnUri(what));
            }
        };
        let mut query = Query::parse(query)?;
        let (place, host, export) = if local {
            let export = rest.strip_prefix('/').ok_or(NotAnUri("a socket has no host"))?;
            let socket = query.path("socket", "it needs ?socket=PATH, of an absolute path")?;
            (Place::Unix(socket), "localhost".to_owned(), export)
        } else {
            let (host, export) = rest.split_once('/').unwrap_or((rest, ""));
            let (host, port) = host_and_port(host)?;
            (Place::Tcp(host.clone(), port), host, export)
        };
        let secrecy = if secret {
            let what = "TLS needs ?tls-certificates=FOLDER, of an absolute path";
            let certificates = query.path("tls-certificates", what)?;
            let server = query.take("tls-hostname").unwrap_or(host);
            Some(Secrecy { certificates, server })
        } else {
            None
        };
        query.end()?;
        let export = unescaped(export)?;
        if export.len() > MAX_NAME {
            return Err(NotAnUri("the name of the export is longer than NBD allows"));
        }
        Ok(Self { text: text.to_owned(), place, export, secrecy })
    }
}

/// What follows the `?`.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Result<Self, NotAnUri> {
        let items = text.split('&').filter(|item| !item.is_empty());
        let items = items.map(|item| {
            let (name, value) = item.split_once('=').unwrap_or((item, ""));
            Ok((name.to_owned(), unescaped(value)?))
        });
        items.collect::<Result<_, _>>().map(Self)
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.remove(index).1)
    }

    /// An absolute path, or the error `what`.
    fn path(&mut self, name: &str, what: &'static str) -> Result<PathBuf, NotAnUri> {
        let path = self.take(name).map(PathBuf::from).filter(|path| path.is_absolute());
        path.ok_or(NotAnUri(what))
    }

    /// That nothing is left.
    fn end(self) -> Result<(), NotAnUri> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(NotAnUri("something after the `?` is not known, or twice")),
        }
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
        let tls =
            |server: &str| Some(Secrecy { certificates: "/pki".into(), server: server.to_owned() });
        for (text, place, export, secrecy) in [
            ("nbd://host", tcp("host", 10809), "", None),
            ("nbd://127.0.0.1:99/a%20b", tcp("127.0.0.1", 99), "a b", None),
            ("nbd://[::1]:99/", tcp("::1", 99), "", None),
            ("nbd+unix:///?socket=/a/b", Place::Unix("/a/b".into()), "", None),
            ("nbd+unix:///vm/1?socket=/a%2Fb", Place::Unix("/a/b".into()), "vm/1", None),
            ("nbds://host/?tls-certificates=/pki", tcp("host", 10809), "", tls("host")),
            (
                "nbds://host:9/e?tls-hostname=other&tls-certificates=/pki",
                tcp("host", 9),
                "e",
                tls("other"),
            ),
            (
                "nbds+unix:///?socket=/a&tls-certificates=/pki",
                Place::Unix("/a".into()),
                "",
                tls("localhost"),
            ),
        ] {
            let uri: NbdUri = text.parse().unwrap();
            assert_eq!(uri.to_string(), text);
            assert!(NbdUri::is_meant(text));
            assert_eq!((uri.place, uri.export.as_str(), uri.secrecy), (place, export, secrecy));
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
            "nbd://host/?tls-certificates=/x",
            "nbd://host/?socket=/a",
            "nbds://host",
            "nbds://host/?tls-certificates=x",
            "nbds://host/?tls-certificates=/x&tls-verify-peer=0",
            "nbds+unix:///?socket=/a",
            "nbd+unix:///",
            "nbd+unix:///?socket=relative",
            "nbd+unix:///?socket=/a&tls=1",
            "nbd+unix:///?socket=/a&socket=/a",
            "nbd+unix://x/?socket=/a",
            "nbd+unix:///%?socket=/a",
            "nbd+unix:///%0?socket=/a",
            "nbd+unix:///%ff?socket=/a",
            "nbd+unix:///?socket=/%00",
        ] {
            text.parse::<NbdUri>().expect_err(text);
        }
        let long = format!("nbd://host/{}", "a".repeat(MAX_NAME + 1));
        long.parse::<NbdUri>().expect_err("a name that no server takes");
    }
}
