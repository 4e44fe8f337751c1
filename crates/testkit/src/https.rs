//! The few requests that the harness itself makes: one connection each, HTTP/1.0, so that a body simply ends with
//! the connection.

use crate::Error;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, TcpStream},
    sync::Arc,
    time::Duration,
};

/// A blocking client of one API server on loopback.
#[derive(Clone)]
pub struct Client {
    port: u16,
    token: String,
    tls: Arc<ClientConfig>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The HTTP status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Client {
    /// Speaks to 127.0.0.1:`port`, whose certificate is of `ca` (PEM), with this bearer token.
    ///
    /// # Errors
    /// When the authority can't be used.
    pub fn new(port: u16, ca: &str, token: &str) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()).flatten() {
            roots.add(certificate)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            port,
            token: token.to_owned(),
            tls: Arc::new(tls),
        })
    }

    /// Sends one request as the administrator and reads the whole answer.
    ///
    /// # Errors
    /// When the server cannot be reached or does not speak HTTP.
    pub fn send(&self, method: &str, path: &str, content_type: &str, body: &str) -> io::Result<Response> {
        let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        tcp.set_read_timeout(Some(Duration::from_secs(30)))?;
        let host = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST).into());
        let session = ClientConnection::new(self.tls.clone(), host).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, tcp);
        let (token, length) = (&self.token, body.len());
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nAccept: application/json\r\n\
             Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            // Go closes such a connection without saying goodbye in TLS.
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            _ => {}
        }
        parse(&String::from_utf8_lossy(&answer))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
    }

    /// As [`send`](Self::send), but an answer that is not 2xx is an error.
    ///
    /// # Errors
    /// [`Error::Refused`] then; [`Error::Io`] when there is no answer.
    pub fn expect(&self, method: &str, path: &str, content_type: &str, body: &str) -> Result<String, Error> {
        let doing = format!("{method} {path}");
        let answer = self
            .send(method, path, content_type, body)
            .map_err(Error::io(doing.clone()))?;
        if (200..300).contains(&answer.status) {
            return Ok(answer.body);
        }
        Err(Error::Refused {
            doing,
            status: answer.status,
            body: answer.body,
        })
    }
}

fn parse(answer: &str) -> Option<Response> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Response {
        status,
        body: body.to_owned(),
    })
}
