//! Why a connection ends.

use crate::stats::Stats;

/// The causes, each counted by its own counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    ByPeer,
    Io,
    Idle,
    FrameLength,
    Tls,
    Http,
    Malformed,
    Unsupported,
    Acks0Error,
    NotAdmitted,
    ByControl,
    Shutdown,
    Killed,
}

impl Close {
    pub(crate) fn count(self, stats: &Stats) {
        let counter = match self {
            Close::ByPeer => &stats.closed_by_peer,
            Close::Io => &stats.closed_io_error,
            Close::Idle => &stats.closed_idle,
            Close::FrameLength => &stats.closed_frame_length,
            Close::Tls => &stats.closed_tls,
            Close::Http => &stats.closed_http,
            Close::Malformed => &stats.closed_malformed,
            Close::Unsupported => &stats.closed_unsupported,
            Close::Acks0Error => &stats.closed_acks0_error,
            Close::NotAdmitted => &stats.closed_not_admitted,
            Close::ByControl => &stats.closed_by_control,
            Close::Shutdown | Close::Killed => return,
        };
        counter.add(1);
    }
}

/// What a frame of an impossible length really is, if its first bytes tell.
pub(crate) fn foreign(first: &[u8]) -> Close {
    const METHODS: [&[u8]; 9] = [
        b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"OPTI", b"PATC", b"CONN", b"PRI ",
    ];
    match first {
        [0x16, 0x03, ..] => Close::Tls,
        _ if METHODS.iter().any(|method| first.starts_with(method)) => Close::Http,
        _ => Close::FrameLength,
    }
}
