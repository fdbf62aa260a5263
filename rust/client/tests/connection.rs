//! Connections against brokers that do not behave.

#![allow(clippy::unwrap_used)]

mod peer;

use std::time::Duration;

use bytes::Bytes;
use mqlog_client::{ClientError, Purpose, Request};
use mqlog_protocol::messages::api_versions::{ApiVersionsResponse, ApiVersionsResponseVersion};
use mqlog_protocol::{ApiKey, ErrorCode};
use peer::{cluster, config, dead_port, run, serve, serve_all};

const LIMIT: Duration = Duration::from_secs(5);

fn request(body: &[u8]) -> Request {
    let body = vec![Bytes::copy_from_slice(body)];
    Request::new(ApiKey::Heartbeat, 0, body, LIMIT)
}

/// What comes of one request to a peer that runs `script` after the greeting.
fn ask(
    change: impl FnOnce(&mut mqlog_client::config::NetConfig),
    script: impl Fn(peer::Line) + Send + Sync + 'static,
) -> Result<Bytes, ClientError> {
    let port = serve_all(move |_, mut line| {
        line.greet();
        script(line);
    });
    let mut config = config(&[port]);
    change(&mut config);
    let cluster = cluster(config);
    run(&cluster, |cluster| async move {
        let connection = cluster.connection(-1, Purpose::General).await?;
        connection.send(request(b"?")).await
    })
}

#[test]
fn requests_are_answered_in_order() {
    let port = serve(|_, mut line| {
        line.greet();
        while let Some(asked) = line.next() {
            line.reply(&asked, &asked.body);
        }
    });
    let cluster = cluster(config(&[port]));
    let large = vec![7; 3_000_000];
    let answers = run(&cluster, |cluster| async move {
        let connection = cluster.connection(-1, Purpose::General).await.unwrap();
        let bodies = [&b"one"[..], b"", &large, b"four"];
        let pending: Vec<_> = bodies
            .iter()
            .map(|body| connection.send(request(body)))
            .collect();
        let mut answers = Vec::new();
        for one in pending {
            answers.push(one.await.unwrap());
        }
        answers
    });
    let lengths: Vec<_> = answers.iter().map(Bytes::len).collect();
    assert_eq!(lengths, [3, 0, 3_000_000, 4]);
    assert!(answers[2].iter().all(|byte| *byte == 7) && answers[3] == "four");
}

/// Numbers that look like chance and are the same in every run.
fn chances(mut seed: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % below
    }
}

