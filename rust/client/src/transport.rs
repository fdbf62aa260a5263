//! The bytes of a connection, plain or TLS: one half writes at once, the other is polled.
//!
//! There is no task and no copy between a caller and the socket: whoever has a request writes it
//! if the socket takes it, and large answers are read straight into their own buffer.

use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use rustls::ClientConnection;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::TcpStream;

use crate::io::lock;

type Tls = Arc<Mutex<ClientConnection>>;

/// Splits a stream whose handshake, if it has one, is done.
pub(crate) fn split(stream: TcpStream, tls: Option<ClientConnection>) -> (Source, Arc<Sink>) {
    let (reader, writer) = stream.into_split();
    let tls = tls.map(|tls| Arc::new(Mutex::new(tls)));
    let sink = Arc::new(Sink {
        writer,
        tls: tls.clone(),
    });
    let sealed = tls.map(|tls| Sealed {
        tls,
        input: vec![0; INPUT].into_boxed_slice(),
        start: 0,
        end: 0,
    });
    (
        Source {
            reader,
            sealed,
            sink: sink.clone(),
            least: 1,
        },
        sink,
    )
}

/// Where bytes go out.
#[derive(Debug)]
pub(crate) struct Sink {
    writer: OwnedWriteHalf,
    tls: Option<Tls>,
}

impl Sink {
    /// Takes what it can without waiting; `WouldBlock` if that is nothing.
    pub(crate) fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(tls) = &self.tls else {
            return self.writer.try_write_vectored(pieces);
        };
        let mut tls = lock(tls);
        self.drain(&mut tls)?;
        let taken = tls.writer().write_vectored(pieces)?;
        match self.drain(&mut tls) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    /// Writes what was taken and not yet written (TLS only); `WouldBlock` if some is left.
    pub(crate) fn try_flush(&self) -> io::Result<()> {
        match &self.tls {
            Some(tls) => self.drain(&mut lock(tls)),
            None => Ok(()),
        }
    }

    /// Whether all that was taken is written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !lock(tls).wants_write())
    }

    /// Waits until the socket may take something.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.writer.writable().await
    }

    fn drain(&self, tls: &mut ClientConnection) -> io::Result<()> {
        while tls.wants_write() {
            if tls.write_tls(&mut Raw(&self.writer))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}

struct Raw<'a>(&'a OwnedWriteHalf);

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where bytes come in.
#[derive(Debug)]
pub(crate) struct Source {
    reader: OwnedReadHalf,
    sealed: Option<Sealed>,
    sink: Arc<Sink>,
    /// What is worth a wake-up, as the system was told last.
    least: usize,
}

/// Ciphertext on its way to rustls.
#[derive(Debug)]
struct Sealed {
    tls: Tls,
    input: Box<[u8]>,
    start: usize,
    end: usize,
}

/// Two TLS records, so that a small answer takes one read of the socket.
const INPUT: usize = 32 * 1024;

impl Source {
    /// So many bytes will come, and fewer are not worth a wake-up. The end of the stream always is.
    pub(crate) fn wait_for(&mut self, least: usize) {
        // Of TLS only whole records are of use.
        if least != self.least && self.sealed.is_none() {
            self.least = least;
            os::wait_for(self.reader.as_ref(), least);
        }
    }

    /// Reads some bytes; 0 at the end.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.sealed {
            None => poll_raw(&mut self.reader, cx, buffer),
            Some(sealed) => sealed.poll_read(&mut self.reader, &self.sink, cx, buffer),
        }
    }
}

#[cfg(target_os = "linux")]
mod os {
    use std::os::fd::AsRawFd;

    use tokio::net::TcpStream;

    /// The kernel takes no more than fits its buffer, and makes that larger if it may.
    pub(super) fn wait_for(socket: &TcpStream, least: usize) {
        let least = libc::c_int::try_from(least).unwrap_or(libc::c_int::MAX);
        let size = size_of_val(&least) as libc::socklen_t;
        let (level, name) = (libc::SOL_SOCKET, libc::SO_RCVLOWAT);
        // SAFETY: the kernel reads one number of this frame. If it refuses, nothing is lost but
        // time.
        unsafe {
            let value = (&raw const least).cast();
            libc::setsockopt(socket.as_raw_fd(), level, name, value, size);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod os {
    pub(super) fn wait_for(_: &tokio::net::TcpStream, _: usize) {}
}

fn poll_raw(
    reader: &mut OwnedReadHalf,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut into = ReadBuf::new(buffer);
    Pin::new(reader)
        .poll_read(cx, &mut into)
        .map_ok(|()| into.filled().len())
}

impl Sealed {
    fn poll_read(
        &mut self,
        reader: &mut OwnedReadHalf,
        sink: &Sink,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut tls = lock(&self.tls);
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
            if self.start < self.end {
                let mut rest = self.input.get(self.start..self.end).unwrap_or_default();
                self.start += tls.read_tls(&mut rest)?;
                let state = tls.process_new_packets();
                // An answer to a key update, or an alert that says what was wrong.
                let flushed = sink.drain(&mut tls);
                state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                match flushed {
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                        return Poll::Ready(Err(error))
                    }
                    _ => continue,
                }
            }
            drop(tls);
            self.start = 0;
            self.end = 0;
            match poll_raw(reader, cx, &mut self.input) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(0)),
                Poll::Ready(Ok(count)) => self.end = count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
