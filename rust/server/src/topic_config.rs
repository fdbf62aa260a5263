//! From a topic's settings, as text under Kafka's names, to what its log is told.
//!
//! A setting is looked up in the topic's dynamic configs, then under the name it has for brokers
//! (`log.retention.ms`, `message.max.bytes`, ...) in this broker's dynamic configs, in those of all
//! brokers and in what this one was started with, then the log's default holds. Values were checked
//! before they were proposed; one that does not parse here is skipped, with the default, because a
//! log that exists must open.

use mqlog_log::LogConfig;
use mqlog_meta::{Configs, Image, RESOURCE_BROKER, RESOURCE_TOPIC};

use crate::config::{boolean, number, BrokerConfig, ConfigError};
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
pub fn log_config(topic: &str, image: &Image, broker: &BrokerConfig) -> LogConfig {
    let mut config = LogConfig {
        essential: internal(topic),
        ..LogConfig::default()
    };
    let own = image.configs(RESOURCE_TOPIC, topic);
    let node = broker.node_id.to_string();
    let brokers = [node.as_str(), ""].map(|name| image.configs(RESOURCE_BROKER, name));
    let layers = [
        brokers[0].map(|c| &**c),
        brokers[1].map(|c| &**c),
        Some(&broker.raw),
    ];
    for (name, broker_names) in BROKER_NAMES {
        let value = own.and_then(|own| own.get(name)).cloned();
        let value = value.or_else(|| broker_value(&layers, broker_names));
        if let Some(value) = value {
            let _ = set(&mut config, name, &value);
        }
    }
    config
}

fn broker_value(layers: &[Option<&Configs>], names: &[(&str, i64)]) -> Option<String> {
    names.iter().find_map(|(name, factor)| {
        let value = layers.iter().flatten().find_map(|layer| layer.get(*name))?;
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

    fn broker(settings: &[(&str, &str)]) -> BrokerConfig {
        let mut config = BrokerConfig::new("unused", ([127, 0, 0, 1], 0).into());
        for (name, value) in settings {
            config.raw.insert((*name).to_owned(), (*value).to_owned());
        }
        config
    }

    fn dynamic(resource_type: i8, name: &str, key: &str, value: &str) -> MetaRecord {
        MetaRecord::Config {
            resource_type,
            name: name.into(),
            key: key.into(),
            value: Some(value.into()),
        }
    }

    #[test]
    fn a_topic_setting_wins_over_the_brokers_and_that_over_the_default() {
        let mut image = image();
        let retention = |image: &Image, settings: &[(&str, &str)]| {
            log_config("t", image, &broker(settings)).retention_ms
        };
        assert_eq!(log_config("t", &image, &broker(&[])), LogConfig::default());
        let hours = [("log.retention.hours", "2"), ("message.max.bytes", "5000")];
        assert_eq!(retention(&image, &hours), 7_200_000);
        let both = [("log.retention.hours", "2"), ("log.retention.ms", "9")];
        assert_eq!(retention(&image, &both), 9);
        for (kind, name, key, value) in [
            (RESOURCE_BROKER, "", "log.retention.ms", 10),
            (RESOURCE_BROKER, "1", "log.retention.ms", 11),
            (RESOURCE_TOPIC, "t", "retention.ms", -1),
        ] {
            let record = dynamic(kind, name, key, &value.to_string());
            image.apply(&record).unwrap();
            assert_eq!(retention(&image, &both), value);
        }
        let other = dynamic(RESOURCE_BROKER, "2", "message.max.bytes", "7");
        image.apply(&other).unwrap();
        let resolved = log_config("t", &image, &broker(&hours));
        assert_eq!(resolved.max_message_bytes, 5000);
    }

    #[test]
    fn a_value_that_makes_no_sense_leaves_the_default() {
        let broker = broker(&[("log.segment.bytes", "many")]);
        assert_eq!(log_config("t", &image(), &broker), LogConfig::default());
    }
}
