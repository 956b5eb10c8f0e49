//! Issuers of JWTs, with keys made by openssl.

use std::process::Command;
use std::sync::{Arc, Mutex};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Where a Kubernetes cluster says that its tokens come from.
pub const CLUSTER: &str = "https://kubernetes.default.svc.cluster.local";
/// What the gateway is called in them.
pub const AUDIENCE: &str = "whatsapp-gateway";

/// A key that signs.
pub struct Signer {
    pub kid: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
}

fn openssl(folder: &TempDir, arguments: &str) {
    let output =
        Command::new("openssl").current_dir(folder.path()).args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{arguments}: {output:?}");
}

impl Signer {
    /// A new key for this algorithm.
    pub fn new(kid: &'static str, algorithm: Algorithm) -> Self {
        let folder = TempDir::new().unwrap();
        let read = |name| std::fs::read(folder.path().join(name)).unwrap();
        let generate = |made| {
            openssl(&folder, &format!("genpkey -out pem -algorithm {made}"));
            openssl(&folder, "pkcs8 -topk8 -nocrypt -in pem -outform DER -out key");
        };
        let key = if algorithm == Algorithm::RS256 {
            generate("RSA -pkeyopt rsa_keygen_bits:2048");
            openssl(&folder, "rsa -in pem -traditional -outform DER -out pkcs1");
            EncodingKey::from_rsa_der(&read("pkcs1"))
        } else if algorithm == Algorithm::ES256 {
            generate("EC -pkeyopt ec_paramgen_curve:P-256");
            EncodingKey::from_ec_der(&read("key"))
        } else {
            generate("ED25519");
            EncodingKey::from_ed_der(&read("key"))
        };
        Self { kid, algorithm, key }
    }

    /// The public half, as a set has it.
    pub fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.kid.to_owned());
        serde_json::to_value(jwk).unwrap()
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.to_owned()), ..Header::new(self.algorithm) };
        self.sign_under(&header, claims)
    }

    /// A token with this header.
    pub fn sign_under(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.key).unwrap()
    }
}

/// The set of these keys.
pub fn jwks(signers: &[&Signer]) -> String {
    json!({"keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()}).to_string()
}

/// What a projected token of a Kubernetes service account says, from `now` on for an hour; seconds since 1970.
pub fn service_account(namespace: &str, name: &str, now: u64) -> Value {
    json!({
        "aud": [AUDIENCE],
        "exp": now + 3600,
        "iat": now,
        "iss": CLUSTER,
        "jti": "7c26f2e5-0b5c-4d4c-8e63-6f5b3a2f8a10",
        "kubernetes.io": {
            "namespace": namespace,
            "node": {"name": "node-1", "uid": "3a0b1d6c-1111-4c6e-9d6a-0c5d5a1f0b01"},
            "pod": {"name": format!("{name}-7d9c6b5f4d-x2x7k"), "uid": "5e0f6b1a-2222-4a1b-8f9a-1c2d3e4f5a6b"},
            "serviceaccount": {"name": name, "uid": "9b8c7d6e-3333-4f5e-a1b2-c3d4e5f60718"},
        },
        "nbf": now,
        "sub": format!("system:serviceaccount:{namespace}:{name}"),
    })
}

/// The same claims with some of them replaced; `null` takes one out.
pub fn with(mut claims: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// Serves a set of keys by HTTP, to whoever has the right bearer token.
pub struct KeyServer {
    pub url: String,
    answer: Arc<Mutex<String>>,
    _serving: JoinSet<()>,
}

impl KeyServer {
    pub async fn start(bearer: &'static str, answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/openid/v1/jwks", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(answer));
        let current = Arc::clone(&answer);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 4096];
                let length = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..length]).to_ascii_lowercase();
                let is_right = head.contains(&format!("authorization: bearer {bearer}\r\n"));
                let status = if is_right { "200 OK" } else { "403 Forbidden" };
                let body = current.lock().unwrap().clone();
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                drop(stream.write_all(answer.as_bytes()).await);
            }
        });
        Self { url, answer, _serving: serving }
    }

    pub fn says(&self, answer: String) {
        *self.answer.lock().unwrap() = answer;
    }
}
