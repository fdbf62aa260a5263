//! A hundred thousand crashes on a simulated disk, and the proof that the lab would notice if the
//! engine broke its promises: five bugs that can be switched on are each caught.
//!
//! A failure names its seed and the command that runs it alone and tells what happened.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod lab;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;

use lab::life::{Life, Stats};
use mqlog_log::Bugs;

/// Ends of one history.
const ENDS: u64 = 8;

fn run(seed: u64, bugs: Bugs, trace: bool) -> Result<Stats, String> {
    let history = || Life::new(seed, bugs, trace).run(ENDS);
    catch_unwind(AssertUnwindSafe(history)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

/// Failures after which a run gives up.
const ENOUGH: usize = 10;

/// Runs histories until so many crashes have happened.
fn explore(first: u64, crashes: u64) -> Stats {
    let last = first + crashes.div_ceil(ENDS);
    let next = AtomicU64::new(first);
    let done = Mutex::new((Stats::default(), Vec::new()));
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= last || done.lock().unwrap().1.len() >= ENOUGH {
            return;
        }
        match run(seed, Bugs::default(), false) {
            Ok(stats) => done.lock().unwrap().0.add(&stats),
            Err(error) => done.lock().unwrap().1.push(format!(
                "seed {seed}: {error}\n  MQLOG_LAB_SEED={seed} cargo test -p mqlog-log --test \
                 crash_lab one_seed -- --ignored --nocapture"
            )),
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let (sum, failures) = done.into_inner().unwrap();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    eprintln!("crash lab, seeds {first}..{last}: {sum:?}");
    sum
}

#[test]
fn a_hundred_thousand_crashes_lose_nothing() {
    let sum = explore(0, 100_000);
    assert!(sum.crashes >= 100_000);
    let seen = [
        sum.recoveries,
        sum.clean_starts,
        sum.torn_recoveries,
        sum.duplicates,
        sum.errors,
        sum.cuts,
        sum.holes,
        sum.rolls,
        sum.truncations,
        sum.deletions,
        sum.checkpoints,
        sum.damages,
    ];
    assert!(
        seen.iter().all(|count| *count > 100),
        "the lab has not seen enough: {sum:?}"
    );
}

#[test]
#[ignore = "runs the seed that MQLOG_LAB_SEED names"]
fn one_seed() {
    let seed = std::env::var("MQLOG_LAB_SEED").map_or(0, |seed| seed.parse().unwrap());
    let stats = run(seed, Bugs::default(), true);
    eprintln!("{stats:?}");
    assert!(stats.is_ok());
}

#[test]
#[ignore = "hours: run by make test-long"]
fn five_million_crashes_lose_nothing() {
    explore(1_000_000, 5_000_000);
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 0..50 {
        let history = || {
            let mut life = Life::new(seed, Bugs::default(), false);
            let stats = life.run(ENDS).map(|stats| format!("{stats:?}"));
            (stats, life.disk.calls(), life.serial)
        };
        assert_eq!(history(), history(), "seed {seed}");
    }
}

/// Seeds within which a bug must be caught.
const BOUND: u64 = 2_000;

/// Switches a bug on and looks for a seed at which the lab says what it must lead to.
fn caught(name: &str, symptom: &str) {
    let bugs = Bugs::named(name).unwrap();
    let mut others = Vec::new();
    for seed in 0..BOUND {
        match run(seed, bugs, false) {
            Err(why) if why.contains(symptom) => {
                eprintln!("{name}: seed {seed}: {why}");
                return;
            }
            Err(why) => others.push(format!("seed {seed}: {why}")),
            Ok(_) => {}
        }
    }
    panic!("{name} was not noticed through {BOUND} histories; instead {others:#?}");
}

#[test]
fn a_directory_that_is_not_flushed_is_noticed() {
    caught("no_dir_fsync", "is missing");
}

#[test]
fn an_answer_before_the_flush_is_noticed() {
    caught("ack_before_flush", "is lost");
}

#[test]
fn a_checkpoint_before_the_flush_is_noticed() {
    caught("checkpoint_before_flush", "is lost");
}

#[test]
fn an_index_that_is_believed_is_noticed() {
    caught("trust_index", "a fetch at");
}

#[test]
fn an_offset_given_twice_is_noticed() {
    caught("reuse_offsets", "given again");
}
