//! Real certificates, made by openssl.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

const CONFIG: &str = "
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
[ca]
default_ca = issuing
[issuing]
database = index
new_certs_dir = .
default_md = sha256
policy = any
rand_serial = yes
unique_subject = no
[any]
commonName = supplied
";

const LONG_AGO: &str = "20200101000000Z";
const FAR_OFF: &str = "20990101000000Z";

/// An authority with a folder of its own.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Issued {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("openssl.cnf"), CONFIG).unwrap();
        std::fs::write(folder.path().join("index"), "").unwrap();
        let authority = Self { folder };
        authority.new_key("ca", &["-x509", "-days", "2", "-extensions", "authority", "-out", "ca.pem"]);
        authority
    }

    /// One of its own, as authorities have.
    fn name(&self) -> String {
        self.folder.path().file_name().unwrap().display().to_string()
    }

    /// Its own certificate.
    pub fn cert(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate with these subject alternative names, such as `URI:spiffe://a/b,DNS:b.example`.
    pub fn issue(&self, file: &str, names: &str) -> Issued {
        self.issue_between(file, names, LONG_AGO, FAR_OFF)
    }

    /// One that was valid for a year, some years ago.
    pub fn issue_expired(&self, file: &str, names: &str) -> Issued {
        self.issue_between(file, names, LONG_AGO, "20210101000000Z")
    }

    /// One that will be valid, far from now.
    pub fn issue_early(&self, file: &str, names: &str) -> Issued {
        self.issue_between(file, names, FAR_OFF, "20991231000000Z")
    }

    /// For a gateway on loopback.
    pub fn issue_server(&self, file: &str) -> Issued {
        self.issue(file, "IP:127.0.0.1")
    }

    fn issue_between(&self, file: &str, names: &str, start: &str, end: &str) -> Issued {
        let [request, cert, names_file] = ["csr", "pem", "names"].map(|ending| format!("{file}.{ending}"));
        let extensions = format!("[leaf]\nsubjectAltName = {names}\n");
        std::fs::write(self.folder.path().join(&names_file), extensions).unwrap();
        self.new_key(file, &["-out", &request]);
        let authority =
            ["ca", "-batch", "-notext", "-config", "openssl.cnf", "-cert", "ca.pem", "-keyfile", "ca.key"];
        let wanted = ["-startdate", start, "-enddate", end, "-extensions", "leaf", "-extfile", &names_file];
        self.openssl(&[&authority[..], &wanted[..], &["-in", &request, "-out", &cert]].concat());
        let path = |name: String| self.folder.path().join(name);
        Issued { cert: path(cert), key: path(format!("{file}.key")) }
    }

    /// A new key, and with it what the further arguments ask for.
    fn new_key(&self, file: &str, arguments: &[&str]) {
        let (key, subject) = (format!("{file}.key"), format!("/CN={file} of {}", self.name()));
        let request = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let names = ["-config", "openssl.cnf", "-subj", &subject, "-keyout", &key];
        self.openssl(&[&request[..], &names[..], arguments].concat());
    }

    fn openssl(&self, arguments: &[&str]) {
        let output =
            Command::new("openssl").current_dir(self.folder.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
}