#[test]
fn answers_are_put_together_wherever_they_are_cut() {
    const SIZES: [usize; 11] = [
        0, 1, 7, 16_375, 16_376, 16_377, 40_000, 70_000, 1_048_576, 1_048_577, 3_000_000,
    ];
    for seed in 0..4 {
        let port = serve(move |_, mut line| {
            line.greet();
            let mut all = Vec::new();
            for size in SIZES {
                let asked = line.next().unwrap();
                let body: Vec<u8> = (0..size).map(|at| (at * 31 + size) as u8).collect();
                all.extend(peer::framed(asked.api, asked.version, asked.id, &body));
            }
            let mut chance = chances(seed);
            let mut rest = &all[..];
            while !rest.is_empty() {
                let most = [3, 5_000, 20_000, 2_000_000][chance(4)];
                let (now, later) = rest.split_at(1 + chance(most.min(rest.len())));
                line.raw(now);
                rest = later;
                if chance(10) == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            line.next();
        });
        let cluster = cluster(config(&[port]));
        run(&cluster, move |cluster| async move {
            let connection = cluster.connection(-1, Purpose::General).await.unwrap();
            let ask =
                |size| connection.send(request(b"").expecting(if seed == 1 { size } else { 0 }));
            let pending: Vec<_> = SIZES.into_iter().map(|size| (size, ask(size))).collect();
            for (size, answer) in pending {
                let body = answer.await.unwrap();
                assert_eq!(body.len(), size);
                assert!((body.iter().enumerate()).all(|(at, byte)| *byte == (at * 31 + size) as u8));
            }
        });
    }
}

#[test]
fn whatever_a_broker_sends_ends_in_an_answer_or_an_error() {
    let port = serve_all(|number, mut line| {
        let mut chance = chances(number as u64);
        let asked = line.next().unwrap();
        let mut bytes = peer::framed(asked.api, asked.version, asked.id, &peer::api_versions(4));
        for _ in 0..=chance(4) {
            let at = chance(bytes.len());
            match chance(3) {
                0 => bytes[at] ^= 1 << chance(8),
                1 => bytes[at] = chance(256) as u8,
                _ => bytes.truncate(at.max(1)),
            }
        }
        line.raw(&bytes);
        // Closed here, at once.
    });
    let mut config = config(&[port]);
    config.reconnect_backoff = Duration::ZERO;
    config.reconnect_backoff_max = Duration::ZERO;
    let cluster = cluster(config);
    run(&cluster, |cluster| async move {
        for _ in 0..300 {
            if let Ok(opened) = cluster.connection(-1, Purpose::General).await {
                let error = opened.send(request(b"")).await.unwrap_err().to_string();
                assert!(error.contains("127.0.0.1:"), "{error}");
            }
        }
    });
}

#[test]
fn a_dropped_future_leaves_no_hole() {
    let port = serve(|_, mut line| {
        line.greet();
        while let Some(asked) = line.next() {
            line.reply(&asked, &asked.body);
        }
    });
    let cluster = cluster(config(&[port]));
    let answer = run(&cluster, |cluster| async move {
        let connection = cluster.connection(-1, Purpose::General).await.unwrap();
        drop(connection.send(request(b"given up")));
        connection.send(request(b"wanted")).await
    });
    assert_eq!(answer.unwrap(), "wanted");
}

#[test]
fn a_request_without_an_answer_ends_when_it_is_written() {
    let port = serve(|_, mut line| {
        line.greet();
        let silent = line.next().unwrap();
        let asked = line.next().unwrap();
        line.reply(&asked, &silent.body);
    });
    let cluster = cluster(config(&[port]));
    let (first, second) = run(&cluster, |cluster| async move {
        let connection = cluster.connection(-1, Purpose::General).await.unwrap();
        let large = vec![1; 5_000_000];
        let first = connection.send(request(&large).unanswered()).await;
        (first, connection.send(request(b"")).await)
    });
    assert_eq!(first.unwrap(), "");
    assert_eq!(second.unwrap().len(), 5_000_000);
}

#[test]
fn a_wrong_correlation_id_is_named() {
    let error = ask(
        |_| (),
        |mut line| {
            let asked = line.next().unwrap();
            let frame = peer::framed(asked.api, asked.version, asked.id + 1, b"");
            line.raw(&frame);
        },
    );
    let text = error.unwrap_err().to_string();
    assert!(text.contains("correlation id 3 instead of 2"), "{text}");
    assert!(text.starts_with("127.0.0.1:"), "{text}");
}

#[test]
fn bytes_that_nobody_asked_for_end_the_connection() {
    let port = serve(|_, mut line| {
        line.greet();
        line.raw(&peer::framed(ApiKey::Heartbeat, 0, 2, b""));
        line.next();
    });
    let cluster = cluster(config(&[port]));
    let error = run(&cluster, |cluster| async move {
        let connection = cluster.connection(-1, Purpose::General).await?;
        while connection.is_open() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        connection.send(request(b"")).await
    });
    let text = error.unwrap_err().to_string();
    assert!(text.contains("nobody asked for"), "{text}");
}

#[test]
fn lengths_that_are_none_are_refused() {
    for (length, word) in [
        (-1, "an answer of -1 bytes"),
        (3, "an answer of 3 bytes"),
        (200_000_000, "above receive_message_max_bytes=100000000"),
    ] {
        let error = ask(
            |_| (),
            move |mut line| {
                line.next();
                line.raw(&i32::to_be_bytes(length));
                line.next();
            },
        );
        let text = error.unwrap_err().to_string();
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn one_byte_a_second_is_late() {
    let port = serve_all(|_, mut line| {
        line.greet();
        line.next();
        line.raw(&[0, 0, 1, 0]);
        for _ in 0..100 {
            line.raw(&[0]);
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let cluster = cluster(config(&[port]));
    let error = run(&cluster, |cluster| async move {
        let connection = cluster.connection(-1, Purpose::General).await?;
        let mut short = request(b"");
        short.timeout = Duration::from_millis(200);
        connection.send(short).await
    });
    let text = error.unwrap_err().to_string();
    assert!(
        text.contains("within 200 ms (request_timeout_ms)"),
        "{text}"
    );
}

#[test]
fn a_request_without_answer_closes_the_connection_in_time() {
    let port = serve_all(|_, mut line| {
        line.greet();
        while line.next().is_some() {}
    });
    let cluster = cluster(config(&[port]));
    let (first, second, open) = run(&cluster, |cluster| async move {
        let connection = cluster.connection(-1, Purpose::General).await.unwrap();
        let mut short = request(b"");
        short.timeout = Duration::from_millis(100);
        let (first, second) = (connection.send(request(b"")), connection.send(short));
        (first.await, second.await, connection.is_open())
    });
    let text = second.unwrap_err().to_string();
    assert!(
        text.contains("no answer to Heartbeat within 100 ms (request_timeout_ms)"),
        "{text}"
    );
    assert!(first.unwrap_err().is_retriable());
    assert!(!open);
}

#[test]
fn a_cut_in_the_middle_of_an_answer_says_so() {
    let error = ask(
        |_| (),
        |mut line| {
            let asked = line.next().unwrap();
            let frame = peer::framed(asked.api, asked.version, asked.id, &[1; 100]);
            line.raw(&frame[..50]);
        },
    );
    let error = error.unwrap_err();
    assert!(error.is_retriable(), "{error}");
    assert!(error.to_string().contains("cut in the middle"), "{error}");
}

#[test]
fn a_silent_end_after_the_greeting_hints_at_sasl() {
    let error = ask(
        |_| (),
        |mut line| {
            line.next();
        },
    );
    let text = error.unwrap_err().to_string();
    assert!(text.contains("SASL_PLAINTEXT"), "{text}");
}

#[test]
fn strangers_are_recognised() {
    for (said, word) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "this port speaks TLS"),
        (b"\xff\xff\xff\xff....", "the port of a Kafka listener"),
    ] {
        let port = serve(move |_, mut line| {
            line.next();
            line.raw(said);
            line.next();
        });
        let cluster = cluster(config(&[port]));
        let error = run(&cluster, |cluster| async move {
            cluster.any(Purpose::General).await.err().unwrap()
        });
        let text = error.to_string();
        assert!(
            text.contains(word) && text.contains(&port.to_string()),
            "{text}"
        );
    }
}

#[test]
fn an_end_without_a_word_hints_at_tls() {
    let port = serve(|_, mut line| {
        line.next();
    });
    let cluster = cluster(config(&[port]));
    let error = run(&cluster, |cluster| async move {
        cluster.any(Purpose::General).await.err().unwrap()
    });
    let text = error.to_string();
    assert!(text.contains("security_protocol (SSL or"), "{text}");
}

#[test]
fn an_old_broker_is_asked_in_a_version_it_knows() {
    let port = serve(|_, mut line| {
        for newest in [4, 0] {
            let asked = line.next().unwrap();
            assert_eq!(asked.version, newest);
            let answer = ApiVersionsResponse {
                error_code: if newest > 0 {
                    ErrorCode::UnsupportedVersion.code()
                } else {
                    0
                },
                api_keys: vec![ApiVersionsResponseVersion {
                    api_key: ApiKey::Heartbeat as i16,
                    min_version: 0,
                    max_version: 1,
                }],
                ..Default::default()
            };
            let mut body = Vec::new();
            answer.encode(0, &mut body).unwrap();
            let frame = peer::framed(ApiKey::ApiVersions, 0, asked.id, &body);
            line.raw(&frame);
        }
        line.next();
    });
    let cluster = cluster(config(&[port]));
    run(&cluster, |cluster| async move {
        let connection = cluster.connection(-1, Purpose::General).await.unwrap();
        assert_eq!(connection.version(ApiKey::Heartbeat, 4).unwrap(), 1);
        assert_eq!(connection.version(ApiKey::Heartbeat, 0).unwrap(), 0);
        let text = connection.version(ApiKey::Fetch, 17).unwrap_err();
        assert!(
            text.to_string().contains("serves no version of Fetch"),
            "{text}"
        );
    });
}

#[test]
fn a_broker_that_closes_at_a_new_version_is_asked_in_the_oldest() {
    let port = serve(|number, mut line| {
        let asked = line.next().unwrap();
        if number == 0 {
            assert_eq!(asked.version, 4);
            return;
        }
        assert_eq!(asked.version, 0);
        let body = peer::api_versions(0);
        line.reply(&asked, &body);
        line.next();
    });
    let cluster = cluster(config(&[port]));
    run(&cluster, |cluster| async move {
        assert!(cluster
            .connection(-1, Purpose::General)
            .await
            .unwrap()
            .is_open());
    });
}

#[test]
fn a_broker_that_does_not_speak_is_given_up_in_time() {
    let port = serve_all(|_, mut line| {
        line.next();
        line.next();
    });
    let mut config = config(&[port]);
    config.connect_timeout = Duration::from_millis(200);
    let cluster = cluster(config);
    let error = run(&cluster, |cluster| async move {
        cluster.any(Purpose::General).await.err().unwrap()
    });
    let text = error.to_string();
    assert!(
        text.contains("socket_connection_setup_timeout_ms") && text.contains("API versions"),
        "{text}"
    );
}

#[test]
fn an_unused_connection_is_closed_and_opened_again() {
    let port = serve_all(|_, mut line| {
        line.greet();
        while let Some(asked) = line.next() {
            line.reply(&asked, b"");
        }
    });
    let mut config = config(&[port]);
    config.connections_max_idle = Duration::from_millis(50);
    let cluster = cluster(config);
    run(&cluster, |cluster| async move {
        let first = cluster.connection(-1, Purpose::General).await.unwrap();
        first.send(request(b"")).await.unwrap();
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if !first.is_open() {
                break;
            }
        }
        assert!(!first.is_open());
        let again = cluster.connection(-1, Purpose::General).await.unwrap();
        again.send(request(b"")).await.unwrap();
    });
}

#[test]
fn nobody_listens() {
    let ports = [dead_port(), dead_port()];
    let cluster = cluster(config(&ports));
    let error = run(&cluster, |cluster| async move {
        cluster.any(Purpose::General).await.err().unwrap()
    });
    let text = error.to_string();
    for port in ports {
        assert!(
            text.contains(&format!("127.0.0.1:{port}: connection refused")),
            "{text}"
        );
    }
}

#[test]
fn a_name_that_is_none() {
    let mut config = config(&[]);
    config.bootstrap = vec![("nowhere.invalid".to_owned(), 9092)];
    let cluster = cluster(config);
    let error = run(&cluster, |cluster| async move {
        cluster.any(Purpose::General).await.err().unwrap()
    });
    let text = error.to_string();
    assert!(text.contains("the name cannot be resolved"), "{text}");
}
