//! An upstream may answer before it has read the whole request, and close. What we still write then fails, but the answer
//! is there to be read: it counts, not the failed write (RFC 9112 §9.5).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose writes, once one has failed, go nowhere; reading tells how it ends: with an answer, or with an error.
#[derive(Debug)]
pub(super) struct Early<T> {
    inner: T,
    deaf: bool,
}

impl<T> Early<T> {
    pub(super) const fn new(inner: T) -> Self {
        Self { inner, deaf: false }
    }

    /// Takes a failed write for a done one, from now on.
    fn settle(&mut self, written: io::Result<usize>, length: usize) -> io::Result<usize> {
        self.deaf = self.deaf || written.is_err();
        Ok(written.unwrap_or(length))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Early<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Early<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes));
        Poll::Ready(self.settle(written, bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = pieces.iter().map(|piece| piece.len()).sum();
        if self.deaf {
            return Poll::Ready(Ok(length));
        }
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, pieces));
        Poll::Ready(self.settle(written, length))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deaf {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut self.inner).poll_flush(cx));
        self.deaf = flushed.is_err();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
