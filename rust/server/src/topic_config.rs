//! From a topic's settings, as text under Kafka's names, to what its log is told.
//!
//! A setting is looked up in the topic's dynamic configs, then in the broker's under the name it
//! has there (`log.retention.ms`, `message.max.bytes`, ...), then the log's default holds. Values
//! were checked before they were proposed; one that does not parse here is skipped, with the
//! default, because a log that exists must open.

use std::collections::BTreeMap;

use mqlog_log::LogConfig;
use mqlog_meta::{Configs, Image, RESOURCE_BROKER, RESOURCE_TOPIC};

use crate::config::{boolean, number, ConfigError};
use crate::metadata::internal;

/// Name of a topic setting, and its names as a broker-wide default, the first set one counting.
/// The numbers are the factors to milliseconds of the broker's names.
const BROKER_NAMES: [(&str, &[(&str, i64)]); 13] = [
    ("segment.bytes", &[("log.segment.bytes", 1)]),
    (
        "segment.ms",
        &[("log.roll.ms", 1), ("log.roll.hours", 3_600_000)],
    ),
    ("index.interval.bytes", &[("log.index.interval.bytes", 1)]),
    (
        "retention.ms",
        &[
            ("log.retention.ms", 1),
            ("log.retention.minutes", 60_000),
            ("log.retention.hours", 3_600_000),
        ],
    ),
    ("retention.bytes", &[("log.retention.bytes", 1)]),
    (
        "file.delete.delay.ms",
        &[("log.segment.delete.delay.ms", 1)],
    ),
    ("max.message.bytes", &[("message.max.bytes", 1)]),
    (
        "message.timestamp.type",
        &[("log.message.timestamp.type", 1)],
    ),
    (
        "message.timestamp.before.max.ms",
        &[("log.message.timestamp.before.max.ms", 1)],
    ),
    (
        "message.timestamp.after.max.ms",
        &[("log.message.timestamp.after.max.ms", 1)],
    ),
    ("flush.ms", &[("log.flush.interval.ms", 1)]),
    ("cleanup.policy", &[("log.cleanup.policy", 1)]),
    ("mqlog.validate", &[("mqlog.validate", 1)]),
];

/// The settings of one topic, resolved.
pub fn log_config(topic: &str, image: &Image, raw: &BTreeMap<String, String>) -> LogConfig {
    let mut config = LogConfig {
        essential: internal(topic),
        ..LogConfig::default()
    };
    let own = image.configs(RESOURCE_TOPIC, topic);
    let cluster = image.configs(RESOURCE_BROKER, "");
    for (name, broker_names) in BROKER_NAMES {
        let value = own.and_then(|own| own.get(name)).cloned();
        let value = value.or_else(|| broker_value(cluster.map(|c| &**c), raw, broker_names));
        if let Some(value) = value {
            let _ = set(&mut config, name, &value);
        }
    }
    config
}

fn broker_value(
    dynamic: Option<&Configs>,
    raw: &BTreeMap<String, String>,
    names: &[(&str, i64)],
) -> Option<String> {
    names.iter().find_map(|(name, factor)| {
        let value = dynamic
            .and_then(|d| d.get(*name))
            .or_else(|| raw.get(*name))?;
        match (factor, value.parse::<i64>()) {
            (1, _) | (_, Err(_)) | (_, Ok(-1)) => Some(value.clone()),
            (factor, Ok(n)) => Some(n.saturating_mul(*factor).to_string()),
        }
    })
}

/// Applies one topic setting; names without an effect on the log are accepted.
pub fn set(config: &mut LogConfig, name: &str, value: &str) -> Result<(), ConfigError> {
    match name {
        "segment.bytes" => config.segment_bytes = number(name, value, 1u32)?,
        "segment.ms" => config.segment_ms = number(name, value, 1)?,
        "index.interval.bytes" => config.index_interval_bytes = number(name, value, 0u32)?,
        "retention.ms" => config.retention_ms = number(name, value, -1)?,
        "retention.bytes" => config.retention_bytes = number(name, value, -1)?,
        "file.delete.delay.ms" => config.file_delete_delay_ms = number(name, value, 0)?,
        "max.message.bytes" => config.max_message_bytes = number(name, value, 0usize)?,
        "message.timestamp.type" => config.log_append_time = value == "LogAppendTime",
        "message.timestamp.before.max.ms" => config.ts_before_max_ms = number(name, value, 0)?,
        "message.timestamp.after.max.ms" => config.ts_after_max_ms = number(name, value, 0)?,
        "cleanup.policy" => config.compact = value.split(',').any(|p| p.trim() == "compact"),
        "mqlog.validate" => config.validate_records = value == "records",
        "flush.ms" => {
            // Kafka's default is "never"; this broker bounds it, and says so in its docs.
            let ms: i64 = number(name, value, 0)?;
            config.flush_ms = if ms == i64::MAX { config.flush_ms } else { ms };
        }
        "preallocate" => {
            boolean(name, value)?;
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqlog_meta::MetaRecord;

    fn image() -> Image {
        let mut image = Image::default();
        image
            .apply(&MetaRecord::Topic {
                id: [1; 16],
                name: "t".into(),
            })
            .unwrap();
        image
    }

    #[test]
    fn a_topic_setting_wins_over_the_brokers_and_that_over_the_default() {
        let mut image = image();
        let mut raw = BTreeMap::new();
        assert_eq!(log_config("t", &image, &raw), LogConfig::default());
        raw.insert("log.retention.hours".to_owned(), "2".to_owned());
        raw.insert("message.max.bytes".to_owned(), "5000".to_owned());
        assert_eq!(log_config("t", &image, &raw).retention_ms, 7_200_000);
        raw.insert("log.retention.ms".to_owned(), "9".to_owned());
        assert_eq!(log_config("t", &image, &raw).retention_ms, 9);
        let config = MetaRecord::Config {
            resource_type: RESOURCE_TOPIC,
            name: "t".into(),
            key: "retention.ms".into(),
            value: Some("-1".into()),
        };
        image.apply(&config).unwrap();
        let resolved = log_config("t", &image, &raw);
        assert_eq!(
            (resolved.retention_ms, resolved.max_message_bytes),
            (-1, 5000)
        );
    }

    #[test]
    fn a_value_that_makes_no_sense_leaves_the_default() {
        let raw = BTreeMap::from([("log.segment.bytes".to_owned(), "many".to_owned())]);
        assert_eq!(log_config("t", &image(), &raw), LogConfig::default());
    }
}
