//! Keys that sign whatever a test asks for, right or wrong.

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    RsaKeyPair as RsaSigner,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// One RSA key for all tests: making one takes a while.
static RSA: LazyLock<RsaSigner> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());

enum Private {
    Rsa,
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A private key, and the JWK of its public part.
pub(in crate::verify) struct Signer {
    private: Private,
    pub(in crate::verify) algorithm: &'static str,
    pub(in crate::verify) key_id: Option<String>,
    pub(in crate::verify) jwk: Value,
}

impl Signer {
    pub(in crate::verify) fn es256(key_id: &str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y), "kid": key_id});
        Self { private: Private::Ec(key), algorithm: "ES256", key_id: Some(key_id.to_owned()), jwk }
    }

    pub(in crate::verify) fn es384(key_id: &str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let (x, y) = key.public_key().as_ref()[1..].split_at(48);
        let jwk = json!({"kty": "EC", "crv": "P-384", "x": encode(x), "y": encode(y), "kid": key_id});
        Self { private: Private::Ec(key), algorithm: "ES384", key_id: Some(key_id.to_owned()), jwk }
    }

    pub(in crate::verify) fn ed25519(key_id: &str, algorithm: &'static str) -> Self {
        let key = Ed25519KeyPair::generate().unwrap();
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(key.public_key().as_ref()), "kid": key_id});
        Self { private: Private::Ed25519(key), algorithm, key_id: Some(key_id.to_owned()), jwk }
    }

    pub(in crate::verify) fn rsa(key_id: &str, algorithm: &'static str) -> Self {
        let public = RSA.public_key();
        let (n, e) = (public.modulus().big_endian_without_leading_zero(), public.exponent());
        let jwk = json!({
            "kty": "RSA", "n": encode(n), "e": encode(e.big_endian_without_leading_zero()), "kid": key_id, "use": "sig"
        });
        Self { private: Private::Rsa, algorithm, key_id: Some(key_id.to_owned()), jwk }
    }

    /// The same key without a name, in its tokens and in the set.
    pub(in crate::verify) fn nameless(mut self) -> Self {
        self.key_id = None;
        self.jwk.as_object_mut().unwrap().remove("kid");
        self
    }

    /// A token with this key's own header.
    pub(in crate::verify) fn sign(&self, claims: &Value) -> String {
        self.sign_with(json!({}), claims)
    }

    /// A token whose header has these members as well, or instead.
    pub(in crate::verify) fn sign_with(&self, members: Value, claims: &Value) -> String {
        let mut header = json!({"alg": self.algorithm});
        if let Some(key_id) = &self.key_id {
            header["kid"] = key_id.as_str().into();
        }
        for (name, value) in members.as_object().unwrap() {
            header[name] = value.clone();
        }
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// A token of these very texts.
    pub(in crate::verify) fn sign_text(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", encode(header.as_bytes()), encode(payload.as_bytes()));
        let signature = encode(&self.signature(&signed));
        format!("{signed}.{signature}")
    }

    pub(in crate::verify) fn signature(&self, signed: &str) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.private {
            Private::Ec(key) => key.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
            Private::Ed25519(key) => key.sign(signed.as_bytes()).as_ref().to_vec(),
            Private::Rsa => {
                let mut signature = vec![0; RSA.public_modulus_len()];
                RSA.sign(self.padding(), &random, signed.as_bytes(), &mut signature).unwrap();
                signature
            }
        }
    }

    fn padding(&self) -> &'static dyn RsaEncoding {
        match self.algorithm {
            "RS256" => &RSA_PKCS1_SHA256,
            "RS384" => &RSA_PKCS1_SHA384,
            "RS512" => &RSA_PKCS1_SHA512,
            "PS256" => &RSA_PSS_SHA256,
            "PS384" => &RSA_PSS_SHA384,
            "PS512" => &RSA_PSS_SHA512,
            other => panic!("{other} is not RSA"),
        }
    }
}

pub(in crate::verify) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(in crate::verify) fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}
