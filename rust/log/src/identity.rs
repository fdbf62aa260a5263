//! `mqlog.json`: whose directory this is.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::Path;

use mqlog_record::crc32c;

use crate::atomic_file;
use crate::disk::{read_file, Disk};
use crate::LogError;

/// The format of everything below the directory.
const FORMAT: u32 = 1;
const NAME: &str = "mqlog.json";
const LIMIT: u64 = 64 << 10;

/// Who a data directory belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Cluster id: 22 characters, unless the user chose one.
    pub cluster_id: String,
    /// Node id.
    pub node_id: i32,
    /// This directory's own id: 22 characters.
    pub directory_id: String,
}

/// A random id in Kafka's form: 16 bytes, base64 without padding. Not for secrets.
pub fn random_id() -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // The standard library seeds these from the system.
    let random = || u128::from(RandomState::new().build_hasher().finish());
    let bits = random() << 64 | random();
    let digit = |n: u32| {
        let shifted = if n == 21 {
            bits << 4
        } else {
            bits >> (122 - 6 * n)
        };
        DIGITS
            .get((shifted & 63) as usize)
            .map_or('A', |digit| char::from(*digit))
    };
    let id: String = (0..22).map(digit).collect();
    // A leading '-' reads like an option on a command line.
    if id.starts_with('-') {
        return random_id();
    }
    id
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

impl Identity {
    fn crc(&self) -> u32 {
        let fields = [
            FORMAT.to_string(),
            self.cluster_id.clone(),
            self.node_id.to_string(),
            self.directory_id.clone(),
        ];
        crc32c(fields.join("\n").as_bytes())
    }

    pub(crate) fn encode(&self) -> String {
        format!(
            "{{\n  \"format\": {FORMAT},\n  \"cluster_id\": \"{}\",\n  \"node_id\": {},\n  \
             \"directory_id\": \"{}\",\n  \"crc32c\": {}\n}}\n",
            escape(&self.cluster_id),
            self.node_id,
            escape(&self.directory_id),
            self.crc()
        )
    }

    pub(crate) fn decode(path: &Path, text: &str) -> Result<Identity, LogError> {
        let damaged = |reason: &str| LogError::Damaged {
            path: path.to_path_buf(),
            reason: format!("{reason}; restore it from a backup of the directory"),
        };
        let fields = parse_object(text).ok_or_else(|| damaged("it is not a JSON object"))?;
        let field = |name: &str| {
            let found = fields.iter().find(|(key, _)| key == name);
            let missing = || damaged(&format!("{name} is missing"));
            found.map(|(_, value)| value.clone()).ok_or_else(missing)
        };
        let number = |name: &str| -> Result<i64, LogError> {
            let not = |_| damaged(&format!("{name} is not a number"));
            field(name)?.parse().map_err(not)
        };
        let format = number("format")?;
        if format > i64::from(FORMAT) {
            return Err(LogError::Version {
                path: path.to_path_buf(),
                found: u32::try_from(format).unwrap_or(u32::MAX),
                known: FORMAT,
            });
        }
        let node_id = i32::try_from(number("node_id")?).map_err(|_| damaged("node_id"))?;
        let identity = Identity {
            cluster_id: field("cluster_id")?,
            node_id,
            directory_id: field("directory_id")?,
        };
        if number("crc32c")? != i64::from(identity.crc()) {
            return Err(damaged("its checksum is wrong"));
        }
        Ok(identity)
    }

    /// Reads the file, or writes it for a new directory. True: it was there.
    pub(crate) fn open(
        disk: &dyn Disk,
        dir: &Path,
        cluster_id: Option<&str>,
        node_id: i32,
    ) -> Result<(Identity, bool), LogError> {
        let path = dir.join(NAME);
        match read_file(disk, &path, LIMIT) {
            Ok(bytes) => {
                let identity = Identity::decode(&path, &String::from_utf8_lossy(&bytes))?;
                if identity.node_id != node_id {
                    return Err(LogError::WrongNode {
                        path: dir.to_path_buf(),
                        found: identity.node_id,
                        wanted: node_id,
                    });
                }
                Ok((identity, true))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Identity::create(disk, dir, &path, cluster_id, node_id).map(|made| (made, false))
            }
            Err(error) => Err(LogError::io("read", &path, error)),
        }
    }

    fn create(
        disk: &dyn Disk,
        dir: &Path,
        path: &Path,
        cluster_id: Option<&str>,
        node_id: i32,
    ) -> Result<Identity, LogError> {
        // Without its identity a directory with logs in it is not taken for a new one.
        for name in ["topics", "meta", "checkpoint"] {
            let inside = dir.join(name);
            let there = disk
                .exists(&inside)
                .map_err(|e| LogError::io("look at", &inside, e))?;
            let empty = there && disk.list(&inside).is_ok_and(|names| names.is_empty());
            if there && !empty {
                return Err(LogError::Damaged {
                    path: path.to_path_buf(),
                    reason: format!(
                        "it is missing beside {name}; restore it from a backup of the directory"
                    ),
                });
            }
        }
        let identity = Identity {
            cluster_id: cluster_id.map_or_else(random_id, str::to_owned),
            node_id,
            directory_id: random_id(),
        };
        atomic_file::replace(disk, path, identity.encode().as_bytes())
            .map_err(|error| LogError::io("write", path, error))?;
        Ok(identity)
    }
}

/// A flat JSON object of strings and numbers, as pairs of text.
fn parse_object(text: &str) -> Option<Vec<(String, String)>> {
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (key, after) = parse_string(rest)?;
        rest = after.trim_start().strip_prefix(':')?.trim_start();
        let (value, after) = if rest.starts_with('"') {
            parse_string(rest)?
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let (number, after) = rest.split_at(end);
            (number.trim().to_owned(), after)
        };
        fields.push((key, value));
        rest = after.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None if rest.is_empty() => rest,
            None => return None,
        };
    }
    Some(fields)
}

fn parse_string(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.strip_prefix('"')?.char_indices();
    let body = text.get(1..)?;
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, body.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'u' => {
                    let digits: String = (0..4).map_while(|_| chars.next()).map(|d| d.1).collect();
                    out.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
                }
                escaped @ ('"' | '\\' | '/') => out.push(escaped),
                _ => return None,
            },
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let identity = Identity {
            cluster_id: "a \"quoted\\ \u{1} name".to_owned(),
            node_id: -7,
            directory_id: random_id(),
        };
        let text = identity.encode();
        assert_eq!(Identity::decode(Path::new("x"), &text).unwrap(), identity);
        let other = text.replace("-7", "-8");
        let error = Identity::decode(Path::new("x"), &other)
            .unwrap_err()
            .to_string();
        assert!(error.contains("checksum"), "{error}");
        let newer = text.replace("\"format\": 1", "\"format\": 2");
        let error = Identity::decode(Path::new("x"), &newer).unwrap_err();
        assert!(matches!(
            error,
            LogError::Version {
                found: 2,
                known: 1,
                ..
            }
        ));
    }

    #[test]
    fn ids_are_22_characters_and_differ() {
        let ids: std::collections::HashSet<String> = (0..1000).map(|_| random_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 22));
    }
}
