//! The service with TLS, asked by a client of rustls.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use common::{Running, Workspace};
use esmm_serve::{Limits, tls_acceptor};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

#[test]
fn requests_over_tls() {
    let workspace = Workspace::new(3);
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificates, key) = (workspace.path("cert.pem"), workspace.path("key.pem"));
    std::fs::write(&certificates, certified.cert.pem()).unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let tls = tls_acceptor(&certificates, &key).unwrap();
    let service = Running::start_with(&workspace, Limits::default(), None, Some(tls));

    let client = |roots: RootCertStore| {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut socket = TcpStream::connect(service.address).unwrap();
        let mut stream = Stream::new(&mut connection, &mut socket);
        stream.write_all(b"GET /health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        std::io::Result::Ok(text)
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certified.cert.der().to_vec())).unwrap();
    assert!(client(roots.clone()).unwrap().starts_with("HTTP/1.1 200"));
    assert!(client(RootCertStore::empty()).is_err(), "a client that does not know the certificate");
    // A client that speaks no TLS harms nobody.
    let mut plain = service.connect();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    let _ = plain.read_to_end(&mut bytes);
    assert!(!bytes.starts_with(b"HTTP"));
    assert!(client(roots).unwrap().starts_with("HTTP/1.1 200"));
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&key, other.signing_key.serialize_pem()).unwrap();
    let error = tls_acceptor(&certificates, &key).err().unwrap();
    assert!(error.contains("cert.pem") && error.contains("key.pem"), "{error}");
}
