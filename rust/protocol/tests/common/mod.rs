//! Kafka's own frames: `tests/fixtures/frames`, one message in one version a line.

use std::path::Path;

/// A message as Kafka's Java classes encoded it.
pub struct Golden {
    pub name: String,
    pub version: i16,
    pub body: Vec<u8>,
}

/// Every golden frame there is.
pub fn all() -> Vec<Golden> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/frames");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        for line in std::fs::read_to_string(entry.unwrap().path())
            .unwrap()
            .lines()
        {
            let words: Vec<_> = line.split('\t').collect();
            found.push(Golden {
                name: words[0].to_owned(),
                version: words[1].parse().unwrap(),
                body: from_hex(words[3]),
            });
        }
    }
    found.sort_by_key(|golden| (golden.name.clone(), golden.version));
    found
}

/// The golden frames of one message.
#[allow(dead_code)]
pub fn of(name: &str) -> Vec<Golden> {
    all()
        .into_iter()
        .filter(|golden| golden.name == name)
        .collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    digits
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}
