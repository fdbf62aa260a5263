//! SCRAM (RFC 5802) without channel binding, as Kafka speaks it: three messages from us, two from
//! the broker, each side proving to know the password without saying it.

use std::num::NonZeroU32;

use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};

/// Fewer rounds would give a password away; Kafka's least (RFC 7677).
const FEWEST_ROUNDS: u32 = 4096;
/// More would only keep us busy.
const MOST_ROUNDS: u32 = 1_000_000;
/// Longest message of a broker.
const LONGEST: usize = 16 * 1024;

/// What is hashed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn hmac(self) -> hmac::Algorithm {
        match self {
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha512 => &digest::SHA512,
        }
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Hash::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Hash::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }
}

/// An exchange before the broker's challenge.
#[derive(Debug)]
pub(crate) struct Scram {
    hash: Hash,
    nonce: String,
    first_bare: String,
}

/// An exchange before the broker's proof.
#[derive(Debug)]
pub(crate) struct Proven {
    server_key: hmac::Key,
    auth_message: String,
}

impl Scram {
    /// Begins an exchange; the first message.
    pub(crate) fn start(hash: Hash, user: &str) -> Result<(Scram, Vec<u8>), String> {
        let mut random = [0; 24];
        SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| "the system gives no random bytes".to_owned())?;
        Ok(Scram::with_nonce(hash, user, to_base64(&random)))
    }

    fn with_nonce(hash: Hash, user: &str, nonce: String) -> (Scram, Vec<u8>) {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={user},r={nonce}");
        let message = format!("n,,{first_bare}").into_bytes();
        let scram = Scram {
            hash,
            nonce,
            first_bare,
        };
        (scram, message)
    }

    /// Answers the challenge; the second message.
    pub(crate) fn respond(
        self,
        challenge: &[u8],
        password: &str,
    ) -> Result<(Proven, Vec<u8>), String> {
        let challenge = text(challenge)?;
        let mut parts = challenge.split(',');
        let nonce = part(parts.next(), "r=")?;
        let salt = from_base64(part(parts.next(), "s=")?).ok_or("its salt is not base64")?;
        let rounds: u32 = part(parts.next(), "i=")?
            .parse()
            .map_err(|_| "its number of rounds is none".to_owned())?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("its nonce does not go on from ours".to_owned());
        }
        let rounds = NonZeroU32::new(rounds)
            .filter(|rounds| (FEWEST_ROUNDS..=MOST_ROUNDS).contains(&rounds.get()))
            .ok_or(format!(
                "it asks for {rounds} rounds of hashing; {FEWEST_ROUNDS} to {MOST_ROUNDS} are done"
            ))?;

        let mut salted = [0; digest::MAX_OUTPUT_LEN];
        let salted = &mut salted[..self.hash.digest().output_len()];
        pbkdf2::derive(
            self.hash.pbkdf2(),
            rounds,
            &salt,
            password.as_bytes(),
            salted,
        );
        let salted = hmac::Key::new(self.hash.hmac(), salted);
        let client_key = hmac::sign(&salted, b"Client Key");
        let stored_key = digest::digest(self.hash.digest(), client_key.as_ref());
        // "biws" is "n,," in base64: no channel binding.
        let without_proof = format!("c=biws,r={nonce}");
        let auth_message = format!("{},{challenge},{without_proof}", self.first_bare);
        let signing = hmac::Key::new(self.hash.hmac(), stored_key.as_ref());
        let signature = hmac::sign(&signing, auth_message.as_bytes());
        let proof: Vec<u8> = client_key
            .as_ref()
            .iter()
            .zip(signature.as_ref())
            .map(|(key, signature)| key ^ signature)
            .collect();
        let server_key = hmac::sign(&salted, b"Server Key");
        let message = format!("{without_proof},p={}", to_base64(&proof)).into_bytes();
        let proven = Proven {
            server_key: hmac::Key::new(self.hash.hmac(), server_key.as_ref()),
            auth_message,
        };
        Ok((proven, message))
    }
}

