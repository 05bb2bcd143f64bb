//! One direction of a tunnel: bytes from one end to the other, and how that stops where the bytes are frames.
//!
//! Nothing is read that could not be passed on, and what is held for an end that does not take it is one read at most; a
//! direction at rest holds no buffer. Told to say something, a direction finishes the frame under way, says it, and
//! from then on only listens for the answer: no more of what its sender says is passed on.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::gateway::frames::Frames;

/// How much is read at once.
const READ_BYTES: usize = 8 * 1024;

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Direction {
    /// Where in its frames it is, by what was passed on; `None` where there are none.
    frames: Option<Frames>,
    /// Read, and from `sent` on not passed on yet.
    held: Vec<u8>,
    sent: usize,
    unflushed: bool,
    phase: Phase,
    /// The frames of the sender from where it is no longer passed on.
    unheard: Frames,
    moved: bool,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Flowing,
    /// The sender has closed; the receiver is yet to be told.
    Ending,
    /// The frame under way is to be finished before this is said.
    Finishing(Vec<u8>),
    /// It is being said.
    Speaking,
    /// The answer is waited for.
    Listening,
    Over,
}

impl Direction {
    /// A direction of frames, or of mere bytes.
    pub(super) fn new(framed: bool) -> Self {
        Self { frames: framed.then(Frames::default), ..Self::default() }
    }

    /// Whether anything came since this was asked last.
    pub(super) const fn has_moved(&mut self) -> bool {
        std::mem::replace(&mut self.moved, false)
    }

    /// Whether it has said what it was told to, or has nothing to say any more.
    pub(super) const fn has_spoken(&self) -> bool {
        matches!(self.phase, Phase::Listening | Phase::Over)
    }

    /// Says this last frame to the receiver when the one under way is finished, and passes no other on. Where bytes have no
    /// frames nothing can be said, and it is over.
    pub(super) fn say(&mut self, last: Vec<u8>) {
        if !matches!(self.phase, Phase::Flowing) {
            return;
        }
        let Some(frames) = self.frames else { return self.phase = Phase::Over };
        let held = self.held.get(self.sent..).unwrap_or_default();
        let under_way = frames.under_way(held);
        self.unheard.advance(held.get(under_way..).unwrap_or_default());
        self.held.truncate(self.sent + under_way);
        self.phase = Phase::Finishing(last);
    }

    /// Gives up what it is yet to say.
    pub(super) fn fall_silent(&mut self) {
        if !self.has_spoken() {
            self.phase = Phase::Over;
        }
    }

