//! The controller's own certificate authority, and its server certificate.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

use crate::durable::{self, private_folder};

/// The name that agents verify, whatever the address they dial.
pub(crate) const SERVER_NAME: &str = "margay-controller";

/// What connections are made with and accepted by; changes as certificates are renewed.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    /// For those who connect to us.
    pub(crate) server: Arc<ServerConfig>,
    /// Certificates of the authorities to trust in, PEM.
    pub(crate) certificates: String,
    /// What other replicas show; our own first. Empty if there can be none.
    pub(crate) passwords: Vec<String>,
}

impl Credentials {
    /// For a controller that is alone.
    pub(crate) fn alone(server: ServerConfig) -> Self {
        Self {
            server: Arc::new(server),
            certificates: String::new(),
            passwords: Vec::new(),
        }
    }
}

/// A certificate authority: both parts in PEM.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    /// What agents need.
    pub(crate) certificate: String,
    /// Its private key.
    pub(crate) key: String,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

/// TLS settings with a fresh server certificate, signed by the authority in `folder`, which is made on
/// the first start: `ca.pem` is what agents need, `ca-key.pem` stays here.
///
/// # Errors
/// If the files cannot be read or written, or hold something else.
pub(crate) fn config(folder: &Path) -> anyhow::Result<ServerConfig> {
    private_folder(folder)?;
    let key_path = folder.join("ca-key.pem");
    let key = match fs::read_to_string(&key_path) {
        Ok(pem) => KeyPair::from_pem(&pem).with_context(|| {
            format!("{} does not hold a private key in PEM", key_path.display())
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate().context("cannot make a key")?;
            write_secret(&key_path, &key.serialize_pem())
                .with_context(|| format!("cannot write {}", key_path.display()))?;
            key
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", key_path.display()));
        }
    };
    let ca_path = folder.join("ca.pem");
    if !ca_path.exists() {
        let certificate = parameters()
            .self_signed(&key)
            .context("cannot sign the authority's certificate")?;
        durable::replace(&ca_path, certificate.pem().as_bytes())
            .with_context(|| format!("cannot write {}", ca_path.display()))?;
    }
    signed_by(key)
}

/// A new authority.
///
/// # Errors
/// If no key can be made.
pub(crate) fn authority() -> anyhow::Result<Authority> {
    let key = KeyPair::generate().context("cannot make a key")?;
    let certificate = parameters()
        .self_signed(&key)
        .context("cannot sign the authority's certificate")?;
    Ok(Authority {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// TLS settings with a fresh server certificate, signed by an authority.
///
/// # Errors
/// If its key is none.
pub(crate) fn server(authority: &Authority) -> anyhow::Result<ServerConfig> {
    let key = KeyPair::from_pem(&authority.key).context("the authority's key is none in PEM")?;
    signed_by(key)
}

fn signed_by(key: KeyPair) -> anyhow::Result<ServerConfig> {
    // Name and key are all that a certificate says of its issuer, so it need not be read back.
    let issuer = Issuer::new(parameters(), key);
    let server_key = KeyPair::generate().context("cannot make a key")?;
    let mut server = CertificateParams::new(vec![SERVER_NAME.to_owned()]).context("server name")?;
    server.distinguished_name = name(SERVER_NAME);
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let certificate = server
        .signed_by(&server_key, &issuer)
        .context("cannot sign the server's certificate")?;
    let private = PrivateKeyDer::try_from(server_key.serialize_der())
        .map_err(|reason| anyhow::anyhow!("the server's key: {reason}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS versions")?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .context("the server's certificate")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn parameters() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("margay-controller CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn write_secret(path: &Path, content: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}