impl Proven {
    /// Checks that the broker knows the password too.
    pub(crate) fn finish(&self, last: &[u8]) -> Result<(), String> {
        let last = text(last)?;
        let first = last.split(',').next();
        if let Some(error) = first.and_then(|part| part.strip_prefix("e=")) {
            return Err(error.to_owned());
        }
        let signature = from_base64(part(first, "v=")?).ok_or("its signature is not base64")?;
        hmac::verify(&self.server_key, self.auth_message.as_bytes(), &signature)
            .map_err(|_| "it does not know the password itself (wrong server signature)".to_owned())
    }
}

fn text(message: &[u8]) -> Result<&str, String> {
    if message.len() > LONGEST {
        return Err(format!(
            "it sent a SCRAM message of {} bytes",
            message.len()
        ));
    }
    std::str::from_utf8(message).map_err(|_| "it sent a SCRAM message that is no text".to_owned())
}

fn part<'a>(part: Option<&'a str>, name: &str) -> Result<&'a str, String> {
    part.and_then(|part| part.strip_prefix(name))
        .ok_or_else(|| format!("its SCRAM message lacks {name}"))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn to_base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            if digit <= group.len() {
                let value = bits >> (18 - 6 * digit) & 63;
                out.push(char::from(ALPHABET[value as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for group in digits.as_bytes().chunks(4) {
        let mut bits = 0u32;
        for digit in group {
            let value = ALPHABET.iter().position(|known| known == digit)?;
            bits = bits << 6 | u32::try_from(value).ok()?;
        }
        bits <<= 6 * (4 - group.len());
        out.extend(bits.to_be_bytes().get(1..group.len())?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677, section 3.
    #[test]
    fn the_example_of_the_standard() {
        let (scram, first) =
            Scram::with_nonce(Hash::Sha256, "user", "rOprNGfwEbeRWgbNEkqO".to_owned());
        assert_eq!(first, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let challenge = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (proven, second) = scram.respond(challenge, "pencil").unwrap();
        assert_eq!(
            String::from_utf8(second).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        let last = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        proven.finish(last).unwrap();
        let forged = b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert!(proven.finish(forged).unwrap_err().contains("signature"));
        assert_eq!(
            proven.finish(b"e=invalid-proof").unwrap_err(),
            "invalid-proof"
        );
    }

    #[test]
    fn challenges_that_are_none() {
        for (challenge, word) in [
            (&b"r=other,s=AAAA,i=4096"[..], "nonce"),
            (b"r=me,s=AAAA,i=4096", "nonce"),
            (b"r=meyou,s=AA,i=4096", "salt"),
            (b"r=meyou,s=AAAA,i=1", "rounds"),
            (b"r=meyou,s=AAAA,i=2000000000", "rounds"),
            (b"r=meyou,s=AAAA,i=-1", "rounds"),
            (b"m=new,r=meyou,s=AAAA,i=4096", "r="),
            (b"\xff", "text"),
            (b"", "r="),
        ] {
            let (scram, _) = Scram::with_nonce(Hash::Sha512, "u", "me".to_owned());
            let error = scram.respond(challenge, "p").unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn base64_there_and_back() {
        for length in 0..20u8 {
            let bytes: Vec<u8> = (0..length).map(|n| n.wrapping_mul(77)).collect();
            assert_eq!(from_base64(&to_base64(&bytes)), Some(bytes));
        }
        assert_eq!(to_base64(b"n,,"), "biws");
        assert_eq!(from_base64("a"), None);
        assert_eq!(from_base64("a==="), None);
        assert_eq!(from_base64("ab!="), None);
    }

    #[test]
    fn commas_in_a_name_are_escaped() {
        let (_, first) = Scram::with_nonce(Hash::Sha256, "a,b=c", "n".to_owned());
        assert_eq!(first, b"n,,n=a=2Cb=3Dc,r=n");
    }
}