    /// Passes on what comes; ready when there will be no more, or the answer to what was said has come.
    pub(super) fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            ready!(self.poll_held(cx, to))?;
            match &mut self.phase {
                Phase::Flowing => ready!(self.poll_read(cx, from, to))?,
                Phase::Finishing(last) => match self.frames.filter(Frames::is_between) {
                    Some(frames) => {
                        // Nothing follows a Close frame of their own.
                        self.held = if frames.has_closed() { Vec::new() } else { std::mem::take(last) };
                        self.phase = Phase::Speaking;
                    }
                    None => ready!(self.poll_read(cx, from, to))?,
                },
                Phase::Speaking => {
                    ready!(self.poll_flush(cx, to))?;
                    self.phase = Phase::Listening;
                }
                Phase::Listening if self.unheard.has_closed() => self.phase = Phase::Over,
                Phase::Listening => ready!(self.poll_read(cx, from, to))?,
                Phase::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.phase = Phase::Over;
                }
                Phase::Over => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Passes on what is held.
    fn poll_held(&mut self, cx: &mut Context<'_>, to: &mut (impl AsyncWrite + Unpin)) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.held.get(self.sent..) {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, rest))?;
            self.note_written(written)?;
        }
        if self.sent > 0 {
            // The memory goes back: nearly always there is nothing to hold.
            (self.held, self.sent) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    fn note_written(&mut self, written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let passed = self.held.get(self.sent..self.sent + written).unwrap_or_default();
        if let Some(frames) = &mut self.frames {
            frames.advance(passed);
        }
        self.sent += written;
        self.unflushed = true;
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, to: &mut (impl AsyncWrite + Unpin)) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once, and takes what came as the phase demands.
    fn poll_read<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut space = [MaybeUninit::uninit(); READ_BYTES];
        let mut came = ReadBuf::uninit(&mut space);
        if Pin::new(from).poll_read(cx, &mut came)?.is_pending() {
            // Nothing more for now: what was passed on is not to be kept waiting for it.
            ready!(self.poll_flush(cx, to))?;
            return Poll::Pending;
        }
        self.take(came.filled());
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, came: &[u8]) {
        self.moved = true;
        match &self.phase {
            Phase::Flowing if came.is_empty() => self.phase = Phase::Ending,
            Phase::Flowing => self.held = came.to_vec(),
            _ if came.is_empty() => self.phase = Phase::Over,
            Phase::Finishing(_) => {
                let under_way = self.frames.map_or(0, |frames| frames.under_way(came));
                let (passed, unheard) = came.split_at(under_way.min(came.len()));
                self.held = passed.to_vec();
                self.unheard.advance(unheard);
            }
            _ => self.unheard.advance(came),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::gateway::frames;

    /// A direction between two pipes: where to speak in, where it comes out, and the direction's own ends.
    struct Rig {
        speaker: DuplexStream,
        hearer: DuplexStream,
        from: DuplexStream,
        to: DuplexStream,
        direction: Direction,
    }

    fn rig(framed: bool) -> Rig {
        let ((speaker, from), (to, hearer)) = (duplex(1 << 16), duplex(64));
        Rig { speaker, hearer, from, to, direction: Direction::new(framed) }
    }

    impl Rig {
        /// Drives it once.
        async fn turn(&mut self) -> Poll<io::Result<()>> {
            let Self { from, to, direction, .. } = self;
            std::future::poll_fn(|cx| Poll::Ready(direction.poll(cx, from, to))).await
        }

        /// Takes what comes out until it is over.
        async fn heard(mut self) -> Vec<u8> {
            let Self { mut hearer, mut from, mut to, mut direction, .. } = self;
            let driving = async move {
                let _ = std::future::poll_fn(|cx| direction.poll(cx, &mut from, &mut to)).await;
            };
            let mut heard = Vec::new();
            let (_, read) = tokio::join!(driving, hearer.read_to_end(&mut heard));
            read.unwrap();
            self.speaker.shutdown().await.unwrap();
            heard
        }
    }

    fn text(length: usize) -> Vec<u8> {
        let mut frame = vec![0x81, 126];
        frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        frame.extend(vec![b'x'; length]);
        frame
    }

    #[tokio::test]
    async fn bytes_pass_unchanged_and_the_end_too() {
        for framed in [true, false] {
            let mut rig = rig(framed);
            let sent: Vec<u8> = (0..20_000_u32).map(|n| (n % 251) as u8).collect();
            rig.speaker.write_all(&sent).await.unwrap();
            rig.speaker.shutdown().await.unwrap();
            assert_eq!(rig.heard().await, sent);
        }
    }

    #[tokio::test]
    async fn the_frame_under_way_is_finished_and_the_last_word_follows_it() {
        let mut rig = rig(true);
        let (first, second) = (text(1000), text(300));
        rig.speaker.write_all(&first[..900]).await.unwrap();
        assert!(rig.turn().await.is_pending());
        let last = frames::close(1008, "", None);
        rig.direction.say(last.clone());
        rig.speaker
            .write_all(&[&first[900..], &second, &frames::close(1008, "", Some([1; 4]))].concat())
            .await
            .unwrap();
        assert_eq!(rig.heard().await, [first, last].concat());
    }

    #[tokio::test]
    async fn what_is_held_beyond_the_frame_under_way_is_not_passed_on() {
        let mut rig = rig(true);
        // The receiver takes 64 bytes: the rest of both frames is held.
        let frames_sent = [text(200), text(200)].concat();
        rig.speaker.write_all(&frames_sent).await.unwrap();
        assert!(rig.turn().await.is_pending());
        let last = frames::close(1001, "", None);
        rig.direction.say(last.clone());
        rig.speaker.write_all(&frames::close(1001, "", None)).await.unwrap();
        assert_eq!(rig.heard().await, [text(200), last].concat());
    }

    #[tokio::test]
    async fn nothing_is_said_after_their_own_close() {
        let mut rig = rig(true);
        let own = frames::close(1000, "bye", None);
        rig.speaker.write_all(&own).await.unwrap();
        assert!(rig.turn().await.is_pending());
        rig.direction.say(frames::close(1008, "", None));
        rig.speaker.shutdown().await.unwrap();
        assert_eq!(rig.heard().await, own);
    }

    #[tokio::test]
    async fn mere_bytes_have_no_last_word() {
        let mut rig = rig(false);
        rig.speaker.write_all(b"abc").await.unwrap();
        assert!(rig.turn().await.is_pending());
        rig.direction.say(frames::close(1008, "", None));
        assert!(rig.turn().await.is_ready());
        assert_eq!(rig.heard().await, b"abc");
    }

    #[tokio::test]
    async fn a_direction_at_rest_holds_nothing() {
        let mut rig = rig(true);
        rig.speaker.write_all(&text(10)).await.unwrap();
        assert!(rig.turn().await.is_pending());
        assert_eq!(rig.direction.held.capacity(), 0);
        assert!(rig.direction.has_moved() && !rig.direction.has_moved());
    }
}
